"""Exits, read before the process is reaped, and put on record so that no kill -9 in between loses a code.

When each is written, told and reaped is endings.py's matter."""

import json
import os
import time

from corten.base.files import atomic_write
from corten.linux.pidfd import exit_code


def peek(pid: int) -> int | None:
    """The wait status of our child `pid` if it has exited, leaving it to be reaped; None while it runs.

    waitid(2) with WNOWAIT. Raises ChildProcessError when it is not our child.
    """
    found = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    return None if found is None else _status(found)


def peek_any() -> tuple[int, int] | None:
    """Pid and wait status of some exited child, left to be reaped. Raises ChildProcessError without children."""
    found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    return None if found is None else (found.si_pid, _status(found))


def reap(pid: int) -> None:
    """Let the kernel forget an exited child."""
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG)
    except ChildProcessError:
        pass


def _status(found: os.waitid_result) -> int:
    if found.si_code == os.CLD_EXITED:
        return found.si_status << 8
    return found.si_status | (0x80 if found.si_code == os.CLD_DUMPED else 0)


def oom_kills(path: str) -> bool:
    """Whether the kernel killed for want of memory in the cgroup whose memory.oom_control or memory.events this is."""
    try:
        with open(path, "rb") as file:
            for line in file:
                if line.startswith(b"oom_kill "):
                    return int(line[9:]) > 0
    except (OSError, ValueError):
        pass
    return False


def record_exit(folder: str, key: str, status: int, oom_path: str) -> dict[str, object]:
    """Write `<folder>/<key>.json` unless it is there already; returns what it says.

    {"id", "exec_id", "status" (exit code as a shell counts), "time_ns", "oom"}. Raises OSError when the folder is full.
    """
    path = f"{folder}/{key}.json"
    kept = read_exit(path)
    if kept is not None:
        return kept
    record = exit_record(key, status, oom_path)
    atomic_write(path, json.dumps(record).encode())
    return record


def exit_record(key: str, status: int, oom_path: str) -> dict[str, object]:
    """What there is to say of an exit that happened just now; not written anywhere."""
    container_id, _, exec_id = key.partition(".")
    return {
        "id": container_id, "exec_id": exec_id or None, "status": exit_code(status), "time_ns": time.time_ns(),
        "oom": oom_kills(oom_path) if oom_path else False,
    }


def read_exit(path: str) -> dict[str, object] | None:
    """What an exit file says; None when it is absent or damaged."""
    try:
        with open(path, "rb") as file:
            record = json.loads(file.read(4096))
    except (OSError, ValueError, RecursionError):
        return None
    sound = isinstance(record, dict) and type(record.get("status")) is int and type(record.get("time_ns")) is int
    return record if sound and type(record.get("oom")) is bool else None
