"""Where COPY and ADD take from: the build context, or another image's tree; which of its paths an argument means.

Blocking; runs in a thread. Reads names and, for digests, contents; changes nothing.
Source: the Dockerfile reference, "COPY" and "ADD"; error texts are docker's.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
from collections.abc import Callable

from corten.base.errors import Internal, InvalidArgument
from corten.build.dockerignore import Ignore, Pattern
from corten.build.files import Digester, Source, walk
from corten.linux.path import open_in_root

DOCKERFILE_LIMIT = 4 << 20
_WILD = frozenset("*?[")


class Tree:
    """A tree to copy from. is_context: the caller's files (owners do not count); else an image's."""

    __slots__ = ("_digests", "is_context", "root")

    def __init__(self, root: int, is_context: bool) -> None:
        self.root, self.is_context = root, is_context
        self._digests: dict[tuple[str, bool, str], str] = {}

    def close(self) -> None:
        os.close(self.root)

    def digest(self, path: str, owners: bool, check: Callable[[], None], excludes: str = "") -> tuple[str, str]:
        """("file" | "dir", hexadecimal digest) of a path without what is excluded. Raises OSError, InvalidArgument."""
        source = Source(self.root, path)
        try:
            key = (path, owners, excludes)
            if key not in self._digests:
                ignore = Ignore(excludes) if excludes else None
                self._digests[key] = Digester(owners, check, ignore).digest(source)
            return ("dir" if source.is_folder else "file"), self._digests[key]
        finally:
            source.close()


class Selected:
    """What the source arguments came to: paths in the tree, and the name docker gives the whole (`dir:<digest>`).

    A path is (base, path below it): the base is "" except for COPY --parents.
    """

    __slots__ = ("name", "paths")

    def __init__(self, paths: list[tuple[str, str]], name: str) -> None:
        self.paths, self.name = paths, name


def select(tree: Tree, arguments: list[str], excludes: list[str], check: Callable[[], None], *,
           parents: bool = False) -> Selected:
    """Resolve source arguments, wildcards too. Raises InvalidArgument with docker's text (without "COPY failed: ")."""
    text = "\n".join(excludes)
    ignore = Ignore(text) if excludes else None
    paths: list[tuple[str, str]] = []
    for argument in arguments:
        if parents:
            paths += _below(tree, argument, check)
        else:
            paths += [("", path) for path in _matches(tree, argument, check)
                      if not (ignore and _is_wild(argument) and ignore.excludes(path))]
    if not paths:
        raise InvalidArgument("no source files were specified")
    found = [tree.digest(posixpath.join(*path), not tree.is_context, check, text) for path in paths]
    if len(found) == 1 and not parents:
        return Selected(paths, f"{found[0][0]}:{found[0][1]}")
    lines = [f"{path} {kind}:{digest}"
             for (_, path), (kind, digest) in zip(paths, found, strict=True)]
    return Selected(paths, f"multi:{hashlib.sha256(os.fsencode(chr(10).join(lines))).hexdigest()}")


def _inside(argument: str) -> str:
    path = posixpath.normpath(argument).lstrip("/") or "."
    if path == ".." or path.startswith("../"):
        raise InvalidArgument(f"forbidden path outside the build context: {argument} ()")
    return path


def _matches(tree: Tree, argument: str, check: Callable[[], None]) -> list[str]:
    path = _inside(argument)
    if _is_wild(argument):
        pattern = Pattern("/".join("*" if part == "**" else part for part in path.split("/")))
        return [name for name in walk(tree.root, check) if pattern.matches(name.split("/"))]
    _exists(tree, path)
    return [path]


def _exists(tree: Tree, path: str) -> None:
    try:
        os.close(open_in_root(tree.root, path))
    except OSError:
        where = "file not found in build context or excluded by .dockerignore: " if tree.is_context else ""
        raise InvalidArgument(f"{where}stat {path}: file does not exist") from None


