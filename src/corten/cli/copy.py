"""`corten cp`: files between here and a container, by docker's rules of what lands where.

Source: the docs page "docker container cp". What comes out of a container is an untrusted archive: image.extract
writes it below the target and nowhere else.
"""

import binascii
import os
import stat
import sys
from collections.abc import Iterator

from corten.base import jsonio
from corten.cli.args import Values
from corten.cli.client import Response, quote
from corten.cli.errors import ApiError, Failure
from corten.cli.main import Cli
from corten.cli.stream import write_all
from corten.image.tar_reader import Entry, Reader

_GO_DIR, _GO_LINK = 1 << 31, 1 << 27


class PathInfo:
    """One end of a copy: the path as asked for, whether it is there and a folder."""

    __slots__ = ("exists", "is_dir", "path", "rebase")

    def __init__(self, path: str, exists: bool = False, is_dir: bool = False, rebase: str = "") -> None:
        self.path = path
        self.exists = exists
        self.is_dir = is_dir
        self.rebase = rebase


def split_argument(text: str) -> tuple[str, str]:
    """`C:PATH` -> (container, path); a path of this machine has no container. `./a:b` and `/a:b` are paths."""
    if text.startswith("/"):
        return "", text
    name, colon, path = text.partition(":")
    if not colon or name.startswith("."):
        return "", text
    return name, path


def clean(path: str) -> str:
    """Go's filepath.Clean."""
    text = os.path.normpath(path) if path else "."
    return "/" + text.lstrip("/") if text.startswith("//") else text


def _means_inside(path: str) -> bool:
    """`dir/.`: what is in it, not itself."""
    return path == "." or path.endswith("/.")


def _kept_end(cleaned: str, original: str) -> str:
    """Clean drops a slash or `/.` at the end, which mean something here."""
    if _means_inside(original) and not _means_inside(cleaned):
        cleaned = cleaned if cleaned.endswith("/") else cleaned + "/"
        return cleaned + "."
    return cleaned + "/" if original.endswith("/") and not cleaned.endswith("/") else cleaned


def split_entry(path: str) -> tuple[str, str]:
    """(folder, last name); the last name of `dir/.` is `.`."""
    cleaned = clean(path)
    if _means_inside(path):
        return cleaned, "."
    return os.path.dirname(cleaned) or ".", os.path.basename(cleaned) or "/"


def placed(source: PathInfo, target: PathInfo) -> tuple[str, str, str]:
    """(folder to unpack in, first name in the archive, what it is called there). Raises Failure with docker's texts."""
    folder, base = split_entry(target.path)
    name = source.rebase or split_entry(source.path)[1]
    if target.exists and target.is_dir:
        return target.path, "", ""
    if target.exists and source.is_dir:
        raise Failure("cannot copy directory")
    if not target.exists and not source.is_dir and (target.path.endswith("/") or _means_inside(target.path)):
        raise Failure("no such directory")
    return folder, name, base


def renamed(name: bytes, old: bytes, new: bytes) -> bytes:
    """A member's name with its first part exchanged."""
    bare = name.removeprefix(b"./")
    if old == b"." or old == b"/":
        return new + (b"/" + bare.lstrip(b"/") if bare.strip(b"/.") else b"")
    if bare == old or bare.startswith(old + b"/"):
        return new + bare[len(old):]
    return name


