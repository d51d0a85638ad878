"""The flags of the gateway's commands, as data; see options_run."""

_REQUEST = (
    ("data", "d", "string", "Body of the request"),
    ("header", "H", "list", 'Header of the request ("NAME: VALUE")'),
    ("request", "X", "string", "Method of the request (default GET)"),
)
_FORMAT = ("format", "", "string", "'table' (default), 'json', or a Go template")

OPTIONS: dict[str, tuple[tuple[object, ...], ...]] = {
    "apply": (
        ("dry-run", "", "", "Only say what would be done, and what is wrong"),
        ("filename", "f", "list", "File of documents, JSON or YAML; - is standard input"),
    ),
    "gateway audit": (
        ("follow", "f", "", "Go on with the lines that come"),
        ("format", "", "string", "'text' (default) or 'json'"),
        ("tail", "n", "int", "Number of lines from the end of the log", 20),
    ),
    "gateway explain": (_FORMAT, *_REQUEST[1:]),
    "gateway ls": (
        _FORMAT,
        ("quiet", "q", "", "Only display names of routes"),
    ),
    "gateway register": (
        ("address", "", "list", "Backend outside the engine (host:port)"),
        ("container", "", "list", "Backend: a container"),
        ("host", "", "string", "Host names, with commas (default any)"),
        ("method", "", "string", "Methods, with commas (default all)"),
        ("path", "", "string", "Path prefix (default /)"),
        ("policy", "", "string", "Names of Policy documents, with commas"),
        ("port", "", "int", "Port of the backends, when they expose not just one"),
        ("project", "", "string", "Compose project of the services"),
        ("service", "", "list", "Backend: all containers of a compose service, or of that name"),
        ("set", "", "list", "Any other label of the gateway, without its prefix (timeout=5s)"),
    ),
    "gateway show": (
        ("format", "f", "string", "'text' (default) or 'json'"),
    ),
    "gateway test": (
        ("format", "", "string", "'text' (default) or 'json'"), *_REQUEST,
    ),
    "gateway top": (
        _FORMAT,
        ("no-stream", "", "", "Show the numbers once"),
    ),
    "gateway ui": (
        ("listen", "", "string", "Where the page is, on this machine alone (default 127.0.0.1 and a free port)"),
    ),
    "gateway versions": (_FORMAT,),
    "trust ls": (
        _FORMAT,
        ("quiet", "q", "", "Only display names of containers"),
    ),
    "trust matrix": (_FORMAT,),
    "gateway unregister": (
        ("project", "", "string", "Compose project of the Api"),
    ),
}
