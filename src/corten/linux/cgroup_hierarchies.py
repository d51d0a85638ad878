"""Where the machine has its control groups: v1 hierarchies by controller, the v2 tree, or both side by side."""

V1_CONTROLLERS = frozenset((
    "cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "net_cls", "net_prio", "blkio", "perf_event", "hugetlb",
    "pids", "rdma", "misc",
))


class Hierarchies:
    """Where the hierarchies are mounted: `v1` maps a controller to its mount, `unified` is v2's or ""."""

    __slots__ = ("controllers", "mounts", "unified", "v1")

    def __init__(self, mountinfo: str) -> None:
        self.v1: dict[str, str] = {}
        self.unified = ""
        self.mounts: list[str] = []  # every v1 mount point once, in order
        for line in mountinfo.splitlines():
            left, _, right = line.partition(" - ")
            kind, _, options = right.split(" ", 2)
            point = left.split(" ")[4]
            if "\\" in point:
                point = point.encode().decode("unicode_escape")
            if kind == "cgroup2" and not self.unified:
                self.unified = point
            elif kind == "cgroup" and point not in self.mounts:
                words = options.split(",")
                named = [word for word in words if word.startswith("name=")]
                found = named or [word for word in words if word in V1_CONTROLLERS]
                if found and not any(name in self.v1 for name in found):
                    self.mounts.append(point)
                    self.v1.update(dict.fromkeys(found, point))
        self.controllers = read_words(f"{self.unified}/cgroup.controllers") if self.unified and not self.v1 else []


_found: Hierarchies | None = None


def hierarchies() -> Hierarchies:
    """This machine's, found once."""
    global _found
    if _found is None:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            _found = Hierarchies(file.read())
    return _found


def read_words(path: str) -> list[str]:
    """The words of a small file; [] when it cannot be read."""
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().split()
    except OSError:
        return []
