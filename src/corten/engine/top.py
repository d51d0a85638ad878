"""The processes of a container as ps would show them: GET /containers/{id}/top. /proc is read; ps is never run."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from corten.base.errors import Conflict, Error, Unsupported
from corten.linux import cgroup
from corten.linux.proc import CLOCK_TICKS, Process, boot_seconds, machine_cpu, memory_bytes, terminal_name, user_names

if TYPE_CHECKING:
    from corten.engine.engine import Engine


class _Machine:
    """What columns need beside the process: read once an answer."""

    def __init__(self) -> None:
        self.users = user_names()
        self.boot = boot_seconds()
        self.now = time.time()
        self.memory = memory_bytes() or 1
        self.processors = machine_cpu()[1] or 1

    def age(self, process: Process) -> float:
        return max(0.01, self.now - self.boot - process.start_ticks / CLOCK_TICKS)

    def user(self, process: Process) -> str:
        name = self.users.get(process.uid, str(process.uid))
        return name if len(name) <= 8 else name[:7] + "+"

    def started(self, process: Process) -> str:
        at = self.boot + process.start_ticks / CLOCK_TICKS
        form = "%H:%M" if self.now - at < 86400 else "%b%d"
        return time.strftime(form, time.localtime(at))

    def cpu(self, process: Process) -> float:
        return (process.user_ticks + process.system_ticks) / CLOCK_TICKS / self.age(process) * 100


def _clock(seconds: float, hours: bool = True) -> str:
    whole = int(seconds)
    if hours:
        days, rest = divmod(whole, 86400)
        text = f"{rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}"
        return f"{days}-{text}" if days else text
    return f"{whole // 60}:{whole % 60:02}"


def _used(process: Process) -> float:
    return (process.user_ticks + process.system_ticks) / CLOCK_TICKS


def _elapsed(process: Process, machine: _Machine) -> str:
    seconds = int(machine.age(process))
    text = _clock(seconds)
    return text if seconds >= 3600 else text[3:]


def _state(process: Process) -> str:
    marks = "<" if process.nice < 0 else "N" if process.nice > 0 else ""
    marks += "s" if process.session == process.pid else ""
    marks += "l" if process.threads > 1 else ""
    marks += "+" if process.terminal and process.terminal_group == process.process_group else ""
    return process.state + marks


Column = Callable[[Process, _Machine], str]

# ps(1): name after -o -> (header, value)
COLUMNS: dict[str, tuple[str, Column]] = {
    "pid": ("PID", lambda p, m: str(p.pid)),
    "ppid": ("PPID", lambda p, m: str(p.parent)),
    "pgid": ("PGID", lambda p, m: str(p.process_group)),
    "sid": ("SID", lambda p, m: str(p.session)),
    "uid": ("UID", lambda p, m: str(p.uid)),
    "user": ("USER", lambda p, m: m.user(p)),
    "comm": ("COMMAND", lambda p, m: p.name),
    "cmd": ("CMD", lambda p, m: p.command),
    "args": ("COMMAND", lambda p, m: p.command),
    "command": ("COMMAND", lambda p, m: p.command),
    "c": ("C", lambda p, m: str(int(m.cpu(p)))),
    "%cpu": ("%CPU", lambda p, m: f"{m.cpu(p):.1f}"),
    "%mem": ("%MEM", lambda p, m: f"{p.resident_bytes * 100 / m.memory:.1f}"),
    "vsz": ("VSZ", lambda p, m: str(p.virtual_bytes // 1024)),
    "rss": ("RSS", lambda p, m: str(p.resident_bytes // 1024)),
    "tty": ("TT", lambda p, m: terminal_name(p.terminal)),
    "stat": ("STAT", lambda p, m: _state(p)),
    "s": ("S", lambda p, m: p.state),
    "stime": ("STIME", lambda p, m: m.started(p)),
    "time": ("TIME", lambda p, m: _clock(_used(p))),
    "etime": ("ELAPSED", _elapsed),
    "nlwp": ("NLWP", lambda p, m: str(p.threads)),
    "ni": ("NI", lambda p, m: str(p.nice)),
    "pri": ("PRI", lambda p, m: str(39 - p.priority)),
}
_ALIASES = {
    "pcpu": "%cpu", "pmem": "%mem", "vsize": "vsz", "rssize": "rss", "tt": "tty", "tname": "tty", "state": "s",
    "ucmd": "comm", "ucomm": "comm", "euser": "user", "uname": "user", "euid": "uid", "pgrp": "pgid", "sess": "sid",
    "session": "sid", "cputime": "time", "nice": "ni", "thcount": "nlwp", "rsz": "rss", "start_time": "stime",
}
Table = list[tuple[str, Column]]
_FULL: Table = [
    ("UID", COLUMNS["user"][1]), COLUMNS["pid"], COLUMNS["ppid"], COLUMNS["c"], COLUMNS["stime"],
    ("TTY", COLUMNS["tty"][1]), COLUMNS["time"], COLUMNS["cmd"],
]
_BSD: Table = [
    COLUMNS["user"], COLUMNS["pid"], COLUMNS["%cpu"], COLUMNS["%mem"], COLUMNS["vsz"], COLUMNS["rss"],
    ("TTY", COLUMNS["tty"][1]), COLUMNS["stat"], ("START", COLUMNS["stime"][1]),
    ("TIME", lambda p, m: _clock(_used(p), hours=False)), COLUMNS["args"],
]


def table_of(arguments: str) -> Table:
    """The columns ps's arguments ask for. Raises Unsupported for those we do not know, Error when PID is missing."""
    words = arguments.split()
    if not words or words in (["-ef"], ["-fe"], ["-e", "-f"], ["-f"], ["ef"]):
        return _FULL
    if words in (["aux"], ["-aux"], ["au"], ["ax", "u"], ["u"], ["auxw"], ["auxww"]):
        return _BSD
    text = arguments.strip()
    for head in ("-eo", "-axo", "axo", "-Ao", "-o", "o", "-e -o", "--format"):
        if text.startswith(head) and text[len(head):len(head) + 1] in (" ", "=", ""):
            return _chosen(text[len(head):].strip(" ="))
    raise Unsupported(f"top: ps arguments {arguments!r} are not supported by this engine")


def _chosen(text: str) -> Table:
    table: Table = []
    for name in text.replace(" -o ", ",").replace(",", " ").split():
        name, equal, header = name.partition("=")
        column = COLUMNS.get(_ALIASES.get(name.lower(), name.lower()))
        if column is None:
            raise Unsupported(f'top: unknown user-defined format specifier "{name}"')
        table.append((header, column[1]) if equal else column)
    if not any(header == "PID" for header, _ in table):
        raise Error("Couldn't find PID field in ps output")
    return table


def top(engine: "Engine", ref: str, arguments: str) -> dict[str, Any]:
    """{"Titles": […], "Processes": [[…]]} in order of pid. Raises NotFound, Conflict, Unsupported."""
    record = engine.containers.get(ref)
    if not record.running:
        raise Conflict(
            f"container {record.id} is restarting, wait until the container is running"
            if record.state.status == "restarting" else f"container {record.id} is not running"
        )
    table = table_of(arguments)
    machine = _Machine()
    rows = []
    for pid in sorted(set(cgroup.processes(engine.cgroup_of(record))) | {record.state.pid}):
        try:
            process = Process(pid)
        except OSError:
            continue  # gone meanwhile
        rows.append([value(process, machine) for _, value in table])
    return {"Titles": [header for header, _ in table], "Processes": rows}
