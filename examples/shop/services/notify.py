"""Notification and communication: has no route at the gateway, only services call it."""

from service import route

NOTES = []


@route("POST", "/notes")
def send(asked):
    """Tell somebody something."""
    NOTES.append({"to": asked.body["to"], "text": asked.body["text"]})
    print(f"to {asked.body['to']}: {asked.body['text']}", flush=True)
    return 201, {"note": len(NOTES)}


@route("GET", "/notes")
def sent(asked):
    """All that was sent."""
    return 200, NOTES
