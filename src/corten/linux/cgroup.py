"""Control groups: one path, made, joined, frozen, killed and removed in every hierarchy the machine has.

v1, v2 and hybrid (v1 controllers beside an empty v2 tree) alike: a group is named by its path within the hierarchies,
`/corten/<id>`; callers never see which there are. "" is no group at all (an unprivileged user may make none): there is
nothing to join, to kill or to remove then. Limits are cgroup_limits.py, numbers cgroup_stats.py.
"""

from __future__ import annotations

import errno
import posix
import time

from corten.linux.cgroup_hierarchies import hierarchies as hierarchies
from corten.linux.cgroup_hierarchies import read_words
from corten.linux.fd import write_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_V2_CONTROLLERS = ("cpu", "cpuset", "io", "memory", "pids", "hugetlb", "rdma")
SIGKILL = 9
_KILL_WAIT_S = 10.0


_ready: set[str] = set()  # parent groups made by this process, with their controllers and cpusets set up


def folders(path: str) -> list[str]:
    """The group's folder in each hierarchy, existing or not."""
    found = hierarchies()
    return [mount + path for mount in (*found.mounts, found.unified) if mount] if path else []


def folder(path: str, controller: str) -> str:
    """The folder in which the group's files of a controller are; "" when the machine has none such."""
    found = hierarchies()
    if controller in found.v1:
        return found.v1[controller] + path
    return found.unified + path if controller in found.controllers else ""


def birthplace(path: str) -> int:
    """A descriptor of the group's v2 folder, made now, in which a child can be born; -1 when there is no v2 tree.

    `create` makes and limits the rest, and may do so while the child begins. Raises OSError.
    """
    unified = hierarchies().unified
    if not (unified and path):
        return -1
    for attempt in (1, 2):
        if attempt == 2 or _above(path) not in _ready:
            _prepare(_above(path))
        try:
            _make(unified + path)
            break
        except FileNotFoundError:  # the parent went away since it was prepared
            if attempt == 2:
                raise
    return open_unified(path)


def create(path: str, resources: dict[str, Any]) -> int:
    """Make the group with these limits (linux.resources); returns a descriptor of its v2 folder, or -1.

    A child can be born in that one (CLONE_INTO_CGROUP), the others it must `join`. Raises InvalidArgument, Unsupported,
    OSError; what was made stays, for `remove`.
    """
    parent = _above(path)
    if parent not in _ready:
        _prepare(parent)
    for attempt in (1, 2):
        try:
            for place in folders(path):
                _make(place)
            break
        except FileNotFoundError:  # the parent went away since it was prepared
            if attempt == 2:
                raise
            _prepare(parent)
    apply(path, resources, fresh=True)
    return open_unified(path)


def _above(path: str) -> str:
    return path.rpartition("/")[0] or "/"


def _make(place: str) -> None:
    try:
        posix.mkdir(place, 0o755)
    except FileExistsError:
        pass


def _prepare(parent: str) -> None:
    """The groups above: folders, v2 controllers handed down, v1 cpusets filled (an empty one takes no process)."""
    found = hierarchies()
    parts = [part for part in parent.split("/") if part]
    prefixes = ["/" + "/".join(parts[:depth]) for depth in range(1, len(parts) + 1)]
    for prefix in prefixes:
        for place in folders(prefix):
            _make(place)
        if "cpuset" in found.v1:
            fill_cpuset(found.v1["cpuset"] + prefix)
            write_file(f"{found.v1['cpuset']}{prefix}/cgroup.clone_children", b"1")  # groups below begin filled
    wanted = [name for name in _V2_CONTROLLERS if name in found.controllers]
    for prefix in ["", *prefixes] if wanted else ():
        _hand_down(f"{found.unified}{prefix}/cgroup.subtree_control", wanted)
    _ready.add(parent)


def _hand_down(control: str, wanted: list[str]) -> None:
    try:
        write_file(control, " ".join(f"+{name}" for name in wanted).encode())
    except OSError:
        for name in wanted:  # one that is refused must not cost the others
            try:
                write_file(control, f"+{name}".encode())
            except OSError:
                continue


def fill_cpuset(place: str) -> None:
    """Give a v1 cpuset that is empty the CPUs and nodes of its parent."""
    for name in ("cpuset.cpus", "cpuset.mems"):
        if not read_words(f"{place}/{name}"):
            inherited = read_words(f"{_above(place)}/{name}")
            write_file(f"{place}/{name}", " ".join(inherited).encode())


