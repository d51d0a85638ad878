"""corten-oci: an OCI runtime's command line, as containerd, podman and dockerd call runc.

Starts in milliseconds, so it reads options by a table and imports nothing big. An error is one line on stderr and one
object in the log (--log), never a traceback.
"""

import json
import os
import sys
import time

from corten.base.errors import Conflict, Error, InvalidArgument, NotFound, Unsupported
from corten.base.files import atomic_write, read_bytes
from corten.runtime import container, state
from corten.runtime.bundle import load_bundle
from corten.runtime.errors import StepFailed, from_exception
from corten.runtime.options import FLAG, MANY, TEXT, parse, text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from corten.runtime.bundle import Bundle
    from corten.runtime.create import Child
    from corten.runtime.options import Options

DEFAULT_ROOT = "/run/corten-oci"
_INIT_FAILED = "unable to start container process: error during container init: "

_GLOBAL = {
    "--root": ("root", TEXT), "--log": ("log", TEXT), "--log-format": ("log_format", TEXT), "--debug": ("debug", FLAG),
    "--systemd-cgroup": ("systemd", FLAG), "--rootless": ("rootless", TEXT), "--version": ("version", FLAG),
    "-v": ("version", FLAG), "--help": ("help", FLAG), "-h": ("help", FLAG), "--criu": ("criu", TEXT),
}
_CREATE = {
    "--bundle": ("bundle", TEXT), "-b": ("bundle", TEXT), "--console-socket": ("console", TEXT),
    "--pid-file": ("pid_file", TEXT), "--no-pivot": ("no_pivot", FLAG), "--no-new-keyring": ("no_keyring", FLAG),
    "--preserve-fds": ("preserve_fds", TEXT), "--pidfd-socket": ("pidfd_socket", TEXT),
}
_RUN = {
    **_CREATE, "--detach": ("detach", FLAG), "-d": ("detach", FLAG), "--keep": ("keep", FLAG),
    "--no-subreaper": ("no_subreaper", FLAG),
}
_EXEC = {
    "--console-socket": ("console", TEXT), "--cwd": ("cwd", TEXT), "--env": ("env", MANY), "-e": ("env", MANY),
    "--tty": ("tty", FLAG), "-t": ("tty", FLAG), "--user": ("user", TEXT), "-u": ("user", TEXT),
    "--additional-gids": ("gids", MANY), "-g": ("gids", MANY), "--process": ("process", TEXT),
    "-p": ("process", TEXT),
    "--detach": ("detach", FLAG), "-d": ("detach", FLAG), "--pid-file": ("pid_file", TEXT),
    "--process-label": ("label", TEXT), "--apparmor": ("apparmor", TEXT), "--no-new-privs": ("no_new_privs", FLAG),
    "--cap": ("cap", MANY), "-c": ("cap", MANY), "--preserve-fds": ("preserve_fds", TEXT),
    "--cgroup": ("cgroup", TEXT),
    "--ignore-paused": ("ignore_paused", FLAG), "--pidfd-socket": ("pidfd_socket", TEXT),
}


class Call:
    """One call of a command: the state root, the command's options and its other words."""

    __slots__ = ("options", "root", "words")

    def __init__(self, root: str, options: "Options", words: list[str]) -> None:
        self.root = root
        self.options = options
        self.words = words

    @property
    def id(self) -> str:
        if not self.words:
            raise InvalidArgument("container ID is required")
        return self.words[0]

    def number(self, name: str) -> int:
        value = text(self.options, name, "0")
        if not (value.isascii() and value.isdigit()) or len(value) > 4:
            raise InvalidArgument(f"invalid value {value!r} for flag --{name.replace('_', '-')}")
        return int(value)

    def load(self) -> state.State:
        return state.load(self.root, self.id)


def _refuse(options: "Options") -> None:
    for name, written in (("no_pivot", "--no-pivot"), ("pidfd_socket", "--pidfd-socket")):
        if options.get(name):
            raise Unsupported(f"{written} is not supported")


def _write_pid(options: "Options", pid: int) -> None:
    if options.get("pid_file"):
        atomic_write(os.path.abspath(text(options, "pid_file")), str(pid).encode(), 0o644)


def _new(call: Call, detached: bool) -> "tuple[Bundle, Child]":
    _refuse(call.options)
    path = text(call.options, "bundle", ".")
    console = text(call.options, "console")
    bundle = load_bundle(call.id, path, call.root)
    terminal = bool((bundle.spec.get("process") or {}).get("terminal"))
    if terminal and detached and not console:
        raise InvalidArgument("cannot allocate tty if runtime will detach without setting console socket")
    if console and not terminal:
        raise InvalidArgument("cannot use console socket if runtime will not detach or allocate tty")
    try:
        bundle, child = container.new(call.root, call.id, path, call.number("preserve_fds"), detached)
    except StepFailed as failure:
        raise _told(failure) from None
    try:
        if console:
            container.send_console(console, child.console)
            os.close(child.console)
            child.console = -1
        _write_pid(call.options, child.pid)
    except BaseException:
        container.delete(call.root, call.id, force=True)
        raise
    return bundle, child