class _Bodies:
    """A reply's body as the tar reader takes it."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._held = b""
        self.total = 0

    def _fill(self) -> bool:
        piece = next(self._pieces, b"")
        self._held += piece
        self.total += len(piece)
        return bool(piece)

    def take(self, size: int) -> bytes:
        """Exactly so many bytes, fewer at the end."""
        while len(self._held) < size and self._fill():
            pass
        data, self._held = self._held[:size], self._held[size:]
        return data

    def skip(self, size: int) -> int:
        """Pass over bytes; how many there were."""
        done = 0
        while done < size:
            if not self._held and not self._fill():
                break
            part = min(size - done, len(self._held))
            self._held = self._held[part:]
            done += part
        return done

    def copy_to(self, descriptor: int, size: int) -> int:
        """Into a file; how many there were."""
        done = 0
        while done < size:
            if not self._held and not self._fill():
                break
            part = self._held[:size - done]
            self._held = self._held[len(part):]
            write_all(descriptor, part)
            done += len(part)
        return done


class _Renaming(Reader):
    """Members with their first name exchanged; owners dropped unless they are wanted."""

    __slots__ = ("_keep_owner", "_new", "_old")

    def __init__(self, source: _Bodies, old: str, new: str, keep_owner: bool) -> None:
        super().__init__(source)
        self._old, self._new = os.fsencode(old), os.fsencode(new)
        self._keep_owner = keep_owner

    def __iter__(self) -> Iterator[Entry]:
        for entry in super().__iter__():
            if self._old:
                entry.name = renamed(entry.name, self._old, self._new)
                if entry.kind == b"1":
                    entry.link = renamed(entry.link, self._old, self._new)
            if not self._keep_owner:
                entry.uid = entry.gid = 0
            yield entry


def _stat_of(response: Response) -> dict[str, object]:
    text = response.headers.get("x-docker-container-path-stat", "")
    found = jsonio.loads(binascii.a2b_base64(text)) if text else {}
    return found if isinstance(found, dict) else {}


def _mode(found: dict[str, object]) -> int:
    value = found.get("mode")
    return value if isinstance(value, int) else 0


def _container_stat(cli: Cli, container: str, path: str) -> dict[str, object] | None:
    """What is at a path in a container; None when nothing is."""
    response = cli.client.request("HEAD", f"/containers/{quote(container)}/archive", [("path", path)])
    response.read()
    if response.status == 404:
        found = cli.client.request("GET", f"/containers/{quote(container)}/json")
        if found.status >= 400:
            from corten.cli.client import message_of

            raise ApiError(found.status, message_of(found.status, found.read()))
        found.read()
        return None
    return _stat_of(response) if response.status < 400 else None


def _in_container(path: str, link: object) -> str:
    target = str(link)
    return target if target.startswith("/") else os.path.join(os.path.dirname(path), target)


def _said(cli: Cli, values: Values, size: int, target: str) -> None:
    if not values.flag("quiet") and os.isatty(1):
        from corten.base.human import human_size

        cli.error(f"Successfully copied {human_size(size, 3)} to {target}")


def _out(cli: Cli, values: Values, container: str, source: str, target: str) -> None:
    """Container to here."""
    above = os.path.dirname(os.path.abspath(target)) if target != "-" else ""
    if above and not os.path.exists(above):
        raise Failure(f'invalid output path: directory "{above}" does not exist')
    if values.flag("follow-link"):
        found = _container_stat(cli, container, source)
        rebase = ""
        if found and _mode(found) & _GO_LINK:
            linked = _in_container(source, found.get("linkTarget", ""))
            rebase = os.path.basename(clean(source)) if os.path.basename(clean(linked)) != os.path.basename(
                clean(source)) else ""
            source = _kept_end(linked, source)
    else:
        rebase = ""
    reply = cli.client.open("GET", f"/containers/{quote(container)}/archive", [("path", source)])
    if target == "-":
        for piece in reply.pieces():
            write_all(1, piece)
        return
    info = PathInfo(source, True, bool(_mode(_stat_of(reply)) & _GO_DIR), rebase)
    where = _local_target(target)
    folder, old, new = placed(info, where)
    if not os.path.isdir(folder):
        raise Failure(f'invalid output path: directory "{folder}" does not exist')
    if rebase:
        old, new = split_entry(source)[1], new or rebase
    from corten.image.extract import Extractor

    os.umask(0)
    bodies = _Bodies(reply.pieces())
    root = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        Extractor(root, whiteouts=False, cross_mounts=True).run(_Renaming(bodies, old, new, values.flag("archive")))
    finally:
        os.close(root)
    _said(cli, values, bodies.total, os.path.abspath(target))


def _local_target(path: str) -> PathInfo:
    """The local end: links are followed to where they lead, there or not."""
    given = _kept_end(os.path.abspath(path), path)
    current = given
    for _ in range(20):
        try:
            found = os.lstat(current.rstrip("/") or "/")
        except FileNotFoundError:
            return PathInfo(current)
        except NotADirectoryError:
            raise Failure(f"lstat {current}: not a directory") from None
        if not stat.S_ISLNK(found.st_mode):
            return PathInfo(current, True, stat.S_ISDIR(found.st_mode))
        current = os.path.join(os.path.dirname(current.rstrip("/")), os.readlink(current.rstrip("/")))
    raise Failure(f"too many symlinks in {path}")


def _local_source(path: str, follow: bool) -> PathInfo:
    given = _kept_end(os.path.abspath(path), path)
    resolved, rebase = given, ""
    if follow or path.endswith("/") or _means_inside(path):
        resolved = _kept_end(os.path.realpath(given), path)
        if os.path.basename(clean(given)) != os.path.basename(clean(resolved)) and not _means_inside(path):
            rebase = os.path.basename(clean(given))
    try:
        found = os.lstat(resolved.rstrip("/") or "/")
    except OSError as error:
        raise Failure(f"lstat {clean(given)}: {(error.strerror or str(error)).lower()}") from None
    return PathInfo(resolved, True, stat.S_ISDIR(found.st_mode), rebase)


def _in(cli: Cli, values: Values, source: str, container: str, target: str) -> None:
    """Here to container."""
    where = PathInfo(target)
    found = _container_stat(cli, container, target)
    if found and _mode(found) & _GO_LINK:
        where.path = _in_container(target, found.get("linkTarget", ""))
        found = _container_stat(cli, container, where.path)
    if found:
        where.exists, where.is_dir = True, bool(_mode(found) & _GO_DIR)
    if source == "-":
        if not where.is_dir:
            raise Failure(f'destination "{container}:{target}" must be a directory')
        from corten.cli.transfer import pieces_of

        folder, body = where.path, pieces_of(0)
    else:
        from corten.cli.tarball import Tree

        info = _local_source(source, values.flag("follow-link"))
        folder, old, new = placed(info, where)
        base = split_entry(info.path)[1]
        name = new if old else info.rebase or base
        body = Tree().pieces(clean(info.path), "" if name == "." else name)
    query = [("noOverwriteDirNonDir", "true"), ("path", folder)]
    if values.flag("archive"):
        query.append(("copyUIDGID", "true"))
    total = 0

    def counted() -> Iterator[bytes]:
        nonlocal total
        for piece in body:
            total += len(piece)
            yield piece

    cli.client.call("PUT", f"/containers/{quote(container)}/archive", query, counted(),
                    {"Content-Type": "application/x-tar"})
    _said(cli, values, total, f"{container}:{target}")


def cp(cli: Cli, values: Values) -> None:
    """`corten cp SOURCE TARGET`, one of the two in a container."""
    source_text, target_text = values.rest
    if not source_text or not target_text:
        raise Failure(("source" if not source_text else "destination") + " can not be empty")
    source_container, source = split_argument(source_text)
    container, target = split_argument(target_text)
    if source_container and container:
        raise Failure("copying between containers is not supported")
    if source_container:
        _out(cli, values, source_container, source, target)
    elif container:
        _in(cli, values, source, container, target)
    else:
        raise Failure("must specify at least one container source")
    sys.stdout.flush()
