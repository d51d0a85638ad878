"""The commands of corten-oci: where each is, its flags, how many words it takes. Data; nothing is imported for it."""

from corten.runtime.options import FLAG, MANY, TEXT, BadUsage

TYPE_CHECKING = False
if TYPE_CHECKING:
    Flags = dict[str, tuple[str, str]]

GLOBAL: "Flags" = {
    "--root": ("root", TEXT), "--log": ("log", TEXT), "--log-format": ("log_format", TEXT), "--debug": ("debug", FLAG),
    "--systemd-cgroup": ("systemd", FLAG), "--rootless": ("rootless", TEXT), "--version": ("version", FLAG),
    "-v": ("version", FLAG), "--help": ("help", FLAG), "-h": ("help", FLAG), "--criu": ("criu", TEXT),
}
_HELP: "Flags" = {"--help": ("help", FLAG), "-h": ("help", FLAG)}
_CREATE: "Flags" = {
    **_HELP, "--bundle": ("bundle", TEXT), "-b": ("bundle", TEXT), "--console-socket": ("console", TEXT),
    "--pid-file": ("pid_file", TEXT), "--no-pivot": ("no_pivot", FLAG), "--no-new-keyring": ("no_keyring", FLAG),
    "--preserve-fds": ("preserve_fds", TEXT), "--pidfd-socket": ("pidfd_socket", TEXT),
}
_RUN: "Flags" = {
    **_CREATE, "--detach": ("detach", FLAG), "-d": ("detach", FLAG), "--keep": ("keep", FLAG),
    "--no-subreaper": ("no_subreaper", FLAG),
}
_EXEC: "Flags" = {
    **_HELP, "--console-socket": ("console", TEXT), "--cwd": ("cwd", TEXT), "--env": ("env", MANY), "-e": ("env", MANY),
    "--tty": ("tty", FLAG), "-t": ("tty", FLAG), "--user": ("user", TEXT), "-u": ("user", TEXT),
    "--additional-gids": ("gids", MANY), "-g": ("gids", MANY), "--process": ("process", TEXT),
    "-p": ("process", TEXT), "--detach": ("detach", FLAG), "-d": ("detach", FLAG), "--pid-file": ("pid_file", TEXT),
    "--process-label": ("label", TEXT), "--apparmor": ("apparmor", TEXT), "--no-new-privs": ("no_new_privs", FLAG),
    "--cap": ("cap", MANY), "-c": ("cap", MANY), "--preserve-fds": ("preserve_fds", TEXT), "--cgroup": ("cgroup", MANY),
    "--ignore-paused": ("ignore_paused", FLAG), "--pidfd-socket": ("pidfd_socket", TEXT),
}
UPDATE_NUMBERS = (
    "blkio-weight", "cpu-period", "cpu-quota", "cpu-burst", "cpu-share", "cpu-rt-period", "cpu-rt-runtime",
    "cpuset-cpus", "cpuset-mems", "cpu-idle", "memory", "memory-reservation", "memory-swap", "kernel-memory",
    "kernel-memory-tcp", "pids-limit", "l3-cache-schema", "mem-bw-schema",
)
_UPDATE: "Flags" = {
    **_HELP, "--resources": ("resources", TEXT), "-r": ("resources", TEXT),
    **{f"--{name}": (name, TEXT) for name in UPDATE_NUMBERS},
}
# criu's; whoever calls with them is to hear what is not done, not which flag is unknown
_IMAGE: "Flags" = {
    **_HELP, **{f"--{name}": (name, TEXT) for name in (
        "image-path", "work-path", "parent-path", "status-fd", "page-server", "manage-cgroups-mode", "lsm-profile",
        "lsm-mount-context")},
    "--empty-ns": ("empty-ns", MANY), **{f"--{name}": (name, FLAG) for name in (
        "leave-running", "tcp-established", "tcp-skip-in-flight", "link-remap", "ext-unix-sk", "shell-job",
        "lazy-pages", "file-locks", "pre-dump", "auto-dedup")},
}
_FORMAT: "Flags" = {**_HELP, "--format": ("format", TEXT), "-f": ("format", TEXT)}
_BUNDLE: "Flags" = {**_HELP, "--bundle": ("bundle", TEXT), "-b": ("bundle", TEXT), "--rootless": ("rootless", FLAG)}


class Command:
    """`place` is `module.function` below corten.runtime; with `interspersed` flags may follow the first word."""

    __slots__ = ("about", "flags", "interspersed", "most", "place", "words")

    def __init__(
        self, place: str, about: str, words: str, flags: "Flags", most: int = 1, interspersed: bool = True
    ) -> None:
        self.place = place
        self.about = about
        self.words = words
        self.flags = flags
        self.most = most
        self.interspersed = interspersed

    def check(self, name: str, given: int) -> None:
        """The number of words. Raises BadUsage, with runc's texts."""
        least = min(self.most, 1)
        if given < least or given > self.most:
            bound = "exactly" if self.most == least else "a minimum of" if given < least else "a maximum of"
            raise BadUsage(f'"{name}" requires {bound} {least if given < least else self.most} argument(s)')


_ID = "<container-id>"
COMMANDS = {
    "checkpoint": Command("commands.checkpoint", "checkpoint a running container", _ID, _IMAGE, 99),
    "create": Command("commands.create", "create a container", _ID, _CREATE),
    "delete": Command("commands.delete", "delete any resources held by the container", _ID,
                      {**_HELP, "--force": ("force", FLAG), "-f": ("force", FLAG)}),
    "events": Command("events.run", "display container events and statistics", _ID,
                      {**_HELP, "--interval": ("interval", TEXT), "--stats": ("stats", FLAG)}),
    "exec": Command("exec_command.run", "execute new process inside the container",
                    f"{_ID} <command> [command options]  || -p process.json {_ID}", _EXEC, 1 << 20, False),
    "features": Command("views.features", "show the enabled features", "", _HELP, 0),
    "kill": Command("commands.kill", "send a signal (default: SIGTERM) to the container's init process",
                    f"{_ID} [signal]", {**_HELP, "--all": ("all", FLAG), "-a": ("all", FLAG)}, 2),
    "list": Command("views.list_", "list containers started with the given root", "",
                    {**_FORMAT, "--quiet": ("quiet", FLAG), "-q": ("quiet", FLAG)}, 0),
    "pause": Command("commands.pause", "suspend all processes inside the container", _ID, _HELP),
    "ps": Command("ps.run", "display the processes running inside a container", f"{_ID} [ps options]", _FORMAT, 99,
                  False),
    "restore": Command("commands.restore", "restore a container from a checkpoint", _ID,
                       {**_RUN, **_IMAGE}, 99),
    "resume": Command("commands.resume", "resume all processes that have been paused", _ID, _HELP),
    "run": Command("commands.run", "create and run a container", _ID, _RUN),
    "spec": Command("views.spec", "create a new specification file", "", _BUNDLE, 0),
    "start": Command("commands.start", "execute the user defined process in a created container", _ID, _HELP),
    "state": Command("commands.show_state", "output the state of a container", _ID, _HELP),
    "update": Command("update.run", "update container resource constraints", _ID, _UPDATE),
}
