"""What /proc tells of processes, the machine and network interfaces. proc(5). Standard library only; our own /proc."""

import posix

CLOCK_TICKS = posix.sysconf("SC_CLK_TCK")
PAGE_BYTES = posix.sysconf("SC_PAGE_SIZE")


class Process:
    """One process as `/proc/<pid>/{stat,status,cmdline}` show it; times in clock ticks, memory in bytes."""

    __slots__ = (
        "command", "name", "nice", "parent", "pid", "priority", "process_group", "resident_bytes", "session",
        "start_ticks", "state", "system_ticks", "terminal", "terminal_group", "threads", "uid", "user_ticks",
        "virtual_bytes",
    )

    def __init__(self, pid: int) -> None:
        """Raises FileNotFoundError, ProcessLookupError when it is gone."""
        stat = read_text(f"/proc/{pid}/stat")
        name, _, rest = stat.partition("(")[2].rpartition(")")
        fields = rest.split()
        self.pid = pid
        self.name = name
        self.state = fields[0]
        self.parent, self.process_group, self.session, terminal, self.terminal_group = map(int, fields[1:6])
        self.terminal = terminal & 0xFFFFFFFF
        self.user_ticks, self.system_ticks = int(fields[11]), int(fields[12])
        self.priority, self.nice, self.threads = int(fields[15]), int(fields[16]), int(fields[17])
        self.start_ticks = int(fields[19])
        self.virtual_bytes, self.resident_bytes = int(fields[20]), int(fields[21]) * PAGE_BYTES
        self.uid = posix.stat(f"/proc/{pid}").st_uid
        line = read_text(f"/proc/{pid}/cmdline").rstrip("\0").replace("\0", " ")
        self.command = line or f"[{name}]"


def read_text(path: str, limit: int = 1 << 20) -> str:
    """A file of /proc. Raises OSError."""
    descriptor = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        parts = []
        while limit > 0 and (part := posix.read(descriptor, min(limit, 1 << 16))):
            parts.append(part)
            limit -= len(part)
    finally:
        posix.close(descriptor)
    return b"".join(parts).decode("utf-8", "replace")


def boot_seconds() -> int:
    """When the machine was started, in seconds since 1970."""
    for line in read_text("/proc/stat").splitlines():
        if line.startswith("btime "):
            return int(line.split()[1])
    return 0


def machine_cpu() -> tuple[int, int]:
    """(all time of all processors in ns: user nice system idle iowait irq softirq; processors that are online)."""
    total = processors = 0
    for line in read_text("/proc/stat").splitlines():
        if line.startswith("cpu "):
            total = sum(int(word) for word in line.split()[1:8]) * (1_000_000_000 // CLOCK_TICKS)
        elif line.startswith("cpu"):
            processors += 1
        else:
            break
    return total, processors


def memory_bytes() -> int:
    """MemTotal."""
    for line in read_text("/proc/meminfo").splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    return 0


_COUNTERS = (
    "rx_bytes", "rx_packets", "rx_errors", "rx_dropped", "", "", "", "", "tx_bytes", "tx_packets", "tx_errors",
    "tx_dropped",
)


def interfaces(pid: int) -> dict[str, dict[str, int]]:
    """The counters of each interface (without loopback) in the network namespace of a process. Raises OSError."""
    found = {}
    for line in read_text(f"/proc/{pid}/net/dev").splitlines()[2:]:
        name, _, rest = line.partition(":")
        numbers = rest.split()
        if name.strip() != "lo" and len(numbers) >= len(_COUNTERS):
            found[name.strip()] = {key: int(numbers[at]) for at, key in enumerate(_COUNTERS) if key}
    return found


def terminal_name(device: int) -> str:
    """`pts/3`, `tty1`, or `?` for none. tty_nr of proc(5)."""
    major, minor = (device >> 8) & 0xFFF, (device & 0xFF) | ((device >> 12) & 0xFFF00)
    if 136 <= major <= 143:
        return f"pts/{minor + (major - 136) * 256}"
    if major == 4:
        return f"tty{minor}"
    return "?"


def user_names() -> dict[int, str]:
    """uid -> name of the machine's /etc/passwd; no NSS."""
    names: dict[int, str] = {}
    try:
        text = read_text("/etc/passwd")
    except OSError:
        return names
    for line in text.splitlines():
        fields = line.split(":")
        if len(fields) > 2 and fields[2].isascii() and fields[2].isdigit():
            names.setdefault(int(fields[2]), fields[0])
    return names
