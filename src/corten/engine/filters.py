"""Which containers a list shows: Docker's filters, each judged for one record. Looks up, changes nothing."""

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from corten.base.errors import Error, InvalidArgument
from corten.engine.records import ContainerRecord

if TYPE_CHECKING:
    from corten.engine.containers import Containers

STATES = ("created", "running", "paused", "restarting", "removing", "exited", "dead")
HEALTH = ("none", "starting", "healthy", "unhealthy")
_KNOWN = frozenset((
    "ancestor", "before", "expose", "exited", "health", "id", "is-task", "isolation", "label", "name", "network",
    "publish", "since", "status", "volume",
))

Test = Callable[[ContainerRecord], bool]


class Selection:
    """Filters made ready once for a whole list. Raises InvalidArgument, NotFound (before, since)."""

    def __init__(self, containers: "Containers", filters: dict[str, list[str]]) -> None:
        self._containers = containers
        for name in filters:
            if name not in _KNOWN:
                raise InvalidArgument(f"invalid filter '{name}'")
        self.wants_stopped = any(filters.get(name) for name in ("status", "exited", "before", "since"))
        self._tests: list[Test] = [self._test(name, values) for name, values in filters.items() if values]

    def holds(self, record: ContainerRecord) -> bool:
        """Whether the record passes all of them."""
        return all(test(record) for test in self._tests)

    def _test(self, name: str, values: list[str]) -> Test:
        maker: Callable[[list[str]], Test] = getattr(self, f"_by_{name.replace('-', '_')}")
        return maker(values)

    def _by_id(self, values: list[str]) -> Test:
        return lambda record: any(record.id.startswith(value) or _search(value, record.id) for value in values)

    def _by_name(self, values: list[str]) -> Test:
        return lambda record: any(
            _search(value.removeprefix("^/"), record.name) or _search(value, f"/{record.name}") for value in values)

    def _by_label(self, values: list[str]) -> Test:
        pairs = [value.partition("=") for value in values]

        def test(record: ContainerRecord) -> bool:
            labels = record.config.labels or {}
            return all(key in labels and (not given or labels[key] == value) for key, given, value in pairs)

        return test

    def _by_status(self, values: list[str]) -> Test:
        for value in values:
            if value not in STATES:
                raise InvalidArgument(f"invalid filter 'status={value}': invalid value for state ({value}): must be "
                                      "one of created, running, paused, restarting, removing, exited, dead")
        return lambda record: record.state.status in values

    def _by_exited(self, values: list[str]) -> Test:
        codes = []
        for value in values:
            if not re.fullmatch(r"-?[0-9]{1,9}", value, re.ASCII):
                raise InvalidArgument(f"invalid filter 'exited={value}': strconv.Atoi: parsing "
                                      f'"{value}": invalid syntax')
            codes.append(int(value))
        return lambda record: bool(record.state.started_ns) and not record.running and record.state.exit_code in codes

    def _by_health(self, values: list[str]) -> Test:
        for value in values:
            if value not in HEALTH:
                raise InvalidArgument(f"invalid filter 'health={value}'")
        return lambda record: (record.state.health.status if record.state.health else "none") in values

    def _by_before(self, values: list[str]) -> Test:
        moment = min(self._containers.get(value).created_ns for value in values)
        return lambda record: record.created_ns < moment

    def _by_since(self, values: list[str]) -> Test:
        moment = max(self._containers.get(value).created_ns for value in values)
        return lambda record: record.created_ns > moment

    def _by_ancestor(self, values: list[str]) -> Test:
        wanted: set[str] = set()
        for value in values:
            wanted.add(value)
            try:
                wanted |= self._containers.engine.images.descendants(value)
            except (Error, AttributeError):
                continue
        return lambda record: record.image_id in wanted or record.image in wanted

    def _by_network(self, values: list[str]) -> Test:
        return lambda record: any(
            value == name or (endpoint.network_id and endpoint.network_id.startswith(value))
            for name, endpoint in record.networking.items() for value in values)

    def _by_volume(self, values: list[str]) -> Test:
        return lambda record: any(
            value in (point.name, point.destination, point.source) for point in record.mounts for value in values)

    def _by_expose(self, values: list[str]) -> Test:
        wanted = _ports(values)
        return lambda record: bool(wanted & set(record.config.exposed_ports or ()))

    def _by_publish(self, values: list[str]) -> Test:
        wanted = _ports(values)
        return lambda record: bool(wanted & {
            *record.host_config.port_bindings,
            *(port for port, bindings in record.network_settings.ports.items() if bindings and record.running)})

    def _by_is_task(self, values: list[str]) -> Test:
        return lambda record: values[-1] not in ("1", "true")

    def _by_isolation(self, values: list[str]) -> Test:
        return lambda record: "default" in values


def _search(pattern: str, text: str) -> bool:
    try:
        return bool(re.search(pattern, text))
    except re.error:
        return pattern in text


def _ports(values: list[str]) -> set[str]:
    """`80`, `80/udp`, `80-85/tcp` as whole ports."""
    found: set[str] = set()
    for value in values:
        parts = re.fullmatch(r"([0-9]{1,5})(?:-([0-9]{1,5}))?(?:/(tcp|udp|sctp))?", value, re.ASCII)
        if not parts or int(parts[2] or parts[1]) > 65535:
            raise InvalidArgument(f"invalid port: {value!r}")
        found.update(f"{number}/{parts[3] or 'tcp'}" for number in range(int(parts[1]), int(parts[2] or parts[1]) + 1))
    return found
