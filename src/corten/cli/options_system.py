"""The flags of the volume, network, system and top commands, as data; see options_run."""

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
    "network connect": (
        ("alias", "", "strings", "Add network-scoped alias for the container"),
        ("driver-opt", "", "strings", "driver options for the network"),
        ("gw-priority", "", "int",
        "Highest gw-priority provides the default gateway. Accepts positive and negative values."),
        ("ip", "", "string", 'IPv4 address (e.g., "172.30.100.104")'),
        ("ip6", "", "string", 'IPv6 address (e.g., "2001:db8::33")'),
        ("link", "", "list", "Add link to another container"),
        ("link-local-ip", "", "strings", "Add a link-local address for the container"),
    ),
    "network create": (
        ("attachable", "", "", "Enable manual container attachment"),
        ("aux-address", "", "map",
        "Auxiliary IPv4 or IPv6 addresses used by Network driver (default map[])"),
        ("config-from", "", "string", "The network from which to copy the configuration"),
        ("config-only", "", "", "Create a configuration only network"),
        ("driver", "d", "string", 'Driver to manage the Network (default "bridge")', "bridge"),
        ("gateway", "", "strings", "IPv4 or IPv6 Gateway for the master subnet"),
        ("ingress", "", "", "Create swarm routing-mesh network"),
        ("internal", "", "", "Restrict external access to the network"),
        ("ip-range", "", "strings", "Allocate container ip from a sub-range"),
        ("ipam-driver", "", "string", 'IP Address Management Driver (default "default")'),
        ("ipam-opt", "", "map", "Set IPAM driver specific options (default map[])"),
        ("ipv4", "", "", "Enable or disable IPv4 address assignment (default true)"),
        ("ipv6", "", "", "Enable or disable IPv6 address assignment"),
        ("label", "", "list", "Set metadata on a network"),
        ("opt", "o", "map", "Set driver specific options (default map[])"),
        ("scope", "", "string", "Control the network's scope"),
        ("subnet", "", "strings", "Subnet in CIDR format that represents a network segment"),
    ),
    "network disconnect": (
        ("force", "f", "", "Force the container to disconnect from a network"),
    ),
    "network inspect": (
        ("format", "f", "string", FORMAT),
        ("trace", "", "", "Name containers instead: show the way of their packets and why a port does not answer"),
        ("verbose", "v", "", "Verbose output for diagnostics"),
    ),
    "network ls": (
        ("filter", "f", "filter", 'Provide filter values (e.g. "driver=bridge")'),
        ("format", "", "string", TABLE_FORMAT),
        ("no-trunc", "", "", "Do not truncate the output"),
        ("quiet", "q", "", "Only display network IDs"),
    ),
    "network prune": (
        ("filter", "", "filter", 'Provide filter values (e.g. "until=<timestamp>")'),
        ("force", "f", "", "Do not prompt for confirmation"),
    ),
    "network rm": (
        ("force", "f", "", "Do not error if the network does not exist"),
    ),
    "volume create": (
        ("availability", "", "string",
        'Cluster Volume availability ("active", "pause", "drain") (default "active")'),
        ("driver", "d", "string", 'Specify volume driver name (default "local")', "local"),
        ("group", "", "string", "Cluster Volume group (cluster volumes)"),
        ("label", "", "list", "Set metadata for a volume"),
        ("limit-bytes", "", "bytes", "Minimum size of the Cluster Volume in bytes"),
        ("opt", "o", "map", "Set driver specific options (default map[])"),
        ("required-bytes", "", "bytes", "Maximum size of the Cluster Volume in bytes"),
        ("scope", "", "string", 'Cluster Volume access scope ("single", "multi") (default "single")'),
        ("secret", "", "map", "Cluster Volume secrets (default map[])"),
        ("sharing", "", "string",
        'Cluster Volume access sharing ("none", "readonly", "onewriter", "all") (default "none")'),
        ("topology-preferred", "", "list", "A topology that the Cluster Volume would be preferred in"),
        ("topology-required", "", "list", "A topology that the Cluster Volume must be accessible from"),
        ("type", "", "string", 'Cluster Volume access type ("mount", "block") (default "block")'),
    ),
    "volume inspect": (
        ("format", "f", "string", FORMAT),
    ),
    "volume ls": (
        ("cluster", "", "", "Display only cluster volumes, and use cluster volume list formatting"),
        ("filter", "f", "filter", 'Provide filter values (e.g. "dangling=true")'),
        ("format", "", "string", TABLE_FORMAT),
        ("quiet", "q", "", "Only display volume names"),
    ),
    "volume prune": (
        ("all", "a", "", "Remove all unused volumes, not just anonymous ones"),
        ("filter", "", "filter", 'Provide filter values (e.g. "label=<label>")'),
        ("force", "f", "", "Do not prompt for confirmation"),
    ),
    "volume rm": (
        ("force", "f", "", "Force the removal of one or more volumes"),
    ),
    "system df": (
        ("format", "", "string", TABLE_FORMAT),
        ("verbose", "v", "", "Show detailed information on space usage"),
    ),
    "system events": (
        ("filter", "f", "filter", "Filter output based on conditions provided"),
        ("format", "", "string", FORMAT),
        ("since", "", "string", "Show all events created since timestamp"),
        ("until", "", "string", "Stream events until this timestamp"),
    ),
    "system info": (
        ("format", "f", "string", FORMAT),
    ),
    "system prune": (
        ("all", "a", "", "Remove all unused images not just dangling ones"),
        ("filter", "", "filter", 'Provide filter values (e.g. "label=<key>=<value>")'),
        ("force", "f", "", "Do not prompt for confirmation"),
        ("volumes", "", "", "Prune anonymous volumes"),
    ),
    "inspect": (
        ("format", "f", "string", FORMAT),
        ("size", "s", "", "Display total file sizes if the type is container"),
        ("type", "", "string", "Only inspect objects of the given type"),
    ),
    "login": (
        ("password", "p", "string", "Password or Personal Access Token (PAT)"),
        ("password-stdin", "", "", "Take the Password or Personal Access Token (PAT) from stdin"),
        ("username", "u", "string", "Username"),
    ),
    "version": (
        ("format", "f", "string", FORMAT),
    ),
    "search": (
        ("filter", "f", "filter", "Filter output based on conditions provided"),
        ("format", "", "string", "Pretty-print search using a Go template"),
        ("limit", "", "int", "Max number of search results"),
        ("no-trunc", "", "", "Don't truncate output"),
    ),
}
