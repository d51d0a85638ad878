"""`corten pull`, `push`, `load`, `save`, `import`: images from and to registries and tar archives."""

import os
import sys
from collections.abc import Iterator

from corten.cli.args import Values
from corten.cli.client import quote
from corten.cli.errors import Failure
from corten.cli.images import _platform
from corten.cli.main import Cli
from corten.cli.progress import sent, show
from corten.cli.reference import check, domain_of, full_name, is_valid, split_name

_PIECE = 1 << 20


def registry_auth(cli: Cli, name: str) -> dict[str, str]:
    """The header with the user's credentials for a name's registry; always sent, as docker does."""
    from corten.cli.login import header_for

    return {"X-Registry-Auth": header_for(cli.config_dir, domain_of(name)[0])}


def pull_image(cli: Cli, text: str, *, platform: str = "", quiet: bool = False, to_stderr: bool = False,
               all_tags: bool = False) -> str:
    """Pull one reference and show the progress; returns the reference in full. POST /images/create."""
    check(text)
    name, tag, digest = split_name(text)
    if all_tags and (tag or digest):
        raise Failure("tag can't be used with --all-tags/-a")
    query = [("fromImage", full_name(name))]
    if not all_tags:
        query.append(("tag", digest or tag or "latest"))
    if platform:
        query.append(("platform", platform))
    reply = cli.client.open("POST", "/images/create", query, None, registry_auth(cli, name))
    if quiet:
        for message in reply.objects():
            if message.get("error"):
                raise Failure(str(message["error"]))
    else:
        show(reply.objects(), 2 if to_stderr else 1)
    return full_name(name) + (f"@{digest}" if digest else "" if all_tags else f":{tag or 'latest'}")


def pull(cli: Cli, values: Values) -> None:
    """`corten pull NAME[:TAG|@DIGEST]`."""
    text = values.rest[0]
    _, tag, digest = split_name(text)
    if not values.flag("quiet") and not tag and not digest and not values.flag("all-tags") and is_valid(text):
        cli.out("Using default tag: latest")
        sys.stdout.flush()
    full = pull_image(cli, text, platform=values.text("platform"), quiet=values.flag("quiet"),
                      all_tags=values.flag("all-tags"))
    cli.out(full)


def push(cli: Cli, values: Values) -> None:
    """`corten push NAME[:TAG]`. POST /images/{name}/push."""
    text = values.rest[0]
    check(text)
    name, tag, digest = split_name(text)
    everything = values.flag("all-tags")
    if everything and tag:
        raise Failure("tag can't be used with --all-tags/-a")
    if digest:
        raise Failure("cannot push a digest reference")
    if not everything and not tag:
        tag = "latest"
        if not values.flag("quiet"):
            cli.out("Using default tag: latest")
            sys.stdout.flush()
    query = [("tag", tag)] if tag else []
    if values.text("platform"):
        _note(cli, _ONE_PLATFORM)
    notes: list[str] = []
    reply = cli.client.open(
        "POST", f"/images/{quote(full_name(name), b'/:')}/push", query + _platform(values), None,
        registry_auth(cli, name))
    if values.flag("quiet"):
        for message in reply.objects():
            if message.get("error"):
                raise Failure(str(message["error"]))
            notes += _instead_of_index(message.get("aux"))
        cli.out(full_name(name) + (f":{tag}" if tag else ""))
    else:
        show(reply.objects(), 1, lambda aux: notes.extend(_instead_of_index(aux)))
    for note in notes:
        _note(cli, note)


_ONE_PLATFORM = (
    "Using --platform pushes only the specified platform manifest of a multi-platform image index.\n"
    "Other components, like attestations, will not be included.\n"
    "To push the complete multi-platform image, remove the --platform flag.\n"
)


def _note(cli: Cli, text: str) -> None:
    cli.out("\n Info -> " + text.replace("\n", "\n         "))
    sys.stdout.flush()


