"""`corten events`: what happens in the engine, as it happens."""

import sys

from corten.base import jsonio
from corten.cli import filters
from corten.cli.args import Values
from corten.cli.errors import Failure
from corten.cli.logs import moment
from corten.cli.main import Cli


def _time(message: dict[str, object]) -> str:
    import time

    nano = message.get("timeNano")
    nano = nano if isinstance(nano, int) else 0
    local = time.localtime(nano // 10**9)
    offset = time.strftime("%z", local)
    zone = "Z" if offset in ("+0000", "") else f"{offset[:3]}:{offset[3:]}"
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', local)}.{nano % 10**9:09d}{zone}"


def line_of(message: dict[str, object]) -> str:
    """An event as docker prints it: time, type, action, id, attributes in brackets."""
    actor = message.get("Actor")
    actor = actor if isinstance(actor, dict) else {}
    text = f"{_time(message)} {message.get('Type', '')} {message.get('Action', '')} {actor.get('ID', '')}"
    attributes = actor.get("Attributes") or {}
    if attributes:
        text += " (" + ", ".join(f"{key}={attributes[key]}" for key in sorted(attributes)) + ")"
    return text


def _record(message: dict[str, object]) -> object:
    from corten.cli.template_values import Record, TypedMap

    actor = message.get("Actor")
    actor = actor if isinstance(actor, dict) else {}
    attributes: dict[str, object] = actor.get("Attributes") or {}
    return Record("events.Message", {
        "Status": message.get("status", ""), "ID": message.get("id", ""), "From": message.get("from", ""),
        "Type": message.get("Type", ""), "Action": message.get("Action", ""),
        "Actor": Record("events.Actor", {
            "ID": actor.get("ID", ""), "Attributes": TypedMap(attributes, "", "map[string]string"),
        }, actor),
        "Scope": message.get("scope", ""), "Time": message.get("time", 0), "TimeNano": message.get("timeNano", 0),
    }, message)


def events(cli: Cli, values: Values) -> None:
    """`corten events`. GET /events."""
    form = values.text("format")
    template = None
    if form not in ("", "json"):
        from corten.cli.template import TemplateError
        from corten.cli.template_run import Template

        try:
            template = Template(form.replace("\\t", "\t").replace("\\n", "\n"))
        except TemplateError as error:
            raise Failure(f"Error parsing format: {error.text}", 64) from None
    query = []
    for name in ("since", "until"):
        text = values.text(name)
        if text:
            query.append((name, text if text.isdigit() else moment(text, "")))
    reply = cli.client.open("GET", "/events", query + filters.query(values.many("filter")))
    for message in reply.objects():
        if template:
            text = template.render(_record(message))
        else:
            text = jsonio.dumps(message) if form == "json" else line_of(message)
        cli.out(text)
        sys.stdout.flush()
