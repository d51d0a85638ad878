"""The tree of commands, as data: what exists, where it is done, how it is called. No code but the index.

An entry: canonical path -> (place "module.function", usage after the name, one-line help, fewest arguments, most
arguments or -1, other spellings, table of flags; a longer help stands after a form feed). The flags are read
from the table's module when the command is run.
"""

C, IM, S, R = "options_container", "options_image", "options_system", "options_run"
G = "options_gateway"

COMMANDS: dict[str, tuple[str, str, str, int, int, tuple[str, ...], str]] = {
    "apply": ("gateway.apply", "-f FILE", "Register documents with the gateway", 0, 0, (), G),
    "builder du": ("builder.du", "[OPTIONS]", "Display the disk usage of the build cache", 0, 0, ("buildx du",), IM),
    "builder prune": ("prune.builder", "", "Remove build cache", 0, 0, ("buildx prune",), IM),
    "buildx version": ("builder.version", "", "Show what builds are done by", 0, 0, (), ""),
    "container attach": (
        "attach.attach", "[OPTIONS] CONTAINER",
        "Attach local standard input, output, and error streams to a running container", 1, 1, ("attach",), C),
    "container commit": (
        "archive.commit", "[OPTIONS] CONTAINER [REPOSITORY[:TAG]]", "Create a new image from a container's changes",
        1, 2, ("commit",), C),
    "container cp": (
        "copy.cp", "[OPTIONS] CONTAINER:SRC_PATH DEST_PATH|-\n\tcorten cp [OPTIONS] SRC_PATH|- CONTAINER:DEST_PATH",
        "Copy files/folders between a container and the local filesystem\n\n"
        "Use '-' as the source to read a tar archive from stdin\nand extract it to a directory destination in a "
        "container.\nUse '-' as the destination to stream a tar archive of a\ncontainer source to stdout.",
        2, 2, ("cp",), C),
    "container create": (
        "run.create", "[OPTIONS] IMAGE [COMMAND] [ARG...]", "Create a new container", 1, -1, ("create",), R),
    "container diff": (
        "archive.diff", "CONTAINER", "Inspect changes to files or directories on a container's filesystem",
        1, 1, ("diff",), ""),
    "container exec": (
        "execute.execute", "[OPTIONS] CONTAINER COMMAND [ARG...]", "Execute a command in a running container",
        2, -1, ("exec",), C),
    "container export": (
        "archive.export", "[OPTIONS] CONTAINER", "Export a container's filesystem as a tar archive",
        1, 1, ("export",), C),
    "container inspect": (
        "inspect.container", "[OPTIONS] CONTAINER [CONTAINER...]",
        "Display detailed information on one or more containers", 1, -1, (), C),
    "container kill": (
        "lifecycle.kill", "[OPTIONS] CONTAINER [CONTAINER...]", "Kill one or more running containers",
        1, -1, ("kill",), C),
    "container logs": ("logs.logs", "[OPTIONS] CONTAINER", "Fetch the logs of a container", 1, 1, ("logs",), C),
    "container ls": (
        "containers.ls", "[OPTIONS]", "List containers", 0, 0, ("container list", "container ps", "ps"), C),
    "container pause": (
        "lifecycle.pause", "CONTAINER [CONTAINER...]", "Pause all processes within one or more containers",
        1, -1, ("pause",), ""),
    "container port": (
        "containers.port", "CONTAINER [PRIVATE_PORT[/PROTO]]",
        "List port mappings or a specific mapping for the container", 1, 2, ("port",), ""),
    "container prune": ("prune.container", "[OPTIONS]", "Remove all stopped containers", 0, 0, (), C),
    "container rename": ("lifecycle.rename", "CONTAINER NEW_NAME", "Rename a container", 2, 2, ("rename",), ""),
    "container restart": (
        "lifecycle.restart", "[OPTIONS] CONTAINER [CONTAINER...]", "Restart one or more containers",
        1, -1, ("restart",), C),
    "container rm": (
        "lifecycle.rm", "[OPTIONS] CONTAINER [CONTAINER...]", "Remove one or more containers",
        1, -1, ("container remove", "rm"), C),
    "container run": (
        "run.run", "[OPTIONS] IMAGE [COMMAND] [ARG...]", "Create and run a new container from an image",
        1, -1, ("run",), R),
    "container start": (
        "start.start", "[OPTIONS] CONTAINER [CONTAINER...]", "Start one or more stopped containers",
        1, -1, ("start",), C),
    "container stats": (
        "stats.stats", "[OPTIONS] [CONTAINER...]", "Display a live stream of container(s) resource usage statistics",
        0, -1, ("stats",), C),
    "container stop": (
        "lifecycle.stop", "[OPTIONS] CONTAINER [CONTAINER...]", "Stop one or more running containers",
        1, -1, ("stop",), C),
    "container top": (
        "containers.top", "CONTAINER [ps OPTIONS]", "Display the running processes of a container",
        1, -1, ("top",), ""),
    "container unpause": (
        "lifecycle.unpause", "CONTAINER [CONTAINER...]", "Unpause all processes within one or more containers",
        1, -1, ("unpause",), ""),
    "container update": (
        "lifecycle.update", "[OPTIONS] CONTAINER [CONTAINER...]", "Update configuration of one or more containers",
        1, -1, ("update",), C),
    "container wait": (
        "lifecycle.wait", "[OPTIONS] CONTAINER [CONTAINER...]",
        "Block until one or more containers stop, then print their exit codes", 1, -1, ("wait",), C),
    "gateway audit": ("gateway.audit", "[OPTIONS]", "Show who called what, and why it was answered so", 0, 0, (), G),
    "gateway authority": ("gateway.authority", "", "Print the authority of certificates made here", 0, 0, (), ""),
    "gateway explain": (
        "gateway.explain", "[OPTIONS] URL", "Say which route, policies and backends a request would get, and why",
        1, 1, (), G),
    "gateway ls": ("gateway.ls", "[OPTIONS]", "List routes", 0, 0, ("gateway list",), G),
    "gateway metrics": ("gateway.metrics", "", "Print counters for Prometheus", 0, 0, (), ""),
    "gateway register": (
        "gateway.register", "[OPTIONS] NAME", "Register an API whose containers have no labels", 1, 1, (), G),
    "gateway show": ("gateway.show", "[OPTIONS] API [API...]", "Display all of an API", 1, -1, (), G),
    "gateway status": ("gateway.status", "", "Show where the gateway listens and whether it runs", 0, 0, (), ""),
    "gateway test": ("gateway.test", "[OPTIONS] URL", "Send a request and show what became of it", 1, 1, (), G),
    "gateway top": ("gateway.top", "[OPTIONS]", "Display a live stream of requests by route", 0, 0, (), G),
    "gateway ui": ("gateway_ui.ui", "[OPTIONS]", "Show the gateway at work on a page for a browser", 0, 0, (), G),
    "gateway unregister": (
        "gateway.unregister", "[OPTIONS] API|KIND/NAME [...]", "Take registered documents away", 1, -1, (), G),
    "gateway versions": (
        "gateway.versions", "[OPTIONS]", "List old versions and who still asks for them", 0, 0, (), G),
    "image build": (
        "build.build", "[OPTIONS] PATH | URL | -", "Build an image from a Dockerfile",
        1, 1, ("build", "builder build", "buildx build", "buildx b"), IM),
    "image history": ("images.history", "[OPTIONS] IMAGE", "Show the history of an image", 1, 1, ("history",), IM),
    "image import": (
        "transfer.import_", "[OPTIONS] file|URL|- [REPOSITORY[:TAG]]",
        "Import the contents from a tarball to create a filesystem image", 1, 2, ("import",), IM),
    "image inspect": (
        "inspect.image", "[OPTIONS] IMAGE [IMAGE...]", "Display detailed information on one or more images",
        1, -1, (), IM),
    "image load": ("transfer.load", "[OPTIONS]", "Load an image from a tar archive or STDIN", 0, 0, ("load",), IM),
    "image ls": ("images.ls", "[OPTIONS] [REPOSITORY[:TAG]]", "List images", 0, 1, ("image list", "images"), IM),
    "image prune": ("prune.image", "[OPTIONS]", "Remove unused images", 0, 0, (), IM),
    "image pull": ("transfer.pull", "[OPTIONS] NAME[:TAG|@DIGEST]", "Download an image from a registry",
                   1, 1, ("pull",), IM),
    "image push": ("transfer.push", "[OPTIONS] NAME[:TAG]", "Upload an image to a registry", 1, 1, ("push",), IM),
    "image rm": (
        "images.rm", "[OPTIONS] IMAGE [IMAGE...]", "Remove one or more images", 1, -1, ("image remove", "rmi"), IM),
    "image save": (
        "transfer.save", "[OPTIONS] IMAGE [IMAGE...]",
        "Save one or more images to a tar archive (streamed to STDOUT by default)", 1, -1, ("save",), IM),
    "image tag": (
        "images.tag", "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
        "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE", 2, 2, ("tag",), ""),
    "inspect": (
        "inspect.anything", "[OPTIONS] NAME|ID [NAME|ID...]", "Return low-level information on corten objects",
        1, -1, (), S),
    "login": ("login.login", "[OPTIONS] [SERVER]", "Authenticate to a registry", 0, 1, (), S),
    "logout": ("login.logout", "[SERVER]", "Log out from a registry", 0, 1, (), ""),
    "network connect": (
        "networks.connect", "[OPTIONS] NETWORK CONTAINER", "Connect a container to a network", 2, 2, (), S),
    "network create": ("networks.create", "[OPTIONS] NETWORK", "Create a network", 1, 1, (), S),
    "network disconnect": (
        "networks.disconnect", "[OPTIONS] NETWORK CONTAINER", "Disconnect a container from a network", 2, 2, (), S),
    "network inspect": (
        "inspect.network", "[OPTIONS] NETWORK [NETWORK...]", "Display detailed information on one or more networks",
        1, -1, (), S),
    "network ls": ("networks.ls", "[OPTIONS]", "List networks", 0, 0, ("network list",), S),
    "network prune": ("prune.network", "[OPTIONS]", "Remove all unused networks", 0, 0, (), S),
    "network rm": (
        "networks.rm", "NETWORK [NETWORK...]", "Remove one or more networks", 1, -1, ("network remove",), S),
    "system df": ("df.df", "[OPTIONS]", "Show disk usage", 0, 0, (), S),
    "system dial-stdio": ("dial.dial_stdio", "", "Proxy the stdio stream to the daemon connection", 0, 0, (), ""),
    "system events": ("events.events", "[OPTIONS]", "Get real time events from the server", 0, 0, ("events",), S),
    "system info": ("system.info", "[OPTIONS]", "Display system-wide information", 0, 0, ("info",), S),
    "system prune": ("prune.system", "[OPTIONS]", "Remove unused data", 0, 0, (), S),
    "version": ("system.version", "[OPTIONS]", "Show the corten version information", 0, 0, (), S),
    "trust ls": ("trust.ls", "[OPTIONS]", "List running containers, their level of trust and identity", 0, 0,
                 ("trust list",), G),
    "trust matrix": ("trust.matrix", "[OPTIONS]", "Show which service may call which, and what of it", 0, 0, (), G),
    "trust restore": ("trust.restore", "SERVICE [SERVICE...]", "Believe a revoked identity again", 1, -1, (), ""),
    "trust revoke": (
        "trust.revoke", "SERVICE [SERVICE...]", "Believe an identity no more: its connections end", 1, -1, (), ""),
    "trust rotate": ("trust.rotate", "", "Give every service a new certificate now", 0, 0, (), ""),
    "volume create": ("volumes.create", "[OPTIONS] [VOLUME]", "Create a volume", 0, 1, (), S),
    "volume inspect": (
        "inspect.volume", "[OPTIONS] VOLUME [VOLUME...]", "Display detailed information on one or more volumes",
        1, -1, (), S),
    "volume ls": ("volumes.ls", "[OPTIONS]", "List volumes", 0, 0, ("volume list",), S),
    "volume prune": ("prune.volume", "[OPTIONS]", "Remove unused local volumes", 0, 0, (), S),
    "volume rm": (
        "volumes.rm", "[OPTIONS] VOLUME [VOLUME...]",
        "Remove one or more volumes\f"
        "Remove one or more volumes. You cannot remove a volume that is in use by a container.",
        1, -1, ("volume remove",), S),
}

GROUPS: dict[str, str] = {
    "builder": "Manage builds",
    "buildx": "Manage builds, as docker's plugin is called",
    "container": "Manage containers",
    "gateway": "Manage the API gateway",
    "image": "Manage images",
    "network": "Manage networks",
    "system": "Manage corten",
    "trust": "Manage trust between containers",
    "volume": "Manage volumes",
}

# flags end at the first argument: what follows belongs to the program in the container
NOT_INTERSPERSED = frozenset(("container run", "container create", "container exec", "container top"))

# flag spelled differently, kept for old scripts: command -> {old: (new, said on stderr)}
OLD_FLAGS: dict[str, dict[str, tuple[str, str]]] = {
    "container run": {
        "net": ("network", ""), "net-alias": ("network-alias", ""), "dns-opt": ("dns-option", ""),
    },
    "container stop": {"time": ("timeout", "Flag --time has been deprecated, use --timeout instead")},
    "container restart": {"time": ("timeout", "Flag --time has been deprecated, use --timeout instead")},
    "volume create": {"name": ("name", "")},
}
OLD_FLAGS["container create"] = OLD_FLAGS["container run"]

SPELLINGS: dict[str, str] = {alias: path for path, entry in COMMANDS.items() for alias in entry[5]}
