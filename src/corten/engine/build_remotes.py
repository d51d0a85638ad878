"""What a build takes from elsewhere: files behind URLs, git repositories. Each lies in the build's own folder.

git is run as a program without configuration, prompts, hooks or filters; what it fetched is read as any other tree.
Source: the Dockerfile reference, "ADD"; gitprotocol-http(5), git-fetch(1).
"""

import asyncio
import contextlib
import hashlib
import os
import re
import signal
import urllib.parse
from email.utils import parsedate_to_datetime

from corten.base.errors import InvalidArgument
from corten.base.files import remove_tree
from corten.build.context import DOCKERFILE_LIMIT, Tree
from corten.build.remotes import GitRef, git_ref
from corten.engine.build_context import Context
from corten.engine.remote import answer_of
from corten.image.inflate import compression_of
from corten.linux.path import open_in_root

_LIMIT_BYTES = 1 << 30
_GIT_TIMEOUT_S = 900.0
_SHOWN_BYTES = 2000
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_GIT = ("git", "-c", "core.hooksPath=/dev/null", "-c", "protocol.ext.allow=never", "-c", "protocol.file.allow=never",
        "-c", "core.fsmonitor=false", "-c", "gc.auto=0", "-c", "advice.detachedHead=false", "-c", "safe.directory=*")
_COMMIT = re.compile(r"[0-9a-f]{7,64}", re.ASCII)


class Download:
    """A file that was fetched: `tree` holds it alone under `name`; `digest` "sha256:…", `kind` its Content-Type."""

    __slots__ = ("digest", "kind", "name", "tree")

    def __init__(self, tree: Tree, name: str, digest: str, kind: str) -> None:
        self.tree, self.name, self.digest, self.kind = tree, name, digest, kind


