"""What a vertex does: run a program, copy files, make a folder, or only write down a change.

The power to do it is given by a `Backend`; nothing here knows containers, networks or the database.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Protocol

from corten.base.errors import InvalidArgument
from corten.build.context import Tree
from corten.build.copier import Copier
from corten.build.dockerignore import Ignore
from corten.build.files import Source
from corten.build.owner import Mode, parse_owner
from corten.build.remotes import GitRef
from corten.build.run_mounts import RunMount
from corten.build.stage import BuildImage, Layer
from corten.linux.path import open_in_root
from corten.oci.platform import Platform

if TYPE_CHECKING:
    from corten.build.solver import Flight

Commit = Callable[[str, Layer | None], dict[str, Any]]  # (created_by, new layer) -> the configuration document


class RunStep:
    """A program to run in a container on top of an image; `network` "": as the whole build has it.

    inline: (path, content) of a program that is there for the step alone.
    """

    __slots__ = ("environment", "inline", "mounts", "network", "program", "user", "working_dir")

    def __init__(self, program: list[str], environment: list[str], user: str, working_dir: str) -> None:
        self.program, self.environment, self.user, self.working_dir = program, environment, user, working_dir
        self.mounts: list[RunMount] = []
        self.network = ""
        self.inline: tuple[str, str] | None = None


class CommandFailed(Exception):
    """A RUN ended with another code than 0: `program` and `code`."""

    def __init__(self, program: list[str], code: int) -> None:
        super().__init__(f"The command '{' '.join(program)}' returned a non-zero code: {code}")
        self.program, self.code = program, code


class Observer(Protocol):
    """Who is told how a step goes."""

    def running(self, container_id: str) -> None: ...

    def output(self, stream: int, data: bytes) -> None: ...

    def cached(self) -> None: ...


class Downloaded(Protocol):
    """A file that was fetched: alone in `tree` under `name`; `digest` is "sha256:…"."""

    tree: Tree
    name: str
    digest: str


class Remotes(Protocol):
    """What lies elsewhere."""

    async def download(self, url: str) -> Downloaded:
        """The file behind an http(s) URL. Raises InvalidArgument."""

    async def clone(self, ref: GitRef, keep_git_dir: bool) -> tuple[Tree, str]:
        """(a repository's files, the commit's name). Raises InvalidArgument."""


class Backend(Protocol):
    """The engine's powers, as far as a build needs them. `flights`: steps under way in all its builds, by digest."""

    flights: dict[str, Flight]

    @property
    def remotes(self) -> Remotes: ...

    async def resolve(self, reference: str, pull: bool, platform: Platform) -> BuildImage:
        """An image by name or id, pulled when it is missing, of another platform, or `pull` is set.

        Raises NotFound, registry errors.
        """

    async def run(self, image: BuildImage, step: RunStep, observer: Observer) -> Layer | None:
        """Run in a container; what it changed as a layer, None when nothing. Raises CommandFailed, Error.

        The container stays, as with docker's classic builder, when the step fails or the caller keeps all.
        """

    async def remove_kept(self) -> None:
        """Remove the containers that steps of this build have left."""

    async def change(self, image: BuildImage, work: Callable[[int], None]) -> Layer | None:
        """Call `work(root)` in a thread, `root` a descriptor of the image's tree; what it changed as a layer."""

    async def put_on_top(self, image: BuildImage, made: BuildImage) -> Layer | None:
        """The one layer of `made`, None when it has none, as the image's next."""

    def tree(self, image: BuildImage) -> AbstractAsyncContextManager[Tree]:
        """The image's files, read-only."""

    async def unpack(self, archive: int) -> int | None:
        """Unpack an archive (read in a confined worker) into scratch space; a descriptor of it, None if it is none."""


    def register(self, document: dict[str, Any], layers: list[str], parent: str) -> BuildImage:
        """Write an image down; its id is the document's digest."""

    def recall(self, key: str) -> BuildImage | None:
        """The image remembered under a vertex's digest, if it is still whole."""

    async def recall_elsewhere(self, key: str) -> BuildImage | None:
        """The same out of caches that are not this machine's."""

    def remember(self, key: str, image: BuildImage, description: str) -> None:
        """Under a vertex's digest; `description`: what people are shown of the step."""

    def renew(self, key: str, image: BuildImage, description: str) -> None:
        """Of what is remembered under a digest, or is now, this image has the same files and was made last."""

    def surroundings(self) -> str:
        """What the caller says of every RUN: network, hosts, limits."""

    def check(self) -> None:
        """Raises Cancelled when the build was given up; safe in any thread."""

    def new_id(self) -> str:
        """An id to show for a step that needs no container."""


class Operation:
    """Base: a change that runs nothing. `commit(layer)` gives the new configuration document."""

    __slots__ = ("commit", "created_by")

    def __init__(self, created_by: str, commit: Commit) -> None:
        self.created_by, self.commit = created_by, commit

    def key(self) -> str:
        """All that decides the result besides the parent."""
        return f"{type(self).__name__}\0{self.created_by}"

    def files_key(self) -> str | None:
        """All that decides the files besides those below; None when it makes none."""
        return None

    async def execute(self, backend: Backend, image: BuildImage, observer: Observer) -> Layer | None:
        """Do it; the layer it made, None when no file changed."""
        observer.running(backend.new_id())
        return None


