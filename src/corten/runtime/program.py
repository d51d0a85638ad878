"""The program a container runs: who it is, what it may, and the last steps before it takes over.

Shared by init.py and the exec path. Numbers only: names of users and groups were resolved by whoever wrote the spec.
"""

from __future__ import annotations

import errno
import posix
import stat

from corten.base import pathnames
from corten.base.errors import InvalidArgument, Unsupported
from corten.linux import capabilities, fd, path, process, rlimit, schedule, seccomp, user
from corten.linux.mount import AT_FDCWD
from corten.runtime.bundle import check_process
from corten.runtime.errors import EXECUTE, LOOK_UP, NOT_FOUND_IN_PATH, StepFailed, go_strerror

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from corten.linux.image import Image

PER_LINUX32 = 0x0008
_PASSWD_LIMIT = 1 << 20
_HEAD, _INTERPRETERS = 256, 5  # BINPRM_BUF_SIZE and the depth of scripts run by scripts, linux/binfmts.h


class Program:
    """One `process` of the spec, understood; the seccomp filter is compiled already."""

    __slots__ = (
        "apparmor", "args", "capabilities", "console_size", "cwd", "env", "filter", "filter_flags", "gid",
        "groups", "io_priority", "memory_policy", "no_new_privs", "oom_score_adj", "path", "personality", "rlimits",
        "scheduler", "selinux", "terminal", "uid", "umask",
    )

    def __init__(self, document: dict[str, Any], linux: dict[str, Any]) -> None:
        check_process(document)
        self.args: list[str] = document["args"]
        self.cwd: str = document["cwd"]
        self.env: dict[str, str] = {}
        for entry in document.get("env") or ():
            name, separator, value = entry.partition("=")
            if not name or not separator:
                raise InvalidArgument(f'invalid environment variable: "{entry}"')
            self.env[name] = value
        self.path = self.env.get("PATH", "")
        self._take_user(document.get("user") or {})
        self.capabilities = capabilities.Sets(document.get("capabilities"))
        self.rlimits = rlimit.parse(document.get("rlimits"))
        self.no_new_privs = bool(document.get("noNewPrivileges"))
        self.oom_score_adj: int | None = document.get("oomScoreAdj")
        self.apparmor: str = document.get("apparmorProfile") or ""
        self.selinux: str = document.get("selinuxLabel") or ""
        self.terminal = bool(document.get("terminal"))
        size = document.get("consoleSize") or {}
        self.console_size = (int(size.get("height") or 0), int(size.get("width") or 0))
        self.scheduler = schedule.parse_scheduler(document.get("scheduler"))
        self.io_priority = schedule.parse_io_priority(document.get("ioPriority"))
        self.memory_policy = schedule.parse_memory_policy(linux.get("memoryPolicy"))
        profile = linux.get("seccomp")
        self.filter, self.filter_flags = seccomp.compile_cached(profile) if profile else (b"", 0)
        self.personality = _parse_personality(linux.get("personality"))

    def _take_user(self, entry: dict[str, Any]) -> None:
        self.uid = _id(entry.get("uid", 0), "uid")
        self.gid = _id(entry.get("gid", 0), "gid")
        self.groups = [_id(group, "additional gid") for group in entry.get("additionalGids") or ()]
        umask = entry.get("umask")
        self.umask: int | None = None if umask is None else int(umask) & 0o777


