"""`corten build` with the classic builder (DOCKER_BUILDKIT=0, or flags only it has): POST /build, as of old."""

import os
import sys
from collections.abc import Iterator

from corten.base import jsonio
from corten.cli.args import Values, split_csv
from corten.cli.build_stdin import is_archive, stdin_head, stdin_pieces
from corten.cli.client import Query
from corten.cli.create_request import host_entries, pairs, ulimit_entries
from corten.cli.errors import Failure
from corten.cli.main import Cli
from corten.cli.progress import show

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corten.build.dockerignore import Ignore


class Context:
    """What is sent: a stream, or a place the engine gets it from; and the Dockerfile's name in it."""

    def __init__(self, body: Iterator[bytes] | None, dockerfile: str, remote: str = "") -> None:
        self.body = body
        self.dockerfile = dockerfile
        self.remote = remote


def _from_stdin(file: str) -> Context:
    head = stdin_head()
    if is_archive(head):
        return Context(stdin_pieces(head), file or "Dockerfile")
    if file:
        raise Failure("ambiguous Dockerfile source: both stdin and flag correspond to Dockerfiles")
    from corten.cli.tarball import member
    from corten.image.tar_writer import END

    text = b"".join(stdin_pieces(head))
    if not text.strip():
        raise Failure("the Dockerfile (Dockerfile) cannot be empty")
    return Context(iter([member("Dockerfile", text) + END]), "Dockerfile")


def ignore_rules(folder: str, dockerfile: str) -> "tuple[list[str], Ignore | None]":
    """(files kept whatever the rules say, the rules) of a context. Raises Failure."""
    for name in (f"{dockerfile}.dockerignore", ".dockerignore"):  # its own rules come before the context's
        try:
            with open(f"{folder}/{name}", encoding="utf-8") as file:
                text = file.read()
            break
        except (FileNotFoundError, NotADirectoryError):
            continue
    else:
        return [], None
    from corten.base.errors import InvalidArgument
    from corten.build.dockerignore import Ignore

    try:
        return [name, dockerfile], Ignore(text)
    except InvalidArgument as error:
        raise Failure(f"error checking context: {error}") from None


def _from_folder(path: str, file: str) -> Context:
    folder = os.path.realpath(path)
    if not os.path.isdir(folder):
        if os.path.exists(folder):
            raise Failure(f"unable to prepare context: context must be a directory: {path}")
        raise Failure(f'unable to prepare context: path "{path}" not found')
    extra: bytes | None = None
    if file == "-":
        extra = b"".join(stdin_pieces(b""))
        name = f".dockerfile.{os.urandom(10).hex()}"
    else:
        name, extra = dockerfile_of(folder, path, file)
    kept, rules = ignore_rules(folder, name)

    return Context(_stream(folder, rules, kept, extra, name), name)


def dockerfile_of(folder: str, path: str, file: str) -> tuple[str, bytes | None]:
    """The Dockerfile's name in the context; its bytes when it lies outside of it."""
    given = file or os.path.join(folder, "Dockerfile")
    absolute = os.path.realpath(given)
    if not os.path.exists(absolute):
        if not file and os.path.exists(os.path.join(folder, "dockerfile")):
            return "dockerfile", None
        raise Failure(f"unable to prepare context: unable to evaluate symlinks in Dockerfile path: lstat "
                      f"{os.path.abspath(given)}: no such file or directory")
    relative = os.path.relpath(absolute, folder)
    if not relative.startswith("../"):
        return relative, None
    with open(absolute, "rb") as opened:
        return f".dockerfile.{os.urandom(10).hex()}", opened.read()


def _stream(
    folder: str, rules: "Ignore | None", kept: list[str], extra: bytes | None, name: str,
) -> Iterator[bytes]:
    from corten.cli.tarball import Tree, member
    from corten.image.tar_writer import END

    def skip(below: str) -> bool:
        return rules is not None and below not in kept and rules.excludes(below)

    # below a folder left out something may be taken back by a rule, or be the Dockerfile
    prune = rules is not None and not rules.has_exceptions and "/" not in name
    try:
        yield from Tree(owner=(0, 0), skip=skip if rules else None, prune=prune).pieces(folder, "", end=False)
    except PermissionError as error:
        raise Failure(f"error checking context: can't stat '{error.filename}'") from None
    if extra is not None:
        yield member(name, extra)
    yield END


