"""The systemd driver: a container's cgroup as a scope unit that systemd is asked for over D-Bus.

systemd makes the scope and moves the init into it; limits are told to it as properties, so that it does not undo them,
and are then written to the cgroup as without it.
"""

from __future__ import annotations

import posix

from corten.base.errors import Conflict, InvalidArgument, Unsupported
from corten.linux import cgroup, dbus
from corten.linux.proc import read_text
from corten.runtime import unit as units
from corten.runtime.errors import StepFailed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from corten.runtime.bundle import Bundle

_RUNS = "/run/systemd/system"  # sd_booted(3)
_SOCKET = "/run/systemd/private"  # root's own way to it, which needs no bus
_MANAGER = ("org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager")
_EXISTS = "org.freedesktop.systemd1.UnitExists"
_ABSENT = "org.freedesktop.systemd1.NoSuchUnit"
_ACCOUNTING = ("CPUAccounting", "MemoryAccounting", "TasksAccounting")


def place(bundle: Bundle) -> None:
    """Read linux.cgroupsPath as systemd's: its unit, and the cgroup that this will have. Raises Unsupported,
    InvalidArgument.
    """
    if not posix.access(_RUNS, posix.F_OK):
        raise Unsupported("systemd not running on this host, cannot use systemd cgroups manager")
    if posix.geteuid() != 0:
        raise Unsupported("--systemd-cgroup needs root: a user's own systemd is not asked")
    linux = bundle.spec.setdefault("linux", {})
    units.annotated(bundle.annotations)
    bundle.unit, linux["cgroupsPath"] = units.locate(linux.get("cgroupsPath"), bundle.id)


def start(bundle: Bundle, resources: dict[str, Any], pid: int) -> None:
    """Have the scope made with the process in it. Raises Conflict, InvalidArgument, StepFailed, OSError."""
    properties = _properties(bundle, resources, pid)
    manager = _connect()
    try:
        try:
            _start(manager, bundle.unit, properties)
        except dbus.CallFailed as failure:
            if failure.name != _EXISTS:
                raise
            _call(manager, "ResetFailedUnit", "s", bundle.unit)  # one that failed and was left lying
            _start(manager, bundle.unit, properties)
    except dbus.CallFailed as failure:
        text = f"unable to start unit \"{bundle.unit}\": {failure}"
        if failure.name != _EXISTS:
            raise StepFailed("make the cgroup", detail=text) from None
        bundle.groupless, bundle.unit = True, ""  # it is another's: nothing of it is to be removed
        raise Conflict(text) from None
    finally:
        manager.close()
    found = cgroup.path_of(pid)
    if cgroup.hierarchies().unified and found != bundle.cgroup:
        raise StepFailed("make the cgroup", detail=f"systemd has put the process into {found}, not {bundle.cgroup}")


def _properties(bundle: Bundle, resources: dict[str, Any], pid: int) -> units.Properties:
    v1 = bool(cgroup.hierarchies().v1)
    found: units.Properties = {
        "Description": ("s", f"corten container {bundle.id}"), "Slice": ("s", units.slice_of(bundle.cgroup)),
        "Delegate": ("b", True), "PIDs": ("au", [pid]), "DefaultDependencies": ("b", False),
        **dict.fromkeys((*_ACCOUNTING, "BlockIOAccounting" if v1 else "IOAccounting"), ("b", True)),
    }
    found.update(units.annotated(bundle.annotations))
    found.update(units.limits(resources, v1))
    found.update(units.devices(resources.get("devices") or [], units.drivers(read_text("/proc/devices")), v1))
    return found


def _connect() -> dbus.Connection:
    return dbus.Connection(_SOCKET, signal="JobRemoved")


def _start(manager: dbus.Connection, unit: str, properties: units.Properties) -> None:
    answer = manager.call(
        _MANAGER, "StartTransientUnit", "ssa(sv)a(sa(sv))", unit, "replace", list(properties.items()), []
    )
    result = _finish(manager, answer)
    if result != "done":
        _call(manager, "ResetFailedUnit", "s", unit)
        raise StepFailed("make the cgroup", detail=f"error creating systemd unit `{unit}`: got `{result}`")


def _finish(manager: dbus.Connection, answer: list[Any]) -> str:
    """Wait for a job's end; what became of it: done, canceled, timeout, failed, dependency, skipped."""
    while True:
        _, job, _, result = manager.next_signal()
        if job == answer[0]:
            return str(result)


def _call(manager: dbus.Connection, member: str, signature: str, *values: Any) -> list[Any]:
    """A call on a unit that may be absent: there is nothing to do then."""
    try:
        return manager.call(_MANAGER, member, signature, *values)
    except dbus.CallFailed as failure:
        if failure.name != _ABSENT:
            raise
        return []


def update(unit: str, resources: dict[str, Any]) -> None:
    """Tell systemd of new limits, until the unit is gone. Raises InvalidArgument, OSError."""
    properties = units.limits(resources, bool(cgroup.hierarchies().v1))
    manager = _connect()
    try:
        manager.call(_MANAGER, "SetUnitProperties", "sba(sv)", unit, True, list(properties.items()))
    except dbus.CallFailed as failure:
        raise InvalidArgument(f"unable to set unit properties: {failure}") from None
    finally:
        manager.close()


def stop(unit: str) -> None:
    """Let go of a unit whose processes have ended; absent is no error. Raises OSError."""
    try:
        manager = _connect()
    except FileNotFoundError:
        return  # no systemd, no unit
    try:
        job = _call(manager, "StopUnit", "ss", unit, "replace")
        if job:
            _finish(manager, job)
        _call(manager, "ResetFailedUnit", "s", unit)
    finally:
        manager.close()