class Remotes:
    """The remote sources of one build, below its context's folder; they go with it."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._made = 0

    def _folder(self, kind: str, mode: int = 0o700) -> str:
        self._made += 1
        folder = f"{self._context.path}/{kind}-{self._made}"
        os.mkdir(folder, mode)
        return folder

    def _tree(self, descriptor: int) -> Tree:
        tree = Tree(descriptor, True)
        self._context.keep(tree)
        return tree

    async def download(self, url: str) -> Download:
        """The file behind an http(s) URL, mode 0600, as old as the server says. Raises InvalidArgument."""
        name = urllib.parse.urlsplit(url).path.rsplit("/", 1)[-1]
        if name in ("", ".", ".."):
            name = "__unnamed__"
        folder = self._folder("download")
        digest, size = hashlib.sha256(), 0
        with open(f"{folder}/{name[:255]}", "xb", opener=_private) as file:
            async with answer_of(url) as answer:
                headers = answer.headers
                async for piece in answer.pieces:
                    size += len(piece)
                    if size > _LIMIT_BYTES:
                        raise InvalidArgument(f"{url}: longer than {_LIMIT_BYTES} bytes")
                    digest.update(piece)
                    file.write(piece)
            file.flush()
            modified = _time(headers.get("last-modified", ""))
            os.utime(file.fileno(), (modified, modified))
        tree = self._tree(os.open(folder, _FOLDER))
        self._context.fetched[url] = f"sha256:{digest.hexdigest()}"
        return Download(tree, name[:255], f"sha256:{digest.hexdigest()}", headers.get("content-type", ""))

    async def clone(self, ref: GitRef, keep_git_dir: bool) -> tuple[Tree, str]:
        """(files of a repository, the commit's name). Raises InvalidArgument."""
        folder = self._folder("git", 0o755)
        await self._git(folder, "init", "--quiet", "--template=", ".")
        wanted = ref.ref or "HEAD"
        try:
            await self._git(folder, "fetch", "--quiet", "--depth=1", "--no-tags", "--", ref.remote, wanted)
            await self._git(folder, "checkout", "--quiet", "FETCH_HEAD")
        except InvalidArgument:  # a server that knows no depth, or hands out no commit by its name
            if not _COMMIT.fullmatch(wanted):
                await self._git(folder, "fetch", "--quiet", "--tags", "--", ref.remote, wanted)
                await self._git(folder, "checkout", "--quiet", "FETCH_HEAD")
            else:
                every = "+refs/heads/*:refs/remotes/o/*"
                await self._git(folder, "fetch", "--quiet", "--tags", "--", ref.remote, every)
                await self._git(folder, "checkout", "--quiet", wanted)
        if ref.submodules is not False and os.path.isfile(f"{folder}/.gitmodules"):
            await self._git(folder, "submodule", "update", "--quiet", "--init", "--recursive", "--depth=1")
        commit = (await self._git(folder, "rev-parse", "HEAD")).strip()
        if ref.checksum and not (_COMMIT.fullmatch(ref.checksum) and commit.startswith(ref.checksum)):
            raise InvalidArgument(f"expected checksum to match {ref.checksum}, got {commit}")
        self._context.fetched[f"{ref.remote}#{ref.ref}" if ref.ref else ref.remote] = f"sha1:{commit}"
        if not keep_git_dir:
            await asyncio.to_thread(_remove_git, folder)
        root = os.open(folder, _FOLDER)
        try:
            return self._tree(open_in_root(root, ref.subdir or ".", os.O_RDONLY | os.O_DIRECTORY)), commit
        except OSError as error:
            raise InvalidArgument(f"invalid subdir {ref.subdir}: {os.strerror(error.errno or 0)}") from None
        finally:
            os.close(root)

    async def _git(self, folder: str, *arguments: str) -> str:
        """Run git there; what it printed. Raises InvalidArgument with what it complained of."""
        environment = {"PATH": os.defpath, "HOME": folder, "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull,
                       "GIT_TERMINAL_PROMPT": "0", "GIT_ASKPASS": "true", "LC_ALL": "C",
                       "GIT_SSH_COMMAND": "ssh -F none -oBatchMode=yes"}
        environment |= {name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")}
        try:
            process = await asyncio.create_subprocess_exec(
                *_GIT, *arguments, cwd=folder, env=environment, stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, start_new_session=True)
        except FileNotFoundError:
            raise InvalidArgument("git is needed for this build and is not installed") from None
        try:
            async with asyncio.timeout(_GIT_TIMEOUT_S):
                out, complaint = await process.communicate()
        except TimeoutError:
            raise InvalidArgument(f"git {arguments[0]} took longer than {_GIT_TIMEOUT_S:g} s") from None
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        if process.returncode:
            text = complaint[-_SHOWN_BYTES:].decode("utf-8", "replace").strip()
            raise InvalidArgument(f"failed to fetch remote: git {arguments[0]}: {text}")
        return out.decode("utf-8", "replace")


async def take_remote(context: Context, url: str) -> bytes | None:
    """Fill a context from a repository or an archive behind `url`; the text, when that is a Dockerfile instead.

    Raises InvalidArgument with docker's text.
    """
    context.begin()
    remotes = Remotes(context)
    if ref := git_ref(url, context=True):
        context.adopt((await remotes.clone(ref, False))[0])
        return None
    if not url.startswith(("http://", "https://")):
        raise InvalidArgument(f"remoteURL ({url}) could not be recognized as URL")
    try:
        found = await remotes.download(url)
    except InvalidArgument as error:
        raise InvalidArgument(f"error downloading remote context {url}: {error}") from None
    return await asyncio.to_thread(_take_file, context, url, found)


def _take_file(context: Context, url: str, found: Download) -> bytes | None:
    descriptor = os.open(found.name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=found.tree.root)
    try:
        head = os.pread(descriptor, 512, 0)
        if compression_of(head[:6]) or head[257:262] == b"ustar":
            context.adopt_archive(descriptor)
            return None
        kind = found.kind.partition(";")[0].strip()
        if kind not in ("", "text/plain", "application/octet-stream") or b"\0" in head:
            raise InvalidArgument(f"error detecting content type for remote {url}: unsupported Content-Type "
                                  f'"{found.kind}"')
        if not head:
            raise InvalidArgument(f"error detecting content type for remote {url}: empty response")
        return os.pread(descriptor, DOCKERFILE_LIMIT + 1, 0)
    finally:
        os.close(descriptor)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


def _time(text: str) -> float:
    """Of a Last-Modified header, in seconds; 0 when there is none."""
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp())
    except (TypeError, ValueError, OverflowError):
        return 0.0


def _remove_git(folder: str) -> None:
    """Every `.git` of the repository and its submodules."""
    for place, folders, files in os.walk(folder):
        if ".git" in folders:
            folders.remove(".git")
            remove_tree(f"{place}/.git")
        elif ".git" in files:
            os.unlink(f"{place}/.git")
