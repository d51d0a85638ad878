"""Where a build's files come from: the main context, the Dockerfile, `--build-context`. Source: docker buildx build.

    PATH         two folders the engine may read: "context", and "dockerfile", the folder the Dockerfile is in
    -            a tar on standard input is uploaded when asked for; a Dockerfile there has no context
    URL          the engine's to fetch
"""

import os
from collections.abc import Iterator

from corten.cli.args import Values
from corten.cli.build_stdin import is_archive, stdin_head, stdin_pieces
from corten.cli.buildkit.asked import Asked
from corten.cli.buildkit.caches import manifests, name_of, read_index
from corten.cli.buildkit.fields import folder
from corten.cli.errors import Failure

REMOTES = ("http://", "https://", "git://", "ssh://", "github.com/", "git@")
_IMAGE, _LAYOUT, _TARGET = "docker-image://", "oci-layout://", "target:"
_LOCAL = "local:"


def is_remote(path: str) -> bool:
    """Whether a context is the engine's to fetch."""
    return path.startswith(REMOTES)


def read_contexts(values: Values, asked: Asked) -> None:
    """Fill in folders, uploads and attributes. Reads standard input where it is named. Raises Failure."""
    path, file = values.rest[0], values.text("file")
    if path == "-":
        _standard_input(file, asked)
    elif is_remote(path):
        asked.attributes["context"] = path
        if file == "-":
            asked.folders["dockerfile"] = _scratch(asked, b"".join(stdin_pieces(b"")))
            asked.attributes |= {"dockerfilekey": "dockerfile", "filename": "Dockerfile"}
        elif file:
            asked.attributes["filename"] = file
    else:
        _main_folder(path, file, asked)
    for text in values.many("build-context"):
        _named(text, asked)


def _scratch(asked: Asked, dockerfile: bytes | None = None) -> str:
    """A folder that lives as long as the build, with a Dockerfile in it."""
    from tempfile import mkdtemp

    made = mkdtemp(prefix="corten-build-")
    asked.scratch.append(made)
    if dockerfile is not None:
        with open(f"{made}/Dockerfile", "wb") as written:
            written.write(dockerfile)
    return made


def _standard_input(file: str, asked: Asked) -> None:
    if file == "-":
        raise Failure("ERROR: invalid argument: can't use stdin for both build context and dockerfile")
    head = stdin_head()
    if is_archive(head):
        asked.attributes["context"] = f"http://buildkit-session/{os.urandom(12).hex()}"

        def pieces() -> Iterator[bytes]:
            return stdin_pieces(head)

        asked.uploads[asked.attributes["context"].removeprefix("http://buildkit-session")] = pieces
        if file:
            asked.attributes["filename"] = file
        return
    if file:
        raise Failure("ERROR: ambiguous Dockerfile source: both stdin and flag correspond to Dockerfiles")
    asked.folders["dockerfile"] = _scratch(asked, b"".join(stdin_pieces(head)))
    asked.folders["context"] = _scratch(asked)
    asked.attributes["filename"] = "Dockerfile"


def _main_folder(path: str, file: str, asked: Asked) -> None:
    context = folder(path, "unable to prepare context")
    asked.folders["context"] = context
    asked.share = context
    if file == "-":
        asked.folders["dockerfile"] = _scratch(asked, b"".join(stdin_pieces(b"")))
        asked.attributes["filename"] = "Dockerfile"
        return
    given = file or dockerfile_in(context)
    above = os.path.dirname(os.path.abspath(given))
    asked.folders["dockerfile"] = folder(above, "failed to read dockerfile")
    asked.attributes["filename"] = os.path.basename(given)


def dockerfile_in(context: str) -> str:
    """The Dockerfile of a folder, when none is named."""
    usual, small = f"{context}/Dockerfile", f"{context}/dockerfile"
    return small if not os.path.lexists(usual) and os.path.exists(small) else usual


def _named(text: str, asked: Asked) -> None:
    """`--build-context NAME=VALUE`"""
    name, equals, value = text.partition("=")
    if not equals or not name or not value:
        raise Failure(f"ERROR: invalid context value: {text}, expected key=value")
    name = name.lower()
    if value.startswith(_LAYOUT):
        value = _layout(value.removeprefix(_LAYOUT), asked)
    elif value.startswith(_TARGET):
        raise Failure(f"ERROR: the build context {text} is for bake: one build has no other targets")
    elif not value.startswith(_IMAGE) and not is_remote(value):
        asked.folders[name] = folder(value, f"failed to get build context {name}")
        value = f"{_LOCAL}{name}"
    asked.attributes[f"context:{name}"] = value


def _layout(text: str, asked: Asked) -> str:
    """`PATH[:TAG][@DIGEST]` of an OCI layout, whose folder becomes a store of ours."""
    place, _, digest = text.partition("@")
    path, colon, tag = place.rpartition(":")
    if not colon or "/" in tag:
        path, tag = place, ""
    store = folder(path, "invalid OCI layout")
    if not digest:
        listed = manifests(read_index(store))
        chosen = [one for one in listed if name_of(one) == (tag or "latest")] or (listed if not tag else [])
        if not chosen:
            raise Failure(f"ERROR: invalid OCI layout {path}: could not find the tag {tag or 'latest'}")
        digest = str(chosen[0].get("digest", ""))
    identity = f"layout{len(asked.stores)}"
    asked.stores[f"oci:{identity}"] = store
    return f"{_LAYOUT}{identity}@{digest}"