def _told(failure: StepFailed) -> StepFailed:
    failure.args = (f"{_INIT_FAILED}{failure}",)
    return failure


def create(call: Call) -> int:
    """create: everything but the execve."""
    _new(call, detached=True)
    return 0


def start(call: Call) -> int:
    """start: the execve of a created container."""
    try:
        container.start(call.load())
    except StepFailed as failure:
        raise _told(failure) from None
    return 0


def run(call: Call) -> int:
    """run: create, start, and unless --detach wait and delete."""
    from corten.runtime import foreground

    detached = bool(call.options.get("detach"))
    bundle, child = _new(call, detached)
    if detached:
        return start(call)
    child.start()
    if child.wait() == "failed" and child.failure:
        os.waitpid(child.pid, 0)
        container.delete(call.root, call.id, force=True)
        raise _told(child.failure)
    container.run_hooks(call.load(), bundle, "poststart", "running")
    code = foreground.wait(child.pid, child.pidfd, child.console)
    if not call.options.get("keep"):
        container.delete(call.root, call.id, force=True)
    return code


def exec_(call: Call) -> int:
    """exec: one more process; passes on its status. Raises with exit code 255 for its own failures."""
    from corten.runtime import exec_command

    return exec_command.run(call.load(), call.options, call.words[1:], call.number("preserve_fds"))


def show_state(call: Call) -> int:
    """state: the state document."""
    record = call.load()
    status = record.status
    bundle = record.load_bundle()
    document = {
        "ociVersion": state.OCI_VERSION, "id": record.id, "pid": 0 if status == "stopped" else record.pid,
        "status": status, "bundle": record.bundle, "rootfs": record.rootfs, "created": record.created,
        "owner": "" if record.uid else "root",
    }
    if bundle.spec.get("annotations"):
        document["annotations"] = bundle.spec["annotations"]
    print(json.dumps(document, indent=2))
    return 0


def parse_signal(word: str) -> int:
    """`9`, `KILL`, `SIGKILL`. Raises InvalidArgument."""
    if word.isascii() and word.isdigit() and len(word) < 3:
        return int(word)
    import signal

    name = word.upper() if word.upper().startswith("SIG") else f"SIG{word.upper()}"
    try:
        return int(signal.Signals[name])
    except KeyError:
        raise InvalidArgument(f"unknown signal {word!r}") from None


def kill(call: Call) -> int:
    """kill: a signal (default TERM) to the init, with --all to all."""
    signum = parse_signal(call.words[1] if len(call.words) > 1 else "TERM")
    record = call.load()
    if record.status == "stopped" and not call.options.get("all"):
        raise NotFound("container not running")
    container.kill(record, signum, bool(call.options.get("all")))
    return 0


def delete(call: Call) -> int:
    """delete: what a container has left."""
    container.delete(call.root, call.id, bool(call.options.get("force")))
    return 0


def list_(call: Call) -> int:
    """list: all containers below the root; --format table|json, --quiet."""
    rows = []
    for record in state.load_all(call.root):
        status = record.status
        rows.append({
            "ociVersion": state.OCI_VERSION, "id": record.id, "pid": 0 if status == "stopped" else record.pid,
            "status": status, "bundle": record.bundle, "rootfs": record.rootfs, "created": record.created,
            "owner": "root" if record.uid == 0 else str(record.uid),
        })
    if call.options.get("quiet"):
        for row in rows:
            print(row["id"])
    elif text(call.options, "format", "table") == "json":
        print(json.dumps(rows))
    else:
        print(f"{'ID':<12} {'PID':<11} {'STATUS':<11} {'BUNDLE':<20} {'CREATED':<32} OWNER")
        for row in rows:
            print(f"{row['id']:<12} {row['pid']:<11} {row['status']:<11} {row['bundle']:<20} {row['created']:<32} "
                  f"{row['owner']}")
    return 0


def ps(call: Call) -> int:
    """ps: the container's processes; --format json gives their pids, else ps(1)'s lines of them."""
    from corten.linux import cgroup

    pids = cgroup.processes(call.load().cgroup)
    if text(call.options, "format", "table") == "json":
        print(json.dumps(pids))
        return 0
    print(f"{'PID':>8} {'PPID':>8} {'UID':>6} CMD")
    for pid in pids:
        try:
            with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
                fields = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
            command = read_bytes(f"/proc/{pid}/cmdline").replace(b"\0", b" ").decode("utf-8", "replace").strip()
        except OSError:
            continue
        print(f"{pid:>8} {fields['PPid']:>8} {fields['Uid'].split()[0]:>6} {command or fields['Name']}")
    return 0


def pause(call: Call) -> int:
    """pause: freeze all processes."""
    from corten.linux import cgroup

    record = call.load()
    if record.status not in ("running", "created"):
        raise Conflict("container not running")
    cgroup.freeze(record.cgroup)
    return 0


