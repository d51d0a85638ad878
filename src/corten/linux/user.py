"""Becoming a user, by numbers, and mapping users. Names are no matter of this layer: no NSS, no /etc/passwd."""

import errno
import posix

from corten.base.errors import InvalidArgument
from corten.linux import foreign, namespaces
from corten.linux.fd import write_file
from corten.linux.libc import check, libc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_PROGRAM_FOLDERS = ("/usr/bin", "/usr/local/bin", "/bin", "/usr/sbin")
_HIGHEST = 0xFFFFFFFF  # (uid_t)-1 is nobody's


def become(uid: int, gid: int, groups: list[int]) -> None:
    """Supplementary groups, then gid, then uid; the real, effective and saved ones. Raises OSError.

    Where setgroups is denied (a user namespace of an unprivileged user) an empty list is no error.
    """
    try:
        posix.setgroups(groups)
    except PermissionError:
        if groups:
            raise
    posix.setresgid(gid, gid, gid)
    posix.setresuid(uid, uid, uid)


def set_hostname(name: str) -> None:
    """sethostname(2). Raises OSError (EINVAL: longer than 64 bytes)."""
    data = name.encode()
    check(libc.sethostname(foreign.c_char_p(data), len(data)), "sethostname")


def set_domainname(name: str) -> None:
    """The NIS domain. setdomainname(2). Raises OSError."""
    data = name.encode()
    check(libc.setdomainname(foreign.c_char_p(data), len(data)), "setdomainname")


def id_map(entries: "list[dict[str, Any]] | None") -> str:
    """The spec's mappings as the lines of /proc/<pid>/uid_map, user_namespaces(7); "" for none. InvalidArgument."""
    lines = []
    for entry in entries or ():
        numbers = [entry.get("containerID", 0), entry.get("hostID", 0), entry.get("size", 0)]
        if not all(isinstance(number, int) and 0 <= number <= _HIGHEST for number in numbers) or not numbers[2]:
            raise InvalidArgument(f"invalid id mapping: {entry!r}")
        lines.append(f"{numbers[0]} {numbers[1]} {numbers[2]}\n")
    return "".join(lines)


def mapped(lines: str, number: int) -> int:
    """The id outside for an id inside a map; -1 for one that it does not hold."""
    for line in lines.splitlines():
        inside, outside, size = map(int, line.split())
        if inside <= number < inside + size:
            return outside + number - inside
    return -1


def default_maps() -> tuple[str, str]:
    """The maps of a user namespace for which none were given: our ids as they are, one's own id for a user."""
    if posix.geteuid():
        return f"0 {posix.geteuid()} 1\n", f"0 {posix.getegid()} 1\n"
    found = []
    for kind in ("uid", "gid"):
        with open(f"/proc/self/{kind}_map", encoding="ascii") as lines:
            numbers = [line.split() for line in lines]
        found.append("".join(f"{inside} {inside} {size}\n" for inside, _, size in numbers))
    return found[0], found[1]


def write_maps(pid: int, uid_map: str, gid_map: str) -> None:
    """Map the users of the new user namespace of a process. user_namespaces(7).

    A user may map his own id alone, and gives up setgroups(2) for it; more takes the set-user-ID programs newuidmap(1)
    and newgidmap(1), which go by /etc/subuid. Raises OSError with the file or program as its path.
    """
    if posix.geteuid() and (uid_map, gid_map) != _own_maps(uid_map, gid_map):
        _run_map_program("newuidmap", pid, uid_map)
        _run_map_program("newgidmap", pid, gid_map)
        return
    if posix.geteuid():
        write_file(f"/proc/{pid}/setgroups", b"deny")
    write_file(f"/proc/{pid}/uid_map", uid_map.encode())
    write_file(f"/proc/{pid}/gid_map", gid_map.encode())


def _own_maps(uid_map: str, gid_map: str) -> tuple[str, str]:
    """What a user may write himself with these ids inside."""
    return (f"{uid_map.split(' ')[0]} {posix.geteuid()} 1\n", f"{gid_map.split(' ')[0]} {posix.getegid()} 1\n")


def _run_map_program(name: str, pid: int, lines: str) -> None:
    for folder in _PROGRAM_FOLDERS:
        path = f"{folder}/{name}"
        try:
            child = posix.posix_spawn(path, [name, str(pid), *lines.split()], {})
        except FileNotFoundError:
            continue
        if posix.waitpid(child, 0)[1]:
            raise OSError(errno.EPERM, f"{name}: {posix.strerror(errno.EPERM)}", lines.replace("\n", " ").strip())
        return
    raise OSError(errno.ENOENT, f"execve: {posix.strerror(errno.ENOENT)}", name)


def open_mapped_namespace(uid_map: str, gid_map: str) -> int:
    """A descriptor of a new user namespace with these maps, for an id-mapped mount. Takes root. Raises OSError.

    A process is needed to make one; it ends at once, the namespace lives as long as the descriptor.
    """
    read, write = posix.pipe2(posix.O_CLOEXEC)
    try:
        pid, pidfd = namespaces.clone3(namespaces.CLONE_NEWUSER)
        if pid == 0:
            posix.close(write)
            posix.read(read, 1)  # until the parent is done, or gone
            posix._exit(0)
        posix.close(pidfd)
        try:
            write_maps(pid, uid_map, gid_map)
            return namespaces.open_of(pid, "user")
        finally:
            posix.close(write)
            write = -1
            posix.waitpid(pid, 0)
    finally:
        posix.close(read)
        if write >= 0:
            posix.close(write)
