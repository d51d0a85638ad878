"""What happened, told to whoever listens. A slow listener is dropped, nobody waits.

Shape and filters: Docker's GET /events (API 1.51: with `status`, `id` and `from` beside the newer members).
"""

import asyncio
import weakref
from collections import deque
from typing import Any

from corten.base.errors import InvalidArgument
from corten.base.units import now_ns

KEPT = 1024          # events for --since
LISTENER_LIMIT = 8192  # events a listener may be behind before it is dropped
_AT_ONCE = 64          # listeners woken in one turn of the loop: between two turns others are served

_KNOWN_FILTERS = frozenset((
    "config", "container", "daemon", "event", "image", "label", "network", "node", "plugin", "scope", "secret",
    "service", "type", "volume",
))
# these actions carry details after a colon; a filter names the part before it
_PREFIXED = ("exec_create", "exec_start", "health_status")


class Events:
    """The log of one daemon."""

    def __init__(self) -> None:
        self._kept: deque[dict[str, Any]] = deque(maxlen=KEPT)
        self._listeners: weakref.WeakSet[Subscription] = weakref.WeakSet()
        self._asleep: deque[Subscription] = deque()  # have something to read, and are to be told so

    def publish(
        self, type: str, action: str, actor_id: str, attributes: dict[str, str], scope: str = "local",
        time_ns: int = 0,
    ) -> None:
        """Tell all listeners; never blocks. `time_ns` is now unless given."""
        time_ns = time_ns or now_ns()
        event: dict[str, Any] = {}
        if type in ("container", "image"):
            event = {"status": action, "id": actor_id}
            if "image" in attributes:
                event["from"] = attributes["image"]
        event.update({
            "Type": type, "Action": action, "Actor": {"ID": actor_id, "Attributes": attributes},
            "scope": scope, "time": time_ns // 1_000_000_000, "timeNano": time_ns,
        })
        self._kept.append(event)
        idle = not self._asleep
        self._asleep.extend(listener for listener in list(self._listeners) if listener.offer(event))
        if idle and self._asleep:
            self._wake_some()

    def _wake_some(self) -> None:
        for _ in range(min(_AT_ONCE, len(self._asleep))):
            self._asleep.popleft().wake()
        if self._asleep:
            asyncio.get_running_loop().call_soon(self._wake_some)

    def subscribe(
        self, since_ns: int = 0, until_ns: int = 0, filters: dict[str, list[str]] | None = None
    ) -> "Subscription":
        """Events from `since_ns` (0: from now) until `until_ns` (0: for ever). Raises InvalidArgument (filter)."""
        for name in filters or {}:
            if name not in _KNOWN_FILTERS:
                raise InvalidArgument(f"invalid filter '{name}'")
        past = [event for event in self._kept if event["timeNano"] >= since_ns] if since_ns else []
        subscription = Subscription(self._listeners, past, until_ns, filters or {})
        if not until_ns or until_ns > now_ns():
            self._listeners.add(subscription)
        return subscription


class Subscription:
    """An asynchronous iterator of events; forgotten by the log when its reader drops it."""

    def __init__(
        self, log: "weakref.WeakSet[Subscription]", past: list[dict[str, Any]], until_ns: int,
        filters: dict[str, list[str]],
    ) -> None:
        self._log = log
        self._queue: deque[dict[str, Any]] = deque()
        self._wake = asyncio.Event()
        self._until_ns = until_ns
        self._filters = filters
        self._lost = False
        self._told = False  # that something is queued
        for event in past:
            self.offer(event)
        self._told = False

    def offer(self, event: dict[str, Any]) -> bool:
        """Called by the log: queue the event if it is wanted. Whether `wake` is due, once for all that is queued."""
        if self._lost or (self._until_ns and event["timeNano"] > self._until_ns):
            return False
        if not matches(event, self._filters):
            return False
        if len(self._queue) >= LISTENER_LIMIT:
            self._lost = True
        else:
            self._queue.append(event)
        told, self._told = self._told, True
        return not told

    def wake(self) -> None:
        """There is something to read."""
        self._told = False
        self._wake.set()

    def __aiter__(self) -> "Subscription":
        return self

    async def aclose(self) -> None:
        """As `close`."""
        self.close()

    def close(self) -> None:
        """Nobody reads any more."""
        self._lost = True
        self._queue.clear()
        self._log.discard(self)

    async def __anext__(self) -> dict[str, Any]:
        while not self._queue:
            if self._lost:
                raise StopAsyncIteration
            self._wake.clear()
            left = None
            if self._until_ns:
                left = (self._until_ns - now_ns()) / 1e9
                if left <= 0:
                    raise StopAsyncIteration
            try:
                await asyncio.wait_for(self._wake.wait(), left)
            except TimeoutError:
                continue
        return self._queue.popleft()


def matches(event: dict[str, Any], filters: dict[str, list[str]]) -> bool:
    """Whether an event passes Docker's filters: values of one filter are alternatives, filters must all hold."""
    return all(not values or _one_holds(event, name, values) for name, values in filters.items())


def _one_holds(event: dict[str, Any], name: str, values: list[str]) -> bool:
    actor: str = event["Actor"]["ID"]
    attributes: dict[str, str] = event["Actor"]["Attributes"]
    if name == "event":
        action: str = event["Action"]
        head = action.partition(":")[0]
        return action in values or (head in _PREFIXED and head in values)
    if name == "type":
        return event["Type"] in values
    if name == "scope":
        return event["scope"] in values
    if name == "label":
        return all(_has_label(attributes, wanted) for wanted in values)
    if name == "image":
        names = {actor, attributes.get("name", ""), attributes.get("image", "")} if event["Type"] == "image" else {
            attributes.get("image", "")}
        return any(value in names or value in {_untagged(one) for one in names} for value in values)
    if event["Type"] != name:
        return False
    return any(actor.startswith(value) or attributes.get("name") == value for value in values)


def _has_label(attributes: dict[str, str], wanted: str) -> bool:
    key, separator, value = wanted.partition("=")
    return key in attributes and (not separator or attributes[key] == value)


def _untagged(reference: str) -> str:
    head, separator, tail = reference.rpartition(":")
    return head if separator and "/" not in tail else reference
