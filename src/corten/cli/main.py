"""`corten`: find the command, parse its flags, run it, end with docker's exit code. Nothing about any one command.

Standard library only, and little of it: what a command needs is imported when it runs.
"""

import os
import sys

from corten.cli.args import Option, Parser, Values
from corten.cli.client import Client
from corten.cli.commands import COMMANDS, GROUPS, NOT_INTERSPERSED, OLD_FLAGS, SPELLINGS
from corten.cli.errors import Failure, UsageError

DEFAULT_SOCKET = "/run/corten/corten.sock"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corten.cli.remote import Tls

_GLOBAL: tuple[Option, ...] = (
    ("config", "", "string", ""), ("debug", "D", "", ""), ("host", "H", "list", ""),
    ("log-level", "l", "string", ""), ("version", "v", "", ""), ("context", "c", "string", ""),
    ("tls", "", "", ""), ("tlsverify", "", "", ""), ("tlscacert", "", "string", ""),
    ("tlscert", "", "string", ""), ("tlskey", "", "string", ""),
)


class Cli:
    """What every command gets: the daemon, where the user's settings are, and how it was called."""

    def __init__(self, client: Client, config_dir: str, path: str, spelled: str) -> None:
        self.client = client
        self.config_dir = config_dir
        self.path = path
        self.spelled = spelled

    def out(self, text: str) -> None:
        """Write a line to stdout."""
        sys.stdout.write(text + "\n")

    def error(self, text: str) -> None:
        """Write a line to stderr, after what stdout holds."""
        sys.stdout.flush()
        sys.stderr.write(text + "\n")
        sys.stderr.flush()


def options_of(path: str) -> tuple[Option, ...]:
    """The table of a command's flags."""
    table = COMMANDS[path][6]
    if table == "options_run":
        from corten.cli import options_run

        return options_run.RUN if path == "container run" else options_run.CREATE
    if not table:
        return ()
    options: dict[str, tuple[Option, ...]] = load(table).OPTIONS  # type: ignore[attr-defined]
    return options.get(path, ())


def load(name: str) -> object:
    """A module of this package by name, without importlib."""
    full = f"corten.cli.{name}"
    __import__(full)
    return sys.modules[full]


def _client(values: Values, config_dir: str) -> Client:
    """The engine that flags and variables name, in docker's order; a context only where one is named."""
    hosts = values.many("host")
    if len(hosts) > 1:
        raise Failure("Specify only one -H")
    context = values.text("context")
    if hosts and context:
        raise Failure("conflicting options: cannot specify both --host and --context")
    host = hosts[0] if hosts else os.environ.get("CORTEN_HOST") or os.environ.get("DOCKER_HOST", "")
    if not host or context:
        context = context or os.environ.get("DOCKER_CONTEXT", "")
    if context and context != "default" and (not host or values.text("context")):
        from corten.cli.remote import context_endpoint

        host, tls = context_endpoint(context, config_dir)
        return Client(host, tls=tls)
    if not host:
        return Client(f"unix://{DEFAULT_SOCKET}", True)
    if host.startswith("/"):
        host = f"unix://{host}"
    host = host if "://" in host else f"tcp://{host}"
    return Client(host, tls=_tls(values) if host.startswith("tcp:") else None)


def _tls(values: Values) -> "Tls | None":
    """Encrypted where a flag says so, or DOCKER_TLS_VERIFY, as docker has it; DOCKER_CERT_PATH has the files."""
    verify = values.flag("tlsverify") if values.has("tlsverify") else bool(os.environ.get("DOCKER_TLS_VERIFY"))
    named = [values.text(name) for name in ("tlscacert", "tlscert", "tlskey")]
    if not (verify or values.flag("tls") or any(named)):
        return None
    from corten.cli.remote import Tls

    found = Tls.of(os.environ.get("DOCKER_CERT_PATH") or os.path.expanduser("~/.docker"), verify)
    found.ca, found.certificate, found.key = named[0] or found.ca, named[1] or found.certificate, named[2] or found.key
    return found


def _find(words: list[str]) -> tuple[str, int]:
    """The command's canonical path (a group's name, or empty) and how many words named it."""
    first = words[0]
    if first in GROUPS:
        second = next((word for word in words[1:2] if not word.startswith("-")), "")
        both = f"{first} {second}"
        path = both if both in COMMANDS else SPELLINGS.get(both, "")
        return (path, 2) if path else (first, 1)
    path = first if first in COMMANDS else SPELLINGS.get(first, "")
    return path, 1


def _unknown(spelled: str, group: str = "") -> Failure:
    usage = f"Usage:  corten {group}\n\n" if group else ""
    where = f"corten {group}".strip()
    return Failure(f"corten: unknown command: corten {spelled}\n\n{usage}Run '{where} --help' for more information")


