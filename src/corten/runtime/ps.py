"""corten-oci ps: the container's processes, as JSON numbers, as a table, or through ps(1) with the caller's options."""

import json
import subprocess
import time

from corten.base.errors import InvalidArgument
from corten.linux import cgroup, proc
from corten.runtime.options import text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corten.runtime.command import Call


def run(call: "Call") -> int:
    """ps: --format json gives pids, else a table like `ps -ef`'s; words after the id are options for the host's ps."""
    style = text(call.options, "format", "table")
    pids = cgroup.processes(call.load().cgroup)
    if style == "json":
        print(json.dumps(pids, separators=(",", ":")))
    elif style != "table":
        raise InvalidArgument("invalid format option")
    elif call.words[1:]:
        _ask_ps(pids, call.words[1:])
    else:
        _print_table(pids)
    return 0


def _ask_ps(pids: list[int], options: list[str]) -> None:
    """Only the caller knows what these options print: the host's own ps runs, and its lines of our pids are kept."""
    try:
        done = subprocess.run(["ps", *options], capture_output=True, text=True, errors="replace", check=True)
    except subprocess.CalledProcessError as error:
        raise InvalidArgument(f"exit status {error.returncode}: {error.stdout}{error.stderr}") from None
    lines = done.stdout.splitlines()
    headings = lines[0].split() if lines else []
    if "PID" not in headings:
        raise InvalidArgument("couldn't find PID field in ps output")
    column, wanted = headings.index("PID"), {str(pid) for pid in pids}
    print(lines[0])
    for line in lines[1:]:
        if line.split()[column:column + 1] and line.split()[column] in wanted:
            print(line)


def _print_table(pids: list[int]) -> None:
    users, boot, now = proc.user_names(), proc.boot_seconds(), time.time()
    print(f"{'UID':<8} {'PID':>7} {'PPID':>7}  C STIME TTY          TIME CMD")
    for pid in pids:
        try:
            found = proc.Process(pid)
        except OSError:
            continue  # ended meanwhile
        began = boot + found.start_ticks / proc.CLOCK_TICKS
        used = (found.user_ticks + found.system_ticks) // proc.CLOCK_TICKS
        share = min(99, int(used * 100 / max(1.0, now - began)))
        form = "%H:%M" if now - began < 86400 else "%b%d"
        user = users.get(found.uid, str(found.uid))
        clock = f"{used // 3600:02}:{used // 60 % 60:02}:{used % 60:02}"
        print(f"{user:<8} {pid:>7} {found.parent:>7} {share:>2} {time.strftime(form, time.localtime(began)):<5} "
              f"{proc.terminal_name(found.terminal):<8} {clock:>8} {found.command}")