def _context(path: str, file: str) -> Context:
    if path == "-":
        if file == "-":
            raise Failure("invalid argument: can't use stdin for both build context and dockerfile")
        return _from_stdin(file)
    if path.startswith(("http://", "https://", "git://", "github.com/", "git@")):
        return Context(None, file or "Dockerfile", path)
    return _from_folder(path, file)


def _query(values: Values, context: Context) -> Query:
    query: Query = [("t", name) for name in values.many("tag")]
    if context.remote:
        query.append(("remote", context.remote))
    switches = (("quiet", "q"), ("no-cache", "nocache"), ("pull", "pull"), ("force-rm", "forcerm"))
    query += [(name, "1") for flag, name in switches if values.flag(flag)]
    query.append(("rm", "1" if values.flag("rm") else "0"))
    caches = [name for text in values.many("cache-from") for name in split_csv(text)]
    query += [
        ("cpusetcpus", values.text("cpuset-cpus")), ("networkmode", values.text("network") or "default"),
        ("cpusetmems", values.text("cpuset-mems")), ("cpushares", str(values.number("cpu-shares"))),
        ("cpuquota", str(values.number("cpu-quota"))), ("cpuperiod", str(values.number("cpu-period"))),
        ("memory", str(values.number("memory"))), ("memswap", str(values.number("memory-swap"))),
        ("cgroupparent", values.text("cgroup-parent")), ("shmsize", str(values.number("shm-size"))),
        ("dockerfile", context.dockerfile), ("target", values.text("target")),
        ("ulimits", jsonio.dumps(ulimit_entries(values) or None)), ("buildargs", jsonio.dumps(_arguments(values))),
        ("labels", jsonio.dumps(pairs(values.many("label")), sort_keys=True)),
        ("cachefrom", jsonio.dumps(caches or None)), ("version", "1"),
    ]
    for host in host_entries(values) or []:
        query.append(("extrahosts", host))
    for option in values.many("security-opt"):
        query.append(("securityopt", option))
    if values.text("isolation"):
        query.append(("isolation", values.text("isolation")))
    if platforms := values.many("platform"):
        query.append(("platform", platforms[-1].lower()))
    return query


def _arguments(values: Values) -> dict[str, str | None]:
    """--build-arg: a name alone takes its value from here, and is null when there is none; so do the proxies."""
    found: dict[str, str | None] = {}
    for text in values.many("build-arg"):
        name, equals, value = text.partition("=")
        found[name] = value if equals else os.environ.get(name)
    return dict(sorted(found.items()))


def build(cli: Cli, values: Values) -> None:
    """Send the context, show what the engine says. Raises Failure."""
    context = _context(values.rest[0], values.text("file"))
    from corten.cli.login import all_for_build

    headers = {"Content-Type": "application/x-tar", "X-Registry-Config": all_for_build(cli.config_dir)}
    quiet = values.flag("quiet")
    body = _counted(context.body, quiet) if context.body is not None else None
    try:
        reply = cli.client.open("POST", "/build", _query(values, context), body, headers)
    except Failure as failure:
        from corten.cli.build_check import with_excerpt

        raise with_excerpt(failure, values.text("file") or f"{values.rest[0]}/Dockerfile") from None
    image: list[str] = []

    def aux(value: object) -> None:
        if isinstance(value, dict) and value.get("ID"):
            image.append(str(value["ID"]))

    if quiet:
        cli.out(_quiet(reply.objects(), aux) or (image[-1] if image else ""))
    else:
        show(reply.objects(), 1, aux)
    if values.text("iidfile") and image:
        with open(values.text("iidfile"), "w", encoding="utf-8") as file:
            file.write(image[-1])


def _quiet(messages: Iterator[dict[str, object]], aux: object) -> str:
    text = ""
    for message in messages:
        if message.get("error"):
            detail = message.get("errorDetail")
            code = detail.get("code") if isinstance(detail, dict) else 1
            raise Failure(text + str(message["error"]), code if isinstance(code, int) and code > 0 else 1)
        if message.get("aux") is not None:
            aux(message["aux"])  # type: ignore[operator]
        text += str(message.get("stream") or "")
    lines = text.strip().splitlines()
    return lines[-1] if lines else ""


def _counted(body: Iterator[bytes], quiet: bool) -> Iterator[bytes]:
    total = 0
    for piece in body:
        total += len(piece)
        yield piece
    if not quiet:
        from corten.base.human import human_size

        sys.stdout.write(f"Sending build context to corten daemon  {human_size(total)}\n")
        sys.stdout.flush()
