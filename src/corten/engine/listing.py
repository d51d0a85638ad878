"""Docker's list of containers. GET /containers/json. What does not change between two calls is kept ready."""

import re
from typing import TYPE_CHECKING, Any

from corten.base.units import human_duration, now_ns
from corten.engine import links
from corten.engine.filters import Selection
from corten.engine.image_platforms import manifest_descriptor
from corten.engine.inspect import mount_points
from corten.engine.records import ContainerRecord

if TYPE_CHECKING:
    from corten.engine.containers import Containers


class Listing:
    """Rows of the list, one a container, made anew only after a change of its record."""

    def __init__(self, containers: "Containers") -> None:
        self._containers = containers
        self._rows: dict[str, dict[str, Any]] = {}
        self._order: list[ContainerRecord] | None = None

    def changed(self, container_id: str) -> None:
        """A record has been written: its row is old."""
        self._rows.pop(container_id, None)

    def members_changed(self) -> None:
        """A container has come or gone."""
        self._order = None

    def _newest_first(self) -> list[ContainerRecord]:
        if self._order is None:
            self._order = sorted(self._containers, key=lambda record: -record.created_ns)
        return self._order

    def list(self, all: bool, limit: int, filters: dict[str, list[str]], size: bool) -> list[dict[str, Any]]:
        """Rows, newest first. Raises InvalidArgument for a bad filter."""
        selection = Selection(self._containers, filters)
        everything = all or limit > 0 or selection.wants_stopped
        rows: list[dict[str, Any]] = []
        now = now_ns()
        linked = links.names_of_targets(self._containers)
        for record in self._newest_first():
            if not everything and record.state.status not in ("running", "paused", "restarting"):
                continue
            if not selection.holds(record):
                continue
            row = self._rows.get(record.id)
            if row is None:
                row = self._rows[record.id] = self._row(record)
            row["Status"] = status_text(record, now)
            row["Names"] = [f"/{record.name}", *linked.get(record.id, ())]
            if size:
                row = {**row, "SizeRw": self._containers.size_rw(record),
                       "SizeRootFs": self._containers.size_rootfs(record)}
            rows.append(row)
            if 0 < limit <= len(rows):
                break
        return rows

    def _row(self, record: ContainerRecord) -> dict[str, Any]:
        engine = self._containers.engine
        settings = engine.networks.settings(record)
        networks = {name: {**found, "DNSNames": None} for name, found in (settings.get("Networks") or {}).items()}
        host_config: dict[str, Any] = {"NetworkMode": record.host_config.network_mode}
        if record.host_config.annotations:
            host_config["Annotations"] = record.host_config.annotations
        described = manifest_descriptor(engine.images, record.image_id)
        return {
            "Id": record.id, "Names": [], "Image": record.image, "ImageID": record.image_id,
            "Command": command_text(record), "Created": record.created_ns // 1_000_000_000,
            "Ports": port_rows(settings.get("Ports") or {}), "Labels": record.config.labels or {},
            "State": record.state.status, "Status": "", "HostConfig": host_config,
            "NetworkSettings": {"Networks": networks}, "Mounts": mount_points(record),
            **({"ImageManifestDescriptor": described} if described else {}),
        }


def command_text(record: ContainerRecord) -> str:
    """Program and arguments in one line; arguments with blanks in quotes."""
    quoted = [f"'{word}'" if re.search(r"\s", word) else word for word in record.args]
    return " ".join([record.path, *quoted])


def port_rows(ports: dict[str, list[dict[str, str]] | None]) -> list[dict[str, Any]]:
    """`Ports` of a row, from those of the network settings."""
    rows: list[dict[str, Any]] = []
    for port, bindings in ports.items():
        number, _, protocol = port.partition("/")
        if not bindings:
            rows.append({"PrivatePort": int(number), "Type": protocol or "tcp"})
        for binding in bindings or ():
            rows.append({"IP": binding["HostIp"], "PrivatePort": int(number), "PublicPort": int(binding["HostPort"]),
                         "Type": protocol or "tcp"})
    return rows


def status_text(record: ContainerRecord, now: int) -> str:
    """`Up 3 minutes (healthy)`, `Exited (0) 2 seconds ago`: the words of `docker ps`."""
    state = record.state
    status = state.status
    if status in ("running", "paused"):
        text = f"Up {human_duration((now - state.started_ns) / 1e9)}"
        if status == "paused":
            return f"{text} (Paused)"
        if state.health is not None:
            shown = "health: starting" if state.health.status == "starting" else state.health.status
            return f"{text} ({shown})"
        return text
    if status == "restarting":
        return f"Restarting ({state.exit_code}) {human_duration((now - state.finished_ns) / 1e9)} ago"
    if status == "removing":
        return "Removal In Progress"
    if status == "dead":
        return "Dead"
    if not state.started_ns:
        return "Created"
    if not state.finished_ns:
        return ""
    return f"Exited ({state.exit_code}) {human_duration((now - state.finished_ns) / 1e9)} ago"