def _id(value: object, what: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 0xFFFFFFFF:
        raise InvalidArgument(f"invalid {what}: {value!r}")
    return value


def _parse_personality(entry: dict[str, Any] | None) -> int | None:
    if not entry:
        return None
    if entry.get("flags"):
        raise Unsupported("linux.personality.flags is not supported")
    domains = {"LINUX": 0, "LINUX32": PER_LINUX32}
    if entry.get("domain") not in domains:
        raise InvalidArgument(f"invalid personality domain: {entry.get('domain')!r}")
    return domains[entry["domain"]]


# --- steps in the child, in the order in which they are done


def set_limits(program: Program, proc: int, user_namespace: bool) -> None:
    """oom_score_adj, rlimits, scheduling; past what we may without the host's CAP_SYS_RESOURCE it is best effort."""
    if program.oom_score_adj is not None:
        try:
            fd.write_proc(proc, "self/oom_score_adj", str(program.oom_score_adj).encode())
        except PermissionError:
            if not user_namespace and capabilities.has_own(capabilities.CAP_SYS_RESOURCE):
                raise
    rlimit.apply(program.rlimits)
    if program.scheduler:
        try:
            schedule.set_scheduler(program.scheduler)
        except PermissionError as error:
            text = "set the limits: sched_setattr: operation not permitted"
            text += " (process scheduler can't be used together with AllowedCPUs)"
            raise StepFailed("set the limits", "sched_setattr", error.errno or 0, detail=text) from None
    if program.io_priority is not None:
        schedule.set_io_priority(program.io_priority)
    if program.memory_policy:
        schedule.set_memory_policy(*program.memory_policy)
    if program.personality is not None:
        process.set_personality(program.personality)


def set_labels(program: Program, proc: int) -> None:
    """The AppArmor profile and SELinux label that execve switches to; an error where the kernel has no such module."""
    if program.apparmor and program.apparmor != "unconfined":
        try:
            fd.write_proc(proc, "self/attr/apparmor/exec", f"exec {program.apparmor}".encode())
        except FileNotFoundError:
            raise Unsupported("process.apparmorProfile: AppArmor is not enabled on this kernel") from None
    if program.selinux:
        try:
            fd.write_proc(proc, "self/attr/exec", program.selinux.encode())
        except (FileNotFoundError, OSError):
            raise Unsupported("process.selinuxLabel: SELinux is not enabled on this kernel") from None


def add_home(program: Program) -> None:
    """HOME from the container's own /etc/passwd when the spec has none; `/` for a user it does not know."""
    if program.env.get("HOME"):
        return
    program.env["HOME"] = "/"
    try:
        descriptor = posix.open("/etc/passwd", posix.O_RDONLY | posix.O_NONBLOCK | posix.O_CLOEXEC)
    except OSError:
        return
    try:
        if stat.S_ISREG(posix.fstat(descriptor).st_mode):
            for line in posix.read(descriptor, _PASSWD_LIMIT).split(b"\n"):
                fields = line.split(b":")
                if len(fields) >= 6 and fields[2] == str(program.uid).encode() and fields[5]:
                    program.env["HOME"] = pathnames.decode(fields[5])
                    return
    finally:
        posix.close(descriptor)


def enter_cwd(program: Program, as_user: bool = False) -> bool:
    """chdir, and prove that it led inside the root: getcwd fails for a folder outside it (CVE-2024-21626).

    Before the change of user a refusal is no error yet: the folder may be the user's own; False then. Raises
    StepFailed.
    """
    try:
        posix.chdir(program.cwd)
    except OSError as error:
        if not as_user and error.errno in (errno.EACCES, errno.EPERM):
            return False
        text = f'chdir to cwd ("{program.cwd}") set in config.json failed: {go_strerror(error.errno or 0)}'
        raise StepFailed("enter the working directory", "chdir", error.errno or 0, program.cwd, text) from None
    try:
        inside = posix.getcwd().startswith("/")
    except OSError:
        inside = False
    if not inside:
        raise StepFailed(
            "enter the working directory", "getcwd", errno.ENOENT, program.cwd,
            "current working directory is outside of container mount namespace root -- "
            "possible container breakout detected",
        )
    return True


def look_up(program: Program) -> list[str]:
    """The paths to try in turn: args[0] itself when it has a slash, else every match in PATH.

    exec.LookPath's rules and texts, as runc has them. Raises StepFailed.
    """
    name = program.args[0]
    if "/" in name:
        _check_program(name)
        _refuse_magic(name, name)
        return [name]
    found = []
    for folder in program.path.split(":") if program.path else ():
        candidate = f"{folder or '.'}/{name}"
        try:
            mode = posix.stat(candidate).st_mode
        except OSError:
            continue
        if not stat.S_ISDIR(mode) and mode & 0o111:
            _refuse_magic(candidate, name)
            found.append(candidate)
    if not found or not name:
        raise StepFailed(LOOK_UP, "stat", errno.ENOENT, name, f'exec: "{name}": {NOT_FOUND_IN_PATH}')
    return found


def refuse_magic_links(program: Program, candidates: list[str]) -> None:
    """Once more, where /proc/self is what the kernel will see. Raises StepFailed."""
    for candidate in candidates:
        _refuse_magic(candidate, program.args[0])


def _check_program(name: str) -> None:
    try:
        mode = posix.stat(name).st_mode
    except OSError as error:
        number = error.errno or 0
        text = f'exec: "{name}": stat {name}: {go_strerror(number)}'
        raise StepFailed(LOOK_UP, "stat", number, name, text) from None
    if stat.S_ISDIR(mode):
        raise StepFailed(LOOK_UP, "stat", errno.EISDIR, name, f'exec: "{name}": is a directory: permission denied')
    if not mode & 0o111:
        raise StepFailed(LOOK_UP, "stat", errno.EACCES, name, f'exec: "{name}": permission denied')


def _refuse_magic(candidate: str, name: str, depth: int = 0) -> None:
    """Refuse a program, or a script's interpreter, behind a magic link of /proc: /proc/self/exe is still our own.

    Run inside, it could be written to from inside (CVE-2019-5736). Raises StepFailed.
    """
    try:
        descriptor = path.openat2(AT_FDCWD, candidate, posix.O_RDONLY | posix.O_NONBLOCK, path.RESOLVE_NO_MAGICLINKS)
    except OSError as error:
        if error.errno != errno.ELOOP:
            return  # execve will say what is wrong with it
        text = f'exec: "{name}": permission denied'
        raise StepFailed(LOOK_UP, "openat2", errno.EACCES, candidate, text) from None
    try:
        head = posix.read(descriptor, _HEAD) if stat.S_ISREG(posix.fstat(descriptor).st_mode) else b""
    finally:
        posix.close(descriptor)
    words = head.split(b"\n")[0][2:].split() if head.startswith(b"#!") else []
    if words and depth < _INTERPRETERS:
        _refuse_magic(pathnames.decode(words[0]), name, depth + 1)


def become_user(program: Program, owned: tuple[int, ...]) -> None:
    """Bounding set, groups, gid, uid; capabilities stay until `confine`. `owned`: pipes and ptys the user is given.

    The user must be able to reopen /dev/stdout, so its pipe becomes the user's; a device node never does.
    """
    capabilities.drop_bounding(program.capabilities.bounding)
    for descriptor in owned:
        fd.give_pipe(descriptor, program.uid, program.gid)
    process.prctl(process.PR_SET_KEEPCAPS, 1)
    user.become(program.uid, program.gid, program.groups)
    process.prctl(process.PR_SET_KEEPCAPS, 0)
    process.set_dumpable(False)  # fs.suid_dumpable decides anew at every change of user
    if program.umask is not None:
        posix.umask(program.umask)


def confine(program: Program, tell: Callable[[int], None]) -> None:
    """No new privileges, the seccomp filter, the final capabilities; `tell` is called with the filter's listener.

    Installing a filter takes CAP_SYS_ADMIN or no_new_privs, so without the latter it goes before the capabilities.
    """
    capabilities.raise_effective(program.capabilities)
    if program.no_new_privs:
        process.set_no_new_privs()
        capabilities.apply(program.capabilities)
        _install(program, tell)
        return
    _install(program, tell)
    capabilities.apply(program.capabilities)


def _install(program: Program, tell: Callable[[int], None]) -> None:
    if program.filter:
        listener = seccomp.install(program.filter, program.filter_flags)
        if program.filter_flags & seccomp.NEW_LISTENER:
            tell(listener)


def execute(program: Program, image: Image, candidates: list[str]) -> None:
    """execve; returns only by raising StepFailed. A match in PATH that the user may not run is passed over."""
    number = 0
    for candidate in candidates:
        number = image.execute(candidate)
        if number != errno.EACCES:
            break
    text = f"exec {candidates[-1]}: {go_strerror(number)}"
    if number == errno.EACCES:
        text = f'exec: "{program.args[0]}": permission denied'
    raise StepFailed(EXECUTE, "execve", number, candidates[-1], text)