def _below(tree: Tree, argument: str, check: Callable[[], None]) -> list[tuple[str, str]]:
    """--parents: what matches below the pivot (`/./`, else the root), with the way to it; `**` crosses folders."""
    front, pivot, below = argument.partition("/./")
    if not pivot:
        front, below = ".", argument
    path = _inside(below)
    found: list[tuple[str, str]] = []
    for base in _matches(tree, front or ".", check):
        if path == ".":
            descriptor = open_in_root(tree.root, base, os.O_RDONLY | os.O_DIRECTORY)
            found += [(base, name) for name in sorted(os.listdir(descriptor))]
            os.close(descriptor)
        elif _is_wild(path):
            pattern, last = Pattern(path), ""
            folder = open_in_root(tree.root, base, os.O_RDONLY | os.O_DIRECTORY)
            try:
                for name in walk(folder, check):
                    if not (last and name.startswith(last)) and pattern.matches(name.split("/")):
                        last = f"{name}/"  # what is in a folder that matches comes with it
                        found.append((base, name))
            finally:
                os.close(folder)
        else:
            _exists(tree, posixpath.normpath(posixpath.join(base, path)))
            found.append((base, path))
    return found


def _is_wild(argument: str) -> bool:
    at = 0
    while at < len(argument):
        if argument[at] == "\\":
            at += 1
        elif argument[at] in _WILD:
            return True
        at += 1
    return False


class NoDockerfile(Internal):
    """The context has none of that name (docker answers 500)."""

    def __init__(self, name: str) -> None:
        super().__init__(f"Cannot locate specified Dockerfile: {name}")


def read_dockerfile(tree: Tree, path: str) -> bytes:
    """The Dockerfile of a context; a link in it is followed inside the context.

    Raises NoDockerfile; Internal for one outside of the context; InvalidArgument: empty, too long, no regular file.
    """
    name = posixpath.normpath(path or "Dockerfile").lstrip("/")
    if name.startswith("../") or name == "..":
        raise Internal(f"forbidden path outside the build context: {path} ()")
    try:
        source = Source(tree.root, name)
    except OSError:
        if path in ("", "Dockerfile"):
            try:
                source = Source(tree.root, "dockerfile")
            except OSError:
                raise NoDockerfile(path or "Dockerfile") from None
        else:
            raise NoDockerfile(path) from None
    try:
        if not source.is_file:
            raise InvalidArgument(f"the Dockerfile ({path or 'Dockerfile'}) is not a regular file")
        if source.status.st_size > DOCKERFILE_LIMIT:
            raise InvalidArgument(f"the Dockerfile ({path or 'Dockerfile'}) is longer than {DOCKERFILE_LIMIT} bytes")
        if not source.status.st_size:
            raise InvalidArgument(f"the Dockerfile ({path or 'Dockerfile'}) cannot be empty")
        descriptor = source.open()
        try:
            return os.read(descriptor, DOCKERFILE_LIMIT)
        finally:
            os.close(descriptor)
    finally:
        source.close()


def drop_ignored_dockerfile(tree: Tree, path: str) -> None:
    """Remove Dockerfile and .dockerignore from the context when .dockerignore names them.

    The caller's side leaves out what .dockerignore says, except these two, which the builder needs.
    """
    try:
        source = Source(tree.root, ".dockerignore")
    except OSError:
        return
    try:
        if not source.is_file or source.status.st_size > DOCKERFILE_LIMIT:
            return
        descriptor = source.open()
        try:
            ignore = Ignore(os.read(descriptor, DOCKERFILE_LIMIT).decode("utf-8", "replace"))
        finally:
            os.close(descriptor)
    finally:
        source.close()
    for name in (posixpath.normpath(path or "Dockerfile"), ".dockerignore"):
        head, tail = posixpath.split(name)
        if ignore.excludes(name):
            try:
                folder = open_in_root(tree.root, head or ".", os.O_PATH | os.O_DIRECTORY)
            except OSError:
                continue
            try:
                os.unlink(tail, dir_fd=folder)
            except OSError:
                pass
            finally:
                os.close(folder)
