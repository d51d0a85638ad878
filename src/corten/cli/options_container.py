"""The flags of the container commands other than `run` and `create`, as data; see options_run."""

FORMAT = (
    "Format output using a custom template:\n"
    "'json':             Print in JSON format\n"
    "'TEMPLATE':         Print output using the given Go template.\n"
    "Refer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates"
)
TABLE_FORMAT = (
    "Format output using a custom template:\n"
    "'table':            Print output in table format with column headers (default)\n"
    "'table TEMPLATE':   Print output in table format using the given Go template\n"
    "'json':             Print in JSON format\n"
    "'TEMPLATE':         Print output using the given Go template.\n"
    "Refer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates"
)

OPTIONS: dict[str, tuple[tuple[object, ...], ...]] = {
    "container attach": (
        ("detach-keys", "", "string", "Override the key sequence for detaching a container"),
        ("no-stdin", "", "", "Do not attach STDIN"),
        ("sig-proxy", "", "", "Proxy all received signals to the process (default true)", True),
    ),
    "container commit": (
        ("author", "a", "string", 'Author (e.g., "John Hannibal Smith <hannibal@a-team.com>")'),
        ("change", "c", "list", "Apply Dockerfile instruction to the created image"),
        ("message", "m", "string", "Commit message"),
        ("pause", "p", "", "Pause container during commit (default true)", True),
    ),
    "container exec": (
        ("detach", "d", "", "Detached mode: run command in the background"),
        ("detach-keys", "", "string", "Override the key sequence for detaching a container"),
        ("env", "e", "list", "Set environment variables"),
        ("env-file", "", "list", "Read in a file of environment variables"),
        ("interactive", "i", "", "Keep STDIN open even if not attached"),
        ("privileged", "", "", "Give extended privileges to the command"),
        ("tty", "t", "", "Allocate a pseudo-TTY"),
        ("user", "u", "string", 'Username or UID (format: "<name|uid>[:<group|gid>]")'),
        ("workdir", "w", "string", "Working directory inside the container"),
    ),
    "container export": (
        ("output", "o", "string", "Write to a file, instead of STDOUT"),
    ),
    "container inspect": (
        ("format", "f", "string", FORMAT),
        ("size", "s", "", "Display total file sizes"),
    ),
    "container kill": (
        ("signal", "s", "string", "Signal to send to the container"),
    ),
    "container logs": (
        ("details", "", "", "Show extra details provided to logs"),
        ("follow", "f", "", "Follow log output"),
        ("since", "", "string",
        'Show logs since timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 '
        "minutes)"),
        ("tail", "n", "string", 'Number of lines to show from the end of the logs (default "all")', "all"),
        ("timestamps", "t", "", "Show timestamps"),
        ("until", "", "string",
        'Show logs before a timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 '
        "minutes)"),
    ),
    "container ls": (
        ("all", "a", "", "Show all containers (default shows just running)"),
        ("filter", "f", "filter", "Filter output based on conditions provided"),
        ("format", "", "string", TABLE_FORMAT),
        ("last", "n", "int", "Show n last created containers (includes all states) (default -1)", -1),
        ("latest", "l", "", "Show the latest created container (includes all states)"),
        ("no-trunc", "", "", "Don't truncate output"),
        ("quiet", "q", "", "Only display container IDs"),
        ("size", "s", "", "Display total file sizes"),
    ),
    "container prune": (
        ("filter", "", "filter", 'Provide filter values (e.g. "until=<timestamp>")'),
        ("force", "f", "", "Do not prompt for confirmation"),
    ),
    "container restart": (
        ("signal", "s", "string", "Signal to send to the container"),
        ("timeout", "t", "int", "Seconds to wait before killing the container"),
    ),
    "container rm": (
        ("force", "f", "", "Force the removal of a running container (uses SIGKILL)"),
        ("link", "l", "", "Remove the specified link"),
        ("volumes", "v", "", "Remove anonymous volumes associated with the container"),
    ),
    "container start": (
        ("attach", "a", "", "Attach STDOUT/STDERR and forward signals"),
        ("checkpoint", "", "string", "Restore from this checkpoint"),
        ("checkpoint-dir", "", "string", "Use a custom checkpoint storage directory"),
        ("detach-keys", "", "string", "Override the key sequence for detaching a container"),
        ("interactive", "i", "", "Attach container's STDIN"),
    ),
    "container stats": (
        ("all", "a", "", "Show all containers (default shows just running)"),
        ("format", "", "string", TABLE_FORMAT),
        ("no-stream", "", "", "Disable streaming stats and only pull the first result"),
        ("no-trunc", "", "", "Do not truncate output"),
    ),
    "container stop": (
        ("signal", "s", "string", "Signal to send to the container"),
        ("timeout", "t", "int", "Seconds to wait before killing the container"),
    ),
    "container update": (
        ("blkio-weight", "", "uint16",
        "Block IO (relative weight), between 10 and 1000, or 0 to disable (default 0)"),
        ("cpu-period", "", "int", "Limit CPU CFS (Completely Fair Scheduler) period"),
        ("cpu-quota", "", "int", "Limit CPU CFS (Completely Fair Scheduler) quota"),
        ("cpu-rt-period", "", "int", "Limit the CPU real-time period in microseconds"),
        ("cpu-rt-runtime", "", "int", "Limit the CPU real-time runtime in microseconds"),
        ("cpu-shares", "c", "int", "CPU shares (relative weight)"),
        ("cpus", "", "decimal", "Number of CPUs"),
        ("cpuset-cpus", "", "string", "CPUs in which to allow execution (0-3, 0,1)"),
        ("cpuset-mems", "", "string", "MEMs in which to allow execution (0-3, 0,1)"),
        ("memory", "m", "bytes", "Memory limit"),
        ("memory-reservation", "", "bytes", "Memory soft limit"),
        ("memory-swap", "", "bytes",
        "Swap limit equal to memory plus swap: -1 to enable unlimited swap"),
        ("mount", "", "mount", "Mounts from the next start on, in place of those of --mount; beyond docker"),
        ("pids-limit", "", "int", "Tune container pids limit (set -1 for unlimited)"),
        ("publish", "p", "list", "Published ports from the next start on, in place of all; beyond docker"),
        ("restart", "", "string", "Restart policy to apply when a container exits"),
        ("volume", "v", "list", "Mounts from the next start on, in place of those of -v; beyond docker"),
    ),
    "container wait": (
        ("healthy", "", "", "Wait until they are healthy, not until they stop; beyond docker"),
    ),
    "container cp": (
        ("archive", "a", "", "Archive mode (copy all uid/gid information)"),
        ("follow-link", "L", "", "Always follow symbol link in SRC_PATH"),
        ("quiet", "q", "",
        "Suppress progress output during copy. Progress output is automatically suppressed if no "
        "terminal is attached"),
    ),
}