def apply(path: str, resources: dict[str, Any], fresh: bool = False) -> None:
    """Set limits on a group that exists; only what `resources` names is changed. Raises OSError with the file's path.

    `fresh`: the group has just been made, so that an empty cpuset is filled.
    """
    found = hierarchies()
    parent = _above(path)
    if fresh and "cpuset" in found.v1 and (parent == "/" or parent not in _ready):  # the root does not clone
        fill_cpuset(found.v1["cpuset"] + path)
    from corten.linux import cgroup_devices, cgroup_limits  # not for those who only join, freeze or remove

    cgroup_limits.write_all(_placed(path, resources))
    rules = resources.get("devices")
    if rules and "devices" in found.v1:
        cgroup_devices.apply_v1(found.v1["devices"] + path, rules)
    elif rules and found.unified and not found.v1:
        cgroup_devices.apply_v2(found.unified + path, rules)


def _placed(path: str, resources: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Each limit as (folder, file, value); one whose controller the machine lacks is Unsupported."""
    from corten.linux import cgroup_limits

    found = hierarchies()
    settings = cgroup_limits.v1_settings(resources) if found.v1 else cgroup_limits.v2_settings(resources)
    placed = []
    for controller, name, value in settings:
        place = folder(path, controller)
        if not place:
            cgroup_limits.refuse(controller, name)
        if ".rsvd." not in name or posix.access(f"{place}/{name}", posix.F_OK):
            placed.append((place, name, value))
    return placed


def complete(path: str, resources: dict[str, Any]) -> dict[str, Any]:
    """An update's limits, checked against what is in use, with what v2 wants together. Raises InvalidArgument."""
    from corten.linux import cgroup_limits

    found = hierarchies()
    if not found.v1:
        resources = cgroup_limits.complete_v2(resources, lambda name: read_words(f"{found.unified}{path}/{name}"))
    used = read_words(f"{folder(path, 'memory')}/memory.{'usage_in_bytes' if found.v1 else 'current'}")
    cgroup_limits.check_use(resources.get("memory") or {}, int(used[0]) if used else 0)
    return resources


def open_unified(path: str) -> int:
    """A descriptor of the group's v2 folder for CLONE_INTO_CGROUP; -1 when there is none."""
    unified = hierarchies().unified
    if not (unified and path):
        return -1
    try:
        return posix.open(unified + path, posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC)
    except FileNotFoundError:
        return -1


def join(path: str, pid: int = 0, unified: bool = True) -> None:
    """Move a process (0: the caller) into the group; `unified` False when it was born in the v2 one. Raises OSError.

    A caller with one thread moves itself by v1's `tasks`: that takes no lock for which the kernel would have to wait
    for an RCU grace period, milliseconds, as writing `cgroup.procs` does (Linux 5.16).
    """
    found = hierarchies()
    name, text = ("cgroup.procs", str(pid).encode()) if pid else ("tasks", b"0")
    for place in v1_folders(path):
        write_file(f"{place}/{name}", text)
    if unified and found.unified and path:
        write_file(f"{found.unified}{path}/cgroup.procs", str(pid).encode())


def join_below(path: str, parts: dict[str, str]) -> None:
    """Move the caller into groups below `path` in v1 hierarchies, by controller; "" is for all that are not named.

    Raises OSError.
    """
    below = {hierarchies().v1[name]: part for name, part in parts.items() if name}
    for mount in hierarchies().mounts:
        part = below.get(mount, parts.get("", ""))
        place = f"{mount}{path}{part and '/'}{part}/tasks"
        try:
            write_file(place, b"0")
        except OSError as error:
            raise OSError(error.errno, f"adding pid to cgroups: {posix.strerror(error.errno or 0)}", place) from None


def path_of(pid: int) -> str:
    """Where a process is in the v2 tree, as this process sees it. cgroups(7). Raises OSError; "" when in none."""
    with open(f"/proc/{pid}/cgroup", encoding="utf-8", errors="surrogateescape") as file:
        found = [line.rstrip("\n")[3:] for line in file if line.startswith("0::")]
    return found[0] if found else ""


def v1_folders(path: str) -> list[str]:
    """The group's folders in the v1 hierarchies only."""
    return [mount + path for mount in hierarchies().mounts] if path else []


def children(path: str) -> list[str]:
    """The names of the groups right below, in whichever hierarchy they are; [] when the group is absent."""
    import os

    found: set[str] = set()
    for place in folders(path):
        try:
            found.update(entry.name for entry in os.scandir(place) if entry.is_dir(follow_symlinks=False))
        except OSError:
            continue
    return sorted(found)


def exists(path: str) -> bool:
    """Whether the group is there in any hierarchy."""
    return any(posix.access(place, posix.F_OK) for place in folders(path))


def processes(path: str) -> list[int]:
    """The pids in the group and the groups below it, as this pid namespace numbers them."""
    import os

    places = folders(path)
    if not places:
        return []
    found: list[int] = []
    for place, _, files in os.walk(places[-1] if hierarchies().unified else places[0]):
        if "cgroup.procs" in files:
            found.extend(int(word) for word in read_words(f"{place}/cgroup.procs"))
    return found


def freeze(path: str) -> None:
    """Stop every process of the group; returns when the kernel says it is frozen. Raises OSError."""
    _set_frozen(path, True)


def thaw(path: str) -> None:
    """Let a frozen group go on. Raises OSError; one that is gone, as a killed one may be on v2, needs nothing."""
    try:
        _set_frozen(path, False)
    except OSError as error:
        if not path or error.errno not in (errno.ENOENT, errno.ENODEV):
            raise


def _set_frozen(path: str, frozen: bool) -> None:
    found = hierarchies()
    if not path:
        raise OSError(errno.ENOENT, "freeze: there is no cgroup")
    if "freezer" in found.v1:
        state, wanted = f"{found.v1['freezer']}{path}/freezer.state", b"FROZEN" if frozen else b"THAWED"
        for attempt in range(1000):
            write_file(state, wanted)  # written again: a fork under way may leave it half frozen
            if read_words(state) == [wanted.decode()]:
                return
            if attempt > 10:
                time.sleep(0.001)
        write_file(state, b"THAWED")
        raise OSError(errno.EBUSY, "freeze: the group does not settle", state)
    write_file(f"{found.unified}{path}/cgroup.freeze", b"1" if frozen else b"0")
    for attempt in range(1000):
        if f"frozen {int(frozen)}" in _read_text(f"{found.unified}{path}/cgroup.events"):
            return
        time.sleep(0 if attempt < 10 else 0.001)
    raise OSError(errno.EBUSY, "freeze: the group does not settle", path)


def _read_text(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        return file.read()


def is_frozen(path: str) -> bool:
    """Whether the group is frozen; False when it is gone."""
    found = hierarchies()
    try:
        if "freezer" in found.v1:
            return _read_text(f"{found.v1['freezer']}{path}/freezer.state").strip() == "FROZEN"
        return "frozen 1" in _read_text(f"{found.unified}{path}/cgroup.events")
    except OSError:
        return False


def kill(path: str, signum: int = SIGKILL) -> None:
    """Signal every process of the group and the groups below it; an absent group is no error.

    SIGKILL goes by cgroup.kill (Linux 5.14), which misses no fork; else process by process until none is left.
    """
    unified = hierarchies().unified
    if signum == SIGKILL and unified and path:
        try:
            write_file(f"{unified}{path}/cgroup.kill", b"1")
            return
        except OSError:
            pass
    for _ in range(10 if signum == SIGKILL else 1):
        found = processes(path)
        for pid in found:
            try:
                posix.kill(pid, signum)
            except ProcessLookupError:
                continue
        if not found:
            return


def end(path: str) -> None:
    """Have all that is in the group and below die, frozen or not, without waiting for it; what is absent is fine."""
    kill(path)
    found = hierarchies()
    try:
        if "freezer" in found.v1:
            write_file(f"{found.v1['freezer']}{path}/freezer.state", b"THAWED")  # v1: a frozen process dies no more
        elif path:
            write_file(f"{found.unified}{path}/cgroup.freeze", b"0")
    except OSError:
        pass


def remove_now(path: str) -> bool:
    """Remove the group everywhere, with the empty ones below; False while something is left. Absence is no error."""
    return all(_remove_one(place) or _remove_tree(place) for place in folders(path))


def remove(path: str) -> None:
    """Kill what is left in the group and remove it everywhere, with the groups below; idempotent.

    The kernel refuses while a dying process is still inside, so it is tried again for up to ten seconds. Raises OSError
    when it stays busy.
    """
    busy = [place for place in folders(path) if not _remove_one(place)]
    if not busy:
        return
    end(path)
    deadline = time.monotonic() + _KILL_WAIT_S
    pause = 0.0005
    while busy:
        time.sleep(pause)
        busy = [place for place in busy if not _remove_tree(place)]
        if busy and time.monotonic() > deadline:
            raise OSError(errno.EBUSY, f"rmdir: {posix.strerror(errno.EBUSY)}", busy[0])
        pause = min(pause * 2, 0.05)


def _remove_one(place: str) -> bool:
    try:
        posix.rmdir(place)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _remove_tree(place: str) -> bool:
    """The group and those below it, the innermost first; False while one is busy."""
    import os

    return all(_remove_one(below) for below, _, _ in os.walk(place, topdown=False))


def stats(path: str) -> dict[str, Any]:
    """Raw numbers of the group: {cpu, memory, pids, blkio}; see cgroup_stats."""
    from corten.linux import cgroup_stats

    return cgroup_stats.read(path)
