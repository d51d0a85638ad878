"""COPY and ADD made into an operation: which files, to where, with which owner and mode, named by their content.

Source: Dockerfile reference, "COPY", "ADD"; error texts are docker's.
"""

from __future__ import annotations

import asyncio
import hashlib
import posixpath
from collections.abc import Awaitable, Callable

from corten.base.errors import Error, InvalidArgument, Unsupported
from corten.build import changes
from corten.build.context import Selected, Tree, select
from corten.build.heredocs import Heredoc, heredoc_of
from corten.build.instructions import Command
from corten.build.ops import Backend, Copy, Piece
from corten.build.owner import parse_mode, parse_owner
from corten.build.stage import StageState
from corten.build.variables import Expander

_NOT_DONE = {"COPY": ("parents",), "ADD": ("keep-git-dir", "checksum", "unpack")}


async def copy_operation(state: StageState, command: Command, trees: Callable[[str], Awaitable[Tree]],
                         backend: Backend) -> Copy:
    """Expand, select, digest. Raises InvalidArgument and Unsupported with docker's texts."""
    name = command.name
    for flag in _NOT_DONE[name]:
        if flag in command.flags:
            raise Unsupported(f"{name} --{flag} is not done yet by this builder")
    words = changes.expander(state)
    *sources, target = [word if heredoc_of(word) else words.word(word) for word in command.arguments]
    chown, mode = words.word(command.flag("chown")), parse_mode(words.word(command.flag("chmod")))
    origin = words.word(command.flag("from"))
    try:
        pieces, digest = await _gather(state, command, sources, origin, trees, backend)
    except (InvalidArgument, OSError) as error:
        raise InvalidArgument(f"{name} failed: {error}") from None
    if len(pieces) > 1 and not target.endswith("/"):
        raise InvalidArgument(f"When using {name} with more than one source file, the destination must be a directory "
                              "and end with a /")
    owner_given = f"--chown={chown} " if chown else ""
    mode_given = f"--chmod={command.flag('chmod')} " if mode is not None else ""
    keep_owner = bool(origin) and not chown

    def owner(root: int) -> tuple[int, int] | None:
        return parse_owner(chown, root) if chown else None if keep_owner else (0, 0)

    return Copy(state.no_op(f"{name} {owner_given}{mode_given}{digest} in {target} ", spaced=False), state.document,
                pieces, destination(state, target), owner, mode, name == "ADD" and not origin)


def destination(state: StageState, target: str) -> str:
    """The absolute path; a `/` at its end (or `.`) stays meaningful. Raises InvalidArgument."""
    path = posixpath.join("/", state.config.get("WorkingDir") or "/", target)
    into = path.endswith(("/", "/.", "/.."))
    path = "/" + posixpath.normpath(path).lstrip("/")
    return path.rstrip("/") + "/" if into else path


async def _gather(state: StageState, command: Command, sources: list[str], origin: str,
                  trees: Callable[[str], Awaitable[Tree]], backend: Backend) -> tuple[list[Piece], str]:
    heredocs = {document.name: document for document in command.heredocs}
    inline: list[Piece] = []
    paths: list[str] = []
    for word in sources:
        document = heredoc_of(word)
        if document:
            inline.append(_inline(state, heredocs[document.name]))
        elif command.name == "ADD" and word.startswith(("http://", "https://")):
            inline.append(await _download(word, backend))
        elif command.name == "ADD" and (word.startswith("git@") or word.split("#")[0].endswith(".git")):
            raise Unsupported("ADD of a git repository is not done yet by this builder")
        else:
            paths.append(word)
    names = [f"file:{hashlib.sha256(piece.name.encode() + b'/' + piece.content).hexdigest()}" for piece in inline]
    pieces = inline
    if paths or not inline:
        tree = await trees(origin)
        found: Selected = await asyncio.to_thread(select, tree, paths, command.flags.get("exclude", []), backend.check)
        pieces = inline + [Piece(tree, path) for path in found.paths]
        names.append(found.name)
    if len(names) == 1:
        return pieces, names[0]
    return pieces, f"multi:{hashlib.sha256(' '.join(names).encode()).hexdigest()}"


def _inline(state: StageState, document: Heredoc) -> Piece:
    text = document.chomped
    if document.expand:
        text = Expander(state.variables()).heredoc(text)
    return Piece(None, "", document.name, text.encode("utf-8", "surrogateescape"))


async def _download(url: str, backend: Backend) -> Piece:
    try:
        name, content = await backend.download(url)
    except (Error, OSError) as error:
        raise InvalidArgument(str(error)) from None
    return Piece(None, "", name, content)