def _group(group: str, words: list[str]) -> int:
    from corten.cli import help as helptext

    rest = [word for word in words if word not in ("--help", "-h")]
    if rest and rest[0].startswith("-"):
        name = rest[0]
        text = f"unknown flag: {name}" if name.startswith("--") else f"unknown shorthand flag: '{name[1:2]}' in {name}"
        usage = f"Usage:  corten {group}\n\nRun 'corten {group} --help' for more information"
        raise Failure(f"{text}\n\n{usage}", 125)
    if rest:
        raise _unknown(f"{group} {rest[0]}", group)
    sys.stdout.write(helptext.group_help(group) + "\n")
    return 0


def _count_error(path: str, spelled: str, count: int) -> Failure | None:
    low, high = COMMANDS[path][3], COMMANDS[path][4]
    if count >= low and (high < 0 or count <= high):
        return None
    plural = "argument" if max(low, high) == 1 or (high < 0 and low == 1) else "arguments"
    see = "Run"
    if high == 0:
        need = "accepts no arguments"
    elif high < 0:
        need, see = f"requires at least {low} {plural}", "See"
    elif low == high:
        need = f"requires {low} {plural}"
    elif low == 0:
        need = f"requires at most {high} {plural}"
    else:
        need = f"requires at least {low} and at most {high} {plural}"
    from corten.cli.help import usage_line

    return Failure(
        f"corten: 'corten {spelled}' {need}\n\n{usage_line(path, spelled)}\n\n"
        f"{see} 'corten {spelled} --help' for more information"
    )


def usage_failure(cli: Cli, text: str) -> Failure:
    """A wrong flag as docker reports it: the text, the usage line, 125."""
    from corten.cli.help import usage_line

    more = f"{usage_line(cli.path, cli.spelled)}\n\nRun 'corten {cli.spelled} --help' for more information"
    return Failure(f"{text}\n\n{more}", 125)


def _command(path: str, spelled: str, words: list[str], client: Client, config_dir: str) -> int:
    options = options_of(path)
    cli = Cli(client, config_dir, path, spelled)
    parser = Parser(options, path not in NOT_INTERSPERSED, OLD_FLAGS.get(path))
    try:
        values = parser.parse(words)
    except UsageError as error:
        raise usage_failure(cli, error.text) from None
    if values.given.get("help"):
        from corten.cli.help import command_help

        cli.out(command_help(path, spelled, options))
        return 0
    for warning in parser.warnings:
        cli.error(warning)
    wrong = _count_error(path, spelled, len(values.rest))
    if wrong:
        raise wrong
    module, _, function = COMMANDS[path][0].partition(".")
    result = getattr(load(module), function)(cli, values)
    return result if isinstance(result, int) else 0


def run(words: list[str]) -> int:
    """One command line, without the program's name; the exit code. Raises Failure."""
    parser = Parser(_GLOBAL, interspersed=False)
    try:
        values = parser.parse(words)
    except UsageError as error:
        usage = "Usage:  corten [OPTIONS] COMMAND [ARG...]\n\nRun 'corten --help' for more information"
        raise Failure(f"{error.text}\n\n{usage}", 125) from None
    if values.flag("version"):
        from corten import __version__

        sys.stdout.write(f"corten version {__version__}\n")
        return 0
    rest = values.rest
    if values.given.get("help") or not rest or rest == ["help"]:
        from corten.cli.help import main_help

        sys.stdout.write(main_help() + "\n")
        return 0
    if rest[0] == "daemon":
        from corten.cli.autostart import exec_daemon

        exec_daemon(rest[1:])
    if rest[0] == "help":
        rest = [*rest[1:], "--help"]
        if not _find(rest)[0]:
            raise Failure(f"unknown help topic: {' '.join(rest[:-1])}")
    path, used = _find(rest)
    if path in GROUPS:
        return _group(path, rest[used:])
    if not path:
        raise _unknown(rest[0])
    config_dir = values.text("config") or os.environ.get("DOCKER_CONFIG") or os.path.expanduser("~/.docker")
    return _command(path, " ".join(rest[:used]), rest[used:], _client(values, config_dir), config_dir)


def _silence() -> None:
    """Nobody reads stdout any more: keep the interpreter's own last flush from complaining."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)


def main(words: list[str] | None = None) -> int:
    """The console script: errors to stderr, exit code returned."""
    try:
        code = run(sys.argv[1:] if words is None else words)
        sys.stdout.flush()
        return code
    except Failure as failure:
        try:
            sys.stdout.flush()
        except BrokenPipeError:
            _silence()
        if failure.text:
            sys.stderr.write(failure.text + "\n")
        return failure.code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        _silence()
        return 141


def start() -> None:
    """Run and end at once: nothing is left to tidy, which saves the interpreter's own end."""
    status = main()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    start()
