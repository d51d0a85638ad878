"""COPY and ADD made into an operation: which files, to where, with which owner and mode, named by their content.

Source: Dockerfile reference, "COPY", "ADD"; error texts are docker's.
"""

from __future__ import annotations

import asyncio
import hashlib
import posixpath
import re
from collections.abc import Awaitable, Callable

from corten.base.errors import Error, InvalidArgument
from corten.build import changes
from corten.build.context import Tree, select
from corten.build.heredocs import Heredoc, heredoc_of
from corten.build.instructions import Command
from corten.build.ops import Backend, Copy, Piece
from corten.build.owner import parse_mode, parse_owner
from corten.build.remotes import GitRef, git_ref, is_http
from corten.build.stage import StageState
from corten.build.variables import Expander

_SHA256 = re.compile(r"sha256:[0-9a-f]{64}", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{7,64}", re.ASCII)


class _Asked:
    """A COPY or ADD with its words expanded."""

    __slots__ = ("checksum", "chmod", "chown", "command", "excludes", "keep_git_dir", "origin", "parents", "sources",
                 "target", "unpack")

    def __init__(self, state: StageState, command: Command) -> None:
        words = changes.expander(state)
        self.command = command
        *self.sources, self.target = [word if heredoc_of(word) else words.word(word) for word in command.arguments]
        self.chown, self.chmod = words.word(command.flag("chown")), words.word(command.flag("chmod"))
        self.checksum, self.origin = words.word(command.flag("checksum")), words.word(command.flag("from"))
        self.excludes = [words.word(text) for text in command.flags.get("exclude", ())]
        self.parents = command.flag("parents") == "true"
        self.keep_git_dir, self.unpack = command.flag("keep-git-dir"), command.flag("unpack")
        remote = [source for source in self.sources if is_http(source) or git_ref(source)]
        if command.name == "COPY" and remote:
            kind = "URL" if is_http(remote[0]) else "git ref"
            raise InvalidArgument(f"source can't be a {kind} for COPY")
        if self.checksum and len(self.sources) != 1:
            raise InvalidArgument("checksum can't be specified for multiple sources")
        if self.checksum and not remote:
            raise InvalidArgument("checksum requires HTTP(S) or Git sources")


async def copy_operation(state: StageState, command: Command, trees: Callable[[str], Awaitable[Tree]],
                         backend: Backend) -> Copy:
    """Expand, select, digest. Raises InvalidArgument with docker's texts."""
    name, asked = command.name, _Asked(state, command)
    mode = parse_mode(asked.chmod)
    try:
        pieces, digest = await _gather(state, asked, trees, backend)
    except (InvalidArgument, OSError) as error:
        raise InvalidArgument(f"{name} failed: {error}") from None
    target = asked.target
    if asked.parents:
        target = target.rstrip("/") + "/"
    elif len(pieces) > 1 and not target.endswith("/"):
        raise InvalidArgument(f"When using {name} with more than one source file, the destination must be a directory "
                              "and end with a /")
    given = "--parents " if asked.parents else ""
    given += "".join(f"--{flag}={value} " for flag, value in (("chown", asked.chown), ("chmod", asked.chmod)) if value)
    keep_owner = bool(asked.origin) and not asked.chown

    if command.flag("link") == "true" and asked.chown.partition(":")[0] == "root":  # nobody else is known on nothing
        asked.chown = "0" + asked.chown.removeprefix("root").replace(":root", ":0")

    def owner(root: int) -> tuple[int, int] | None:
        return parse_owner(asked.chown, root) if asked.chown else None if keep_owner else (0, 0)

    text = " ".join([asked.chmod, asked.unpack, asked.keep_git_dir, *asked.excludes])
    content = f"{name} {given}{digest}"
    return Copy(state.no_op(f"{content} in {target} ", spaced=False), state.document, pieces,
                destination(state, target), owner, bool(asked.chown), mode, asked.excludes, text, content)


def destination(state: StageState, target: str) -> str:
    """The absolute path; a `/` at its end (or `.`) stays meaningful. Raises InvalidArgument."""
    path = posixpath.join("/", state.config.get("WorkingDir") or "/", target)
    into = path.endswith(("/", "/.", "/.."))
    path = "/" + posixpath.normpath(path).lstrip("/")
    return path.rstrip("/") + "/" if into else path


async def _gather(state: StageState, asked: _Asked, trees: Callable[[str], Awaitable[Tree]],
                  backend: Backend) -> tuple[list[Piece], str]:
    """What the sources come to, and the name of it all."""
    heredocs = {document.name: document for document in asked.command.heredocs}
    pieces: list[Piece] = []
    names: list[str] = []
    paths: list[str] = []
    for word in asked.sources:
        document = heredoc_of(word)
        if document:
            piece = _inline(state, heredocs[document.name])
            pieces.append(piece)
            names.append(f"file:{hashlib.sha256(piece.name.encode() + b'/' + piece.content).hexdigest()}")
        elif asked.command.name == "ADD" and is_http(word):
            pieces.append(await _download(word, asked, backend))
            tree = pieces[-1].tree
            assert tree is not None
            names.append("file:" + (await asyncio.to_thread(tree.digest, pieces[-1].path, False, backend.check))[1])
        elif asked.command.name == "ADD" and (ref := git_ref(word)):
            piece, commit = await _clone(ref, asked, backend)
            pieces.append(piece)
            names.append(f"git:{hashlib.sha256(f'{ref.remote} {commit} {ref.subdir}'.encode()).hexdigest()}")
        else:
            paths.append(word)
    if paths or not pieces:
        tree = await trees(asked.origin)
        found = await asyncio.to_thread(select, tree, paths, asked.excludes, backend.check, parents=asked.parents)
        extract = (asked.command.name == "ADD") if not asked.unpack else asked.unpack == "true"
        pieces += [Piece(tree, path, base=base if asked.parents else None, extract=extract)
                   for base, path in found.paths]
        names.append(found.name)
    if len(names) == 1:
        return pieces, names[0]
    return pieces, f"multi:{hashlib.sha256(' '.join(names).encode()).hexdigest()}"


def _inline(state: StageState, document: Heredoc) -> Piece:
    text = document.chomped
    if document.expand:
        text = Expander(state.variables()).heredoc(text)
    return Piece(None, "", document.name, text.encode("utf-8", "surrogateescape"))


async def _download(url: str, asked: _Asked, backend: Backend) -> Piece:
    """A file behind a URL; not unpacked unless asked for."""
    if asked.checksum and not _SHA256.fullmatch(asked.checksum):
        raise InvalidArgument(f"invalid checksum digest format: {asked.checksum}")
    try:
        found = await backend.remotes.download(url)
    except (Error, OSError) as error:
        raise InvalidArgument(str(error)) from None
    if asked.checksum and found.digest != asked.checksum:
        raise InvalidArgument(f"digest mismatch {found.digest}: {asked.checksum}")
    return Piece(found.tree, found.name, extract=asked.unpack == "true")


async def _clone(ref: GitRef, asked: _Asked, backend: Backend) -> tuple[Piece, str]:
    """A repository's files; the commit's name."""
    keep = {"": ref.keep_git_dir, "true": True, "false": False}[asked.keep_git_dir]
    if ref.keep_git_dir is not None and keep != ref.keep_git_dir:
        raise InvalidArgument("inconsistent keep-git-dir configuration")
    if asked.checksum and ref.checksum and asked.checksum != ref.checksum:
        raise InvalidArgument(f'checksum mismatch "{asked.checksum}" != "{ref.checksum}"')
    ref.checksum = ref.checksum or asked.checksum
    if ref.checksum and not _COMMIT.fullmatch(ref.checksum):
        raise InvalidArgument(f"invalid checksum: {ref.checksum}")
    tree, commit = await backend.remotes.clone(ref, bool(keep))
    return Piece(tree, "."), commit
