"""What `lsns` shows: each namespace once, with the number of its processes and the first of them. Needs root.

    python3 docs/kernel/examples/list_namespaces.py [net|mnt|pid|uts|ipc|user|cgroup|time]

A process's namespaces are the links in /proc/<pid>/ns: the user's view of task_struct.nsproxy.
"""

import os
import sys

from corten.linux.namespaces import FLAGS


def namespaces(kind: str) -> dict[int, list[int]]:
    """Inode number of the namespace -> pids in it, smallest first."""
    found: dict[int, list[int]] = {}
    for pid in sorted(int(name) for name in os.listdir("/proc") if name.isdigit()):
        try:
            inode = os.stat(f"/proc/{pid}/ns/{kind}").st_ino
        except OSError:
            continue  # ended meanwhile
        found.setdefault(inode, []).append(pid)
    return found


def command_of(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read().decode("utf-8", "replace").split("\0")
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
            return " ".join(words).strip() or f"[{file.read().strip()}]"
    except OSError:
        return "?"


def main() -> None:
    kinds = sys.argv[1:] or sorted(FLAGS)
    print(f"{'NS':>12} {'TYPE':8}{'NPROCS':>6} {'PID':>7} COMMAND")
    for kind in kinds:
        for inode, pids in namespaces(kind).items():
            print(f"{inode:>12} {kind:8}{len(pids):>6} {pids[0]:>7} {command_of(pids[0])[:60]}")


if __name__ == "__main__":
    main()
