"""Help and usage texts in docker's layout. Imported only when one is shown."""

import os

from corten.cli.args import Option
from corten.cli.commands import COMMANDS, GROUPS

_COMMON = ("run", "exec", "ps", "build", "pull", "push", "images", "login", "logout", "version", "info")
_GLOBAL: tuple[Option, ...] = (
    ("config", "", "string", 'Location of client config files (default "~/.docker")'),
    ("debug", "D", "", "Enable debug mode"),
    ("host", "H", "list", "Daemon socket to connect to"),
    ("log-level", "l", "string", 'Set the logging level ("debug", "info", "warn", "error", "fatal")', "info"),
    ("version", "v", "", "Print version information and quit"),
)


def _width() -> int:
    for descriptor in (0, 1, 2):
        try:
            return os.get_terminal_size(descriptor).columns or 80
        except OSError:
            continue
    return 80


def _take_line(text: str, room: int, slack: int) -> tuple[str, str]:
    if len(text) < room + slack:
        return text, ""
    head = text[:room]
    cut = max(head.rfind(" "), head.rfind("\t"), head.rfind("\n"))
    if cut <= 0:
        return text, ""
    newline = head.rfind("\n")
    if 0 < newline < cut:
        cut = newline
    return text[:cut], text[cut + 1:]


def _wrapped(text: str, indent: int, width: int) -> str:
    """Break at blanks so that a line stays within the width; a last word may run five columns over."""
    room = width - indent
    begin = ""
    if room < 24:
        indent, room = 16, width - 16
        begin = "\n" + " " * indent
    if room < 24:
        return text.replace("\n", begin)
    lines: list[str] = []
    while text:
        line, text = _take_line(text, room - 5, 5)
        lines.append(line)
    return begin + "\n".join(lines).replace("\n", "\n" + " " * indent)


def option_lines(options: tuple[Option, ...]) -> str:
    """The block under `Options:`; the short ones first in the line, sorted as in the table."""
    rows = []
    for option in options:
        name, short, kind, text = (str(part) for part in option[:4])
        left = (f"  -{short}, --{name}" if short else f"      --{name}") + (f" {kind}" if kind else "")
        rows.append((left, text))
    column = max((len(left) for left, _ in rows), default=0) + 3
    width = _width() - 1
    return "\n".join(left.ljust(column) + _wrapped(text, column, width) for left, text in rows)


def usage_line(path: str, spelled: str) -> str:
    """`Usage:  corten ps [OPTIONS]`."""
    if not path:
        return "Usage:  corten [OPTIONS] COMMAND [ARG...]"
    if path in GROUPS:
        return f"Usage:  corten {spelled}"
    return f"Usage:  corten {spelled} {COMMANDS[path][1]}".rstrip()


def command_help(path: str, spelled: str, options: tuple[Option, ...]) -> str:
    """All that `corten X --help` prints."""
    entry = COMMANDS[path]
    parts = [usage_line(path, spelled), "", entry[2].rpartition("\f")[2], ""]
    if entry[5]:
        parts += ["Aliases:", "  " + ", ".join(f"corten {name}" for name in (path, *entry[5])), ""]
    if options:
        parts += ["Options:", option_lines(options)]
    return "\n".join(parts).rstrip("\n")


def _listing(rows: list[tuple[str, str]], width: int) -> str:
    return "\n".join(f"  {name.ljust(width)} {text}" for name, text in rows)


def _line(text: str) -> str:
    """A command's help in one line."""
    return text.partition("\f")[0].partition("\n")[0]


def group_help(group: str) -> str:
    """All that `corten container` prints."""
    rows = [(path.split()[1], _line(entry[2])) for path, entry in COMMANDS.items() if path.startswith(group + " ")]
    rows += [(alias.split()[1], _line(entry[2])) for path, entry in COMMANDS.items() for alias in entry[5]
             if alias.startswith(group + " ") and not path.startswith(group + " ") and len(alias) > len(group) + 2]
    return (
        f"Usage:  corten {group} COMMAND\n\n{GROUPS[group]}\n\nCommands:\n{_listing(sorted(rows), 11)}\n\n"
        f"Run 'corten {group} COMMAND --help' for more information on a command."
    )


def main_help() -> str:
    """All that `corten --help` prints."""
    top: dict[str, str] = {}
    for path, entry in COMMANDS.items():
        for name in (path, *entry[5]):
            if " " not in name:
                top[name] = _line(entry[2])
    common = [(name, top.pop(name)) for name in _COMMON]
    rest = [*sorted(top.items()), ("daemon", "Run the engine in the foreground")]
    return (
        "Usage:  corten [OPTIONS] COMMAND\n\nA container engine in Python\n\n"
        f"Common Commands:\n{_listing(common, 11)}\n\n"
        f"Management Commands:\n{_listing(sorted(GROUPS.items()), 11)}\n\n"
        f"Commands:\n{_listing(sorted(rest), 11)}\n\n"
        f"Global Options:\n{option_lines(_GLOBAL)}\n\n"
        "Run 'corten COMMAND --help' for more information on a command."
    )
