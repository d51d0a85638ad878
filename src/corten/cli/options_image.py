"""The flags of the image and builder commands, as data; see options_run."""

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
    "image build": (
        ("add-host", "", "strings", 'Add a custom host-to-IP mapping (format: "host:ip")'),
        ("allow", "", "list", 'Allow extra privileged entitlement (e.g., "network.host", "security.insecure")'),
        ("annotation", "", "list", "Add annotation to the image"),
        ("attest", "", "list", 'Attestation parameters (format: "type=sbom,generator=image")'),
        ("build-arg", "", "list", "Set build-time variables"),
        ("build-context", "", "list", "Additional build contexts (e.g., name=path)"),
        ("cache-from", "", "list", 'External cache sources (e.g., "user/app:cache", "type=local,src=path/to/dir")'),
        ("cache-to", "", "list", 'Cache export destinations (e.g., "user/app:cache", "type=local,dest=path/to/dir")'),
        ("call", "", "string",
        'Set method for evaluating build ("check", "outline", "targets") (default "build")'),
        ("cgroup-parent", "", "string",
        'Set the parent cgroup for the "RUN" instructions during build'),
        ("check", "", "", 'Shorthand for "--call=check"'),
        ("compress", "", "", "Compress the build context using gzip"),
        ("cpu-period", "", "int", "Limit the CPU CFS (Completely Fair Scheduler) period"),
        ("cpu-quota", "", "int", "Limit the CPU CFS (Completely Fair Scheduler) quota"),
        ("cpu-shares", "c", "int", "CPU shares (relative weight)"),
        ("cpuset-cpus", "", "string", "CPUs in which to allow execution (0-3, 0,1)"),
        ("cpuset-mems", "", "string", "MEMs in which to allow execution (0-3, 0,1)"),
        ("disable-content-trust", "", "", "Skip image verification (default true)", True),
        ("file", "f", "string", 'Name of the Dockerfile (default: "PATH/Dockerfile")'),
        ("force-rm", "", "", "Always remove intermediate containers"),
        ("iidfile", "", "string", "Write the image ID to a file"),
        ("isolation", "", "string", "Container isolation technology"),
        ("label", "", "list", "Set metadata for an image"),
        ("load", "", "", 'Shorthand for "--output=type=docker"'),
        ("memory", "m", "bytes", "Memory limit"),
        ("memory-swap", "", "bytes",
        "Swap limit equal to memory plus swap: -1 to enable unlimited swap"),
        ("metadata-file", "", "string", "Write build result metadata to a file"),
        ("network", "", "string",
        'Set the networking mode for the "RUN" instructions during build (default "default")', "default"),
        ("no-cache", "", "", "Do not use cache when building the image"),
        ("no-cache-filter", "", "strings", "Do not cache specified stages"),
        ("output", "o", "list", 'Output destination (format: "type=local,dest=path")'),
        ("platform", "", "list", "Set target platform for build"),
        ("progress", "", "string",
        'Set type of progress output ("auto", "none", "plain", "quiet", "rawjson", "tty"). Use plain to show container '
        'output (default "auto")'),
        ("provenance", "", "string", 'Shorthand for "--attest=type=provenance"'),
        ("pull", "", "", "Always attempt to pull all referenced images"),
        ("push", "", "", 'Shorthand for "--output=type=registry"'),
        ("quiet", "q", "", "Suppress the build output and print image ID on success"),
        ("rm", "", "", "Remove intermediate containers after a successful build (default true)", True),
        ("sbom", "", "string", 'Shorthand for "--attest=type=sbom"'),
        ("secret", "", "list", 'Secret to expose to the build (format: "id=mysecret[,src=/local/secret]")'),
        ("security-opt", "", "strings", "Security options"),
        ("shm-size", "", "bytes", "Shared memory size for build containers"),
        ("squash", "", "", "Squash newly built layers into a single new layer"),
        ("ssh", "", "list",
        'SSH agent socket or keys to expose to the build (format: "default|<id>[=<socket>|<key>[,<key>]]")'),
        ("tag", "t", "list", 'Name and optionally a tag (format: "name:tag")'),
        ("target", "", "string", "Set the target build stage to build"),
        ("ulimit", "", "ulimit", "Ulimit options (default [])"),
    ),
    "image history": (
        ("format", "", "string", TABLE_FORMAT),
        ("human", "H", "", "Print sizes and dates in human readable format (default true)"),
        ("no-trunc", "", "", "Don't truncate output"),
        ("platform", "", "string",
        'Show history for the given platform. Formatted as "os[/arch[/variant]]" (e.g., '
        '"linux/amd64")'),
        ("quiet", "q", "", "Only show image IDs"),
    ),
    "image import": (
        ("change", "c", "list", "Apply Dockerfile instruction to the created image"),
        ("message", "m", "string", "Set commit message for imported image"),
        ("platform", "", "string", "Set platform if server is multi-platform capable"),
    ),
    "image inspect": (
        ("format", "f", "string", FORMAT),
        ("platform", "", "string",
        "Inspect a specific platform of the multi-platform image.\n"
        "If the image or the server is not multi-platform capable, the command will error out if "
        "the platform does not match.\n"
        "'os[/arch[/variant]]': Explicit platform (eg. linux/amd64)"),
    ),
    "image load": (
        ("input", "i", "string", "Read from tar archive file, instead of STDIN"),
        ("platform", "", "string",
        'Load only the given platform variant. Formatted as "os[/arch[/variant]]" (e.g., '
        '"linux/amd64")'),
        ("quiet", "q", "", "Suppress the load output"),
    ),
    "image ls": (
        ("all", "a", "", "Show all images (default hides intermediate images)"),
        ("digests", "", "", "Show digests"),
        ("filter", "f", "filter", "Filter output based on conditions provided"),
        ("format", "", "string", TABLE_FORMAT),
        ("no-trunc", "", "", "Don't truncate output"),
        ("quiet", "q", "", "Only show image IDs"),
        ("tree", "", "", "List multi-platform images as a tree (EXPERIMENTAL)"),
    ),
    "image prune": (
        ("all", "a", "", "Remove all unused images, not just dangling ones"),
        ("filter", "", "filter", 'Provide filter values (e.g. "until=<timestamp>")'),
        ("force", "f", "", "Do not prompt for confirmation"),
    ),
    "image pull": (
        ("all-tags", "a", "", "Download all tagged images in the repository"),
        ("disable-content-trust", "", "", "Skip image verification (default true)", True),
        ("platform", "", "string", "Set platform if server is multi-platform capable"),
        ("quiet", "q", "", "Suppress verbose output"),
    ),
    "image push": (
        ("all-tags", "a", "", "Push all tags of an image to the repository"),
        ("disable-content-trust", "", "", "Skip image signing (default true)", True),
        ("platform", "", "string",
        "Push a platform-specific manifest as a single-platform image to the registry.\n"
        "Image index won't be pushed, meaning that other manifests, including attestations won't "
        "be preserved.\n"
        "'os[/arch[/variant]]': Explicit platform (eg. linux/amd64)"),
        ("quiet", "q", "", "Suppress verbose output"),
    ),
    "image rm": (
        ("force", "f", "", "Force removal of the image"),
        ("no-prune", "", "", "Do not delete untagged parents"),
        ("platform", "", "strings",
        'Remove only the given platform variant. Formatted as "os[/arch[/variant]]" (e.g., '
        '"linux/amd64")'),
    ),
    "image save": (
        ("output", "o", "string", "Write to a file, instead of STDOUT"),
        ("platform", "", "string",
        'Save only the given platform variant. Formatted as "os[/arch[/variant]]" (e.g., '
        '"linux/amd64")'),
    ),
    "builder du": (
        ("filter", "", "filter", "Provide filter values"),
        ("format", "", "string", "Format the output"),
        ("verbose", "", "", 'Shorthand for "--format=pretty"'),
    ),
    "builder prune": (
        ("all", "a", "", "Remove all unused build cache, not just dangling ones"),
        ("filter", "", "filter", 'Provide filter values (e.g. "until=24h")'),
        ("force", "f", "", "Do not prompt for confirmation"),
        ("keep-storage", "", "bytes", "Amount of disk space to keep for cache"),
        ("max-used-space", "", "bytes", "Maximum amount of disk space allowed to keep for cache"),
        ("min-free-space", "", "bytes", "Target amount of free disk space after pruning"),
        ("reserved-space", "", "bytes", "Amount of disk space always allowed to keep for cache"),
    ),
}