def resume(call: Call) -> int:
    """resume: let a paused container go on."""
    from corten.linux import cgroup

    record = call.load()
    if record.status != "paused":
        raise Conflict("container not paused")
    cgroup.thaw(record.cgroup)
    return 0


def spec(call: Call) -> int:
    """spec: write a first config.json."""
    from corten.oci.runtime_spec import default_spec

    if call.options.get("rootless"):
        raise Unsupported("spec --rootless is not supported")
    path = os.path.join(text(call.options, "bundle", "."), "config.json")
    if os.path.exists(path):
        raise Conflict(f"File {path} exists. Remove it first")
    with open(path, "x", encoding="utf-8") as file:
        file.write(json.dumps(default_spec(), indent="\t") + "\n")
    return 0


def features(_call: Call) -> int:
    """features: what this runtime knows."""
    from corten.linux import capabilities, seccomp
    from corten.linux.seccomp_tables import ARCHITECTURES
    from corten.oci import runtime_spec
    from corten.runtime import mount_options

    operators = [f"SCMP_CMP_{word}" for word in seccomp.OPERATORS]
    document = runtime_spec.features(
        mount_options.words(), list(capabilities.NAMES), list(seccomp.ACTIONS), list(ARCHITECTURES), operators
    )
    print(json.dumps(document, indent=2))
    return 0


def _later(name: str) -> "Callable[[Call], int]":
    def refuse(_call: Call) -> int:
        raise Unsupported(f"{name} is not supported")

    return refuse


COMMANDS: "dict[str, tuple[Callable[[Call], int], dict[str, tuple[str, str]], bool]]" = {
    "create": (create, _CREATE, True),
    "start": (start, {}, True),
    "state": (show_state, {}, True),
    "kill": (kill, {"--all": ("all", FLAG), "-a": ("all", FLAG)}, True),
    "delete": (delete, {"--force": ("force", FLAG), "-f": ("force", FLAG)}, True),
    "exec": (exec_, _EXEC, False),
    "run": (run, _RUN, True),
    "list": (list_, {"--format": ("format", TEXT), "-f": ("format", TEXT), "--quiet": ("quiet", FLAG),
                     "-q": ("quiet", FLAG)}, True),
    "ps": (ps, {"--format": ("format", TEXT), "-f": ("format", TEXT)}, True),
    "pause": (pause, {}, True),
    "resume": (resume, {}, True),
    "spec": (spec, {"--bundle": ("bundle", TEXT), "-b": ("bundle", TEXT), "--rootless": ("rootless", FLAG)}, True),
    "features": (features, {}, True),
    **{name: (_later(name), {}, False) for name in ("update", "events", "checkpoint", "restore")},
}


def _log(options: "Options", message: str) -> None:
    """The last line of a failure: for a person on stderr, for a caller in the log file."""
    sys.stderr.write(f"corten-oci: {message}\n".replace("\n", " ").rstrip() + "\n")
    path = text(options, "log")
    if not path:
        return
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    if text(options, "log_format", "text") == "json":
        line = json.dumps({"level": "error", "msg": message, "time": now})
    else:
        line = f'time="{now}" level=error msg={json.dumps(message)}'
    try:
        with open(path, "a", encoding="utf-8") as file:
            file.write(line + "\n")
    except OSError:
        pass


def main() -> None:
    """The entry point. Exit codes: 0, the program's own (run, exec), 1 a failure, 255 exec's, 3 unknown command."""
    options: Options = {}
    name = ""
    try:
        options, words = parse(sys.argv[1:], _GLOBAL, interspersed=False)
        name = words[0] if words else ""
        sys.exit(_run(options, name, words[1:]))
    except (Error, OSError) as error:
        _log(options, str(error) if isinstance(error, Error) else str(from_exception(name, error)))
        code = 255 if name == "exec" else 1
    except RecursionError:
        _log(options, "config.json is nested too deep")
        code = 1
    sys.exit(code)


def _run(options: "Options", name: str, words: list[str]) -> int:
    from corten.oci.runtime_spec import VERSION

    if options.get("version"):
        print(f"corten-oci version 0.1.0\nspec: {VERSION}")
        return 0
    if options.get("help") or not name or name == "help":
        print(f"usage: corten-oci [--root DIR] [--log FILE] COMMAND ...\n\ncommands: {' '.join(COMMANDS)}")
        return 0
    if options.get("systemd"):
        raise Unsupported("--systemd-cgroup is not supported: cgroups are made through the cgroup file system")
    if name not in COMMANDS:
        _log(options, f"No help topic for '{name}'")
        return 3
    function, table, interspersed = COMMANDS[name]
    found, rest = parse(words, table, interspersed)
    return function(Call(os.path.abspath(text(options, "root") or DEFAULT_ROOT), found, rest))


if __name__ == "__main__":
    main()