def _instead_of_index(aux: object) -> list[str]:
    """What to say when the engine has pushed one manifest, since parts of the index are not there."""
    if not isinstance(aux, dict) or not aux.get("manifestPushedInsteadOfIndex"):
        return []
    index, chosen = ((aux.get(name) or {}).get("digest", "") for name in ("originalIndex", "selectedManifest"))
    return [f"Not all multiplatform-content is present and only the available single-platform image was pushed\n"
            f"{index} -> {chosen}"]


def pieces_of(descriptor: int) -> Iterator[bytes]:
    """A file's bytes as they come."""
    while piece := os.read(descriptor, _PIECE):
        yield piece


def open_input(path: str) -> int:
    """A file to read, `-` for stdin. Raises Failure with Go's text."""
    if path == "-":
        return 0
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise Failure(f"open {path}: {(error.strerror or str(error)).lower()}") from None


def load(cli: Cli, values: Values) -> None:
    """`corten load`. POST /images/load."""
    path = values.text("input")
    if not path and os.isatty(0):
        raise Failure("requested load from stdin, but stdin is empty")
    descriptor = open_input(path or "-")
    quiet = values.flag("quiet") or not os.isatty(1)
    query = [("quiet", "1" if quiet else "0")]
    query += _platform(values)
    body = pieces_of(descriptor)
    if not quiet:
        name = os.path.basename(path) if path not in ("", "-") else "stdin"
        body = sent(body, os.fstat(descriptor).st_size, 1, name)
    reply = cli.client.open("POST", "/images/load", query, body, {"Content-Type": "application/x-tar"})
    if "json" in reply.headers.get("content-type", ""):
        show(reply.objects(), 1)
        return
    for piece in reply.pieces():
        sys.stdout.write(piece.decode("utf-8", "replace"))


def check_output(path: str, what: str) -> None:
    """Raises Failure when nothing can be written at the path."""
    if path in ("", "-"):
        return
    folder = os.path.dirname(path) or "."
    if not os.path.exists(folder):
        raise Failure(f"{what}invalid output path: stat {folder}: no such file or directory")
    if os.path.isdir(path):
        raise Failure(f'{what}invalid output path: "{path}" must be a regular file')


def to_file(pieces: Iterator[bytes], path: str) -> None:
    """Write a stream beside the path and rename it there: a broken one leaves nothing. `-` or empty is stdout."""
    from corten.cli.stream import write_all
    from corten.cli.whole_file import appearing

    if path in ("", "-"):
        for piece in pieces:
            write_all(1, piece)
        return
    with appearing(path, mode=0o600) as file:
        for piece in pieces:
            write_all(file.fileno(), piece)


def save(cli: Cli, values: Values) -> None:
    """`corten save IMAGE…`. GET /images/get."""
    path = values.text("output")
    if not path and os.isatty(1):
        raise Failure("cowardly refusing to save to a terminal. Use the -o flag or redirect")
    check_output(path, "failed to save image: ")
    query = [("names", name) for name in values.rest] + _platform(values)
    reply = cli.client.open("GET", "/images/get", query)
    to_file(reply.pieces(), path)


def import_(cli: Cli, values: Values) -> None:
    """`corten import FILE|URL|- [NAME]`. POST /images/create."""
    source, *name = values.rest
    query = []
    body = None
    if source.startswith(("http://", "https://")):
        query.append(("fromSrc", source))
    else:
        body = pieces_of(open_input(source))
        query.append(("fromSrc", "-"))
    if name:
        check(name[0])
        query.append(("repo", name[0]))
    if values.text("message"):
        query.append(("message", values.text("message")))
    query += [("changes", change) for change in values.many("change")]
    if values.text("platform"):
        query.append(("platform", values.text("platform").lower()))
    reply = cli.client.open("POST", "/images/create", query, body)
    show(reply.objects(), 1)