class MakeFolder(Operation):
    """WORKDIR: the folder exists afterwards; what is new of it belongs to `user` (`name[:group]`, "": root)."""

    __slots__ = ("path", "user")

    def __init__(self, created_by: str, commit: Commit, path: str, user: str) -> None:
        super().__init__(created_by, commit)
        self.path, self.user = path, user

    def key(self) -> str:
        return f"{super().key()}\0{self.user}"

    def files_key(self) -> str:
        return f"MakeFolder\0{self.path}\0{self.user}"

    async def execute(self, backend: Backend, image: BuildImage, observer: Observer) -> Layer | None:
        observer.running(backend.new_id())
        return await backend.change(image, self._make)

    def _make(self, root: int) -> None:
        try:
            os.close(open_in_root(root, self.path, os.O_PATH | os.O_DIRECTORY))
        except NotADirectoryError:
            raise InvalidArgument(f"Cannot mkdir: {self.path} is not a directory") from None
        except FileNotFoundError:
            copier = Copier(root, parse_owner(self.user, root) if self.user else None, None, lambda: None)
            os.close(copier.make_folder(self.path))


class Run(Operation):
    """RUN: `recorded` is the command as it goes into the history, build arguments before it.

    `flags` is what else decides the result: its flags, the content behind its bind mounts, and where it is named by
    files the environment, user and folder it runs with.
    """

    __slots__ = ("flags", "recorded", "step")

    def __init__(self, commit: Commit, recorded: list[str], step: RunStep, flags: list[str]) -> None:
        super().__init__(" ".join(recorded), commit)
        self.recorded, self.step, self.flags = recorded, step, flags

    def key(self) -> str:
        return "Run\0" + json.dumps(self.recorded) + (json.dumps(self.flags) if self.flags else "")

    def files_key(self) -> str:
        return self.key()

    async def execute(self, backend: Backend, image: BuildImage, observer: Observer) -> Layer | None:
        return await backend.run(image, self.step, observer)


class Piece:
    """One thing COPY or ADD brings: a path of `tree`, or `content` under `name` when there is no tree.

    base: the folder that `path` begins below, whose way is kept (COPY --parents); "": only the end of the path counts.
    extract: an archive is unpacked where it would be put.
    """

    __slots__ = ("base", "content", "extract", "name", "path", "tree")

    def __init__(self, tree: Tree | None, path: str, name: str = "", content: bytes = b"", *, base: str | None = None,
                 extract: bool = False) -> None:
        self.tree, self.path, self.name, self.content, self.base = tree, path, name, content, base
        self.extract = extract


class Copy(Operation):
    """COPY and ADD. owner None: as in the source; chowned: it was asked for; excludes: what of folders is left out.

    content: the digest of what is brought, and under which flags.
    """

    __slots__ = ("chowned", "content", "destination", "excludes", "mode", "owner", "pieces", "text")

    def __init__(self, created_by: str, commit: Commit, pieces: list[Piece], destination: str,
                 owner: Callable[[int], tuple[int, int] | None], chowned: bool, mode: Mode | None,
                 excludes: list[str], text: str, content: str) -> None:
        super().__init__(created_by, commit)
        self.content = content
        self.pieces, self.destination, self.owner, self.chowned = pieces, destination, owner, chowned
        self.mode, self.excludes, self.text = mode, Ignore("\n".join(excludes)) if excludes else None, text

    def key(self) -> str:
        return "\0".join(["Copy", self.created_by, *self._landing()])

    def files_key(self) -> str:
        return "\0".join(["Copy", self.content, *self._landing()])

    def _landing(self) -> list[str]:
        """`text`: the flags; a file's name is where it lands, a folder's is not."""
        names = [piece.name or (piece.path if piece.base is not None else piece.path.rpartition("/")[2])
                 for piece in self.pieces]
        return [self.destination, self.text, *names]

    async def execute(self, backend: Backend, image: BuildImage, observer: Observer) -> Layer | None:
        unpacked = await self._unpack(backend)
        try:
            return await backend.change(image, lambda root: self._copy(root, backend, unpacked))
        finally:
            for descriptor in unpacked.values():
                os.close(descriptor)

    async def _unpack(self, backend: Backend) -> dict[int, int]:
        """Number of the piece -> descriptor of the folder its archive was unpacked into."""
        found: dict[int, int] = {}
        for number, piece in enumerate(self.pieces):
            if piece.tree is None or not piece.extract:
                continue
            source = Source(piece.tree.root, piece.path)
            try:
                if source.is_file:
                    descriptor = source.open()
                    try:
                        folder = await backend.unpack(descriptor)
                    finally:
                        os.close(descriptor)
                    if folder is not None:
                        found[number] = folder
            finally:
                source.close()
        return found

    def _copy(self, root: int, backend: Backend, unpacked: dict[int, int]) -> None:
        owner = self.owner(root)
        copier = Copier(root, owner, self.mode, backend.check, self.excludes)
        for number, piece in enumerate(self.pieces):
            if piece.tree is None:
                copier.write(piece.name, piece.content, self.destination)
                continue
            if number in unpacked:
                source = Source(unpacked[number], ".")
            else:
                source = Source(piece.tree.root, piece.path if piece.base is None else piece.base)
            try:
                if number in unpacked:
                    Copier(root, owner if self.chowned else None, None, backend.check).place(source, self.destination)
                elif piece.base is not None:
                    copier.place_below(source, piece.path, self.destination)
                else:
                    copier.place(source, self.destination)
            finally:
                source.close()
