"""corten-oci: an OCI runtime's command line, as containerd, podman and dockerd call runc.

Starts in milliseconds, so it reads options by a table and imports nothing big. An error is one line on stderr and one
object in the log (--log), never a traceback.
"""

import posix
import sys

from corten.base import import_cache
from corten.base.errors import Error, InvalidArgument
from corten.runtime.command_table import COMMANDS, GLOBAL
from corten.runtime.errors import EXECUTE, StepFailed, from_exception
from corten.runtime.options import BadUsage, absolute, parse, text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corten.runtime.command_table import Command
    from corten.runtime.options import Options

NAME = "corten-oci"
# before what went wrong, in runc's words: callers look for them
_PREFIXES = {"create": "runc create failed: ", "run": "runc run failed: ", "exec": "exec failed: "}
DEFAULT_ROOT = "/run/corten-oci"
_TRUTH = {"true": True, "1": True, "t": True, "false": False, "0": False, "f": False, "auto": None, "": None}


def _program() -> str:
    """The name we were called by: whoever put us in another runtime's place reads that one's name."""
    name = sys.argv[0].rpartition("/")[2]
    return name if name and name[0] != "-" and not name.endswith(".py") else NAME


def _stamp() -> str:
    import time

    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def log(options: "Options", level: str, message: str) -> bool:
    """Append one entry to the file of --log, as text or JSON; False when there is no such file."""
    path = text(options, "log")
    if not path:
        return False
    import json

    if text(options, "log_format", "text") == "json":
        line = json.dumps({"level": level, "msg": message, "time": _stamp()}, separators=(",", ":"))
    else:
        line = f'time="{_stamp()}" level={level} msg={json.dumps(message)}'
    try:
        descriptor = posix.open(path, posix.O_WRONLY | posix.O_CREAT | posix.O_APPEND | posix.O_CLOEXEC, 0o644)
        posix.write(descriptor, f"{line}\n".encode("utf-8", "surrogateescape"))
        posix.close(descriptor)
    except OSError:
        return False
    return True


def tell(options: "Options", level: str, message: str) -> None:
    """A line into the log, else on stderr; `debug` only with --debug."""
    if (level != "debug" or options.get("debug")) and not log(options, level, message):
        import json

        sys.stderr.write(f'time="{_stamp()}" level={level} msg={json.dumps(message)}\n')


def _report(options: "Options", error: BaseException, name: str) -> None:
    """The last line of a failure: for a person on stderr, for a caller in the log file."""
    message = str(error) if isinstance(error, Error) else _of_system(name, error)
    prefix = "" if isinstance(error, BadUsage) else _PREFIXES.get(name, "")
    if not message.startswith(prefix):
        message = f"{prefix}{message}"
    log(options, "error", message)
    refused = isinstance(error, StepFailed) and error.step == EXECUTE  # all that was ours to do had been done
    line = error.detail if isinstance(error, StepFailed) and refused else f"{_program()}: {message}"
    sys.stderr.write(line.replace("\n", " ").rstrip() + "\n")


def _of_system(name: str, error: BaseException) -> str:
    """What a system call refused. One that says nothing of itself is the opening of a file."""
    failure = from_exception("open", error)
    if failure.path and not failure.syscall:
        return str(failure).replace("open: ", "open ", 1)
    return str(from_exception(name, error))


def main() -> None:
    """The entry point. Exit codes: 0, the program's own (run, exec), 1 a failure, 255 exec's, 3 unknown command."""
    import_cache.install()
    options: Options = {}
    name = ""
    try:
        options, words = parse(sys.argv[1:], GLOBAL, interspersed=False)
        name = words[0] if words else ""
        code = _run(options, name, words[1:])
        sys.stdout.flush()
    except (Error, OSError) as error:
        _report(options, error, name)
        code = 255 if name == "exec" and not isinstance(error, BadUsage) else 1
    except RecursionError:
        _report(options, InvalidArgument("config.json is nested too deep"), name)
        code = 1
    sys.stderr.flush()
    import_cache.save()
    posix._exit(code)  # nothing is left to do that the kernel does not do faster


def _root(options: "Options") -> str:
    """The folder of states: --root, else the user's own below XDG_RUNTIME_DIR, else the machine's."""
    if "root" in options:
        root = absolute(text(options, "root"))
        if root == "/":
            raise InvalidArgument("Option --root argument should not be set to /")
        return root
    own = posix.environ.get(b"XDG_RUNTIME_DIR")
    if own and posix.geteuid() != 0:
        return f"{own.decode('utf-8', 'surrogateescape')}/{NAME}"
    return DEFAULT_ROOT


def _run(options: "Options", name: str, words: list[str]) -> int:
    if text(options, "log"):  # one that cannot be written is told before anything is done
        flags = posix.O_WRONLY | posix.O_CREAT | posix.O_APPEND | posix.O_CLOEXEC
        posix.close(posix.open(text(options, "log"), flags, 0o644))
    if text(options, "log_format") not in ("", "text", "json"):
        raise InvalidArgument(f"invalid log-format: {text(options, 'log_format')}")
    if options.get("version"):
        from corten.oci.runtime_spec import VERSION

        print(f"{_program()} version 0.1.0\ncommit: 0.1.0\nspec: {VERSION}")
        return 0
    if not name or name in ("help", "h") or options.get("help"):
        return _help(words[0] if words and name else "")
    command = COMMANDS.get(name)
    if command is None:
        _report(options, InvalidArgument(f"No help topic for '{name}'"), name)
        return 3
    found, rest = parse(words, command.flags, command.interspersed)
    if found.get("help"):
        return _help(name)
    command.check(name, len(rest))
    return _call(options, command, found, rest)


def _call(options: "Options", command: "Command", found: "Options", rest: list[str]) -> int:
    from corten.runtime.command import Call

    rootless = text(options, "rootless")
    if rootless.lower() not in _TRUTH:
        raise InvalidArgument(f"invalid value {rootless!r} for flag --rootless: true, false or auto")
    call = Call(
        _root(options), found, rest, root_given="root" in options, systemd=bool(options.get("systemd")),
        rootless=_TRUTH[rootless.lower()], debugging=bool(options.get("debug")),
        tell=lambda level, message: tell(options, level, message),
    )
    module, _, function = command.place.partition(".")
    tell(options, "debug", f"{function} {' '.join(rest[:1])}, pid {posix.getpid()}, root {call.root}")
    code: int = getattr(__import__(f"corten.runtime.{module}", fromlist=(function,)), function)(call)
    tell(options, "debug", f"{function} done: {code}")
    return code


def _help(name: str) -> int:
    program = _program()
    if name in COMMANDS:
        command = COMMANDS[name]
        print(f"NAME:\n   {program} {name} - {command.about}\n\nUSAGE:\n   {program} {name} [options] {command.words}")
        flags = command.flags
    else:
        print(f"NAME:\n   {program} - Open Container Initiative runtime\n\n"
              f"USAGE:\n   {program} [global options] command [command options] [arguments...]\n\nCOMMANDS:")
        for each, command in COMMANDS.items():
            print(f"   {each:<12} {command.about}")
        flags = GLOBAL
    written: dict[str, list[str]] = {}
    for flag, (key, kind) in flags.items():
        written.setdefault(f"{key} {kind}", []).append(flag)
    print("\nOPTIONS:")
    for key, names in written.items():
        print(f"   {', '.join(names)}{'' if key.endswith(' flag') else ' value'}")
    return 0


if __name__ == "__main__":
    main()
