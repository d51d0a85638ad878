"""Copying files out of and into containers: stat, get, put (`docker cp`) and export.

The work is a confined process's (corten.image.rootfs_worker), which sees the container's tree and nothing else: of a
running container its own mounts, of a stopped one its overlay and volumes mounted for that process alone. Here are the
checks docker makes first, the process, and the bytes between it and the client.
"""

import asyncio
import contextlib
import json
import os
import posixpath
import tempfile
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from corten.base.errors import Error, Internal, InvalidArgument, NotFound, Unavailable
from corten.engine.records import ContainerRecord
from corten.engine.streams import PipeSpan, grow_pipe, wait_readable, waiting_bytes, write_fd
from corten.engine.users import resolve_user
from corten.image import worker
from corten.image.inflate import compression_of
from corten.linux.proc import Process

if TYPE_CHECKING:
    from corten.engine.engine import Engine

MODULE = "corten.image.rootfs_worker"
_LINE_LIMIT = 1 << 20
_MAGIC_BYTES = 6


class PutRequest:
    """Where an archive goes and what may be replaced. `copy_owner`: files belong to the container's user."""

    __slots__ = ("copy_owner", "keep_kinds", "path")

    def __init__(self, path: str, keep_kinds: bool = False, copy_owner: bool = False) -> None:
        self.path = path
        self.keep_kinds = keep_kinds
        self.copy_owner = copy_owner


class Archives:
    """The files of all containers; one object a daemon."""

    def __init__(self, engine: "Engine") -> None:
        self.engine = engine

    async def stat(self, ref: str, path: str) -> dict[str, Any]:
        """docker's PathStat. Raises NotFound. HEAD /containers/{id}/archive."""
        record = self.engine.containers.get(ref)
        async with _job(self.engine, record, "stat", {"path": path}) as job:
            answer = await job.line(ref, path)
        found: dict[str, Any] = answer["stat"]
        return found

    async def get(self, ref: str, path: str) -> tuple[dict[str, Any], AsyncIterator[bytes | PipeSpan]]:
        """PathStat and the tar of a file or folder. Raises NotFound. GET /containers/{id}/archive."""
        record = self.engine.containers.get(ref)
        stack = contextlib.AsyncExitStack()
        try:
            job = await stack.enter_async_context(_job(self.engine, record, "get", {"path": path}))
            answer = await job.line(ref, path)
        except BaseException:
            await stack.aclose()
            raise
        self.engine.containers.publish(record, "archive-path")
        return answer["stat"], _Pieces(job, stack)

    def export(self, ref: str) -> AsyncIterator[bytes | PipeSpan]:
        """The tar of the whole root, without volumes. Raises NotFound. GET /containers/{id}/export."""
        record = self.engine.containers.get(ref)
        self.engine.containers.publish(record, "export")
        return self._export(record)

    async def _export(self, record: ContainerRecord) -> AsyncIterator[bytes | PipeSpan]:
        async with _job(self.engine, record, "export", {}, volumes=False) as job:
            async for piece in job.pieces():
                yield piece

    async def put(self, ref: str, request: PutRequest, body: AsyncIterator[bytes]) -> None:
        """Unpack a tar (plain or compressed) into a folder. Raises NotFound, InvalidArgument (read-only, bad tar)."""
        record = self.engine.containers.get(ref)
        check_writable(record, request.path)
        head = b""
        async for piece in body:
            head += piece
            if len(head) >= _MAGIC_BYTES:
                break
        extra = {"path": request.path, "kind": compression_of(head), "keep_kinds": request.keep_kinds,
                 "owner": self._owner(record) if request.copy_owner else None}
        async with _job(self.engine, record, "put", extra) as job:
            await job.line(ref, request.path)
            await job.feed(head, body)
            await job.line(ref, request.path)
        self.engine.containers.publish(record, "extract-to-dir")

    def _owner(self, record: ContainerRecord) -> list[int] | None:
        if not record.config.user:
            return None
        rootfs: dict[str, Any] = dict(self.engine.snapshots.rootfs(record.id))
        user = resolve_user(record.config.user, [rootfs["upper"], *rootfs["lower"]], None)
        return [user.uid, user.gid]


def check_writable(record: ContainerRecord, path: str) -> None:
    """Raises InvalidArgument with docker's texts when the volume or the root at `path` is read-only."""
    absolute = posixpath.normpath("/" + path.lstrip("/"))
    inside = [
        point for point in record.mounts
        if absolute == point.destination or absolute.startswith(point.destination + "/")
    ]
    if inside:
        if not max(inside, key=lambda point: len(point.destination)).rw:
            raise InvalidArgument("mounted volume is marked read-only")
    elif record.host_config.readonly_rootfs:
        raise InvalidArgument("container rootfs is marked read-only")


class _Job:
    """One worker under way."""

    def __init__(self, process: asyncio.subprocess.Process, data: int) -> None:
        self._process = process
        self._data = data

    async def line(self, ref: str, path: str) -> dict[str, Any]:
        """The worker's next answer. Raises the error it reports."""
        assert self._process.stdout is not None and self._process.stderr is not None
        line = await self._process.stdout.readline()
        if not line:
            complaints = (await self._process.stderr.read(4096)).decode(errors="replace").strip()
            raise Internal(f"the archive worker ended without an answer: {complaints[-500:]}")
        try:
            return worker.parse_answer(line, b"", None)
        except NotFound:
            raise NotFound(f"Could not find the file {path} in container {ref}") from None

    async def pieces(self) -> AsyncIterator[bytes | PipeSpan]:
        """The tar, as spans of the pipe it comes by. Raises Internal when the worker fails on the way."""
        while True:
            size = waiting_bytes(self._data)
            if size:
                yield PipeSpan(self._data, size)
                continue
            try:
                piece = os.read(self._data, 1 << 16)
            except BlockingIOError:
                await wait_readable(self._data)
                continue
            if not piece:
                break
            yield piece
        await self.line("", "")

    async def feed(self, head: bytes, body: AsyncIterator[bytes]) -> None:
        """All of the archive. A worker that ends early says why in its next line."""
        listening = await write_fd(self._data, head)
        async for piece in body:
            if listening:
                listening = await write_fd(self._data, piece)
        os.close(self._data)
        self._data = -1

    async def end(self) -> None:
        if self._data >= 0:
            os.close(self._data)
            self._data = -1
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
        await self._process.wait()


class _Pieces:
    """A job's tar, and the job's end when the reader is done, early or not, begun or not."""

    def __init__(self, job: _Job, stack: contextlib.AsyncExitStack) -> None:
        self._iterator = job.pieces()
        self._stack = stack

    def __aiter__(self) -> "_Pieces":
        return self

    async def __anext__(self) -> bytes | PipeSpan:
        try:
            return await anext(self._iterator)
        except BaseException:
            await self.aclose()
            raise

    async def aclose(self) -> None:
        """End the worker."""
        await self._stack.aclose()


@contextlib.asynccontextmanager
async def _job(
    engine: "Engine", record: ContainerRecord, operation: str, extra: dict[str, Any], volumes: bool = True,
) -> AsyncIterator[_Job]:
    """A worker on a container. A stopped container stays stopped while it is written into."""
    async with contextlib.AsyncExitStack() as stack:
        if operation == "put" and not record.running:
            await stack.enter_async_context(engine.containers.live(record.id).lock)
        question = {
            "op": operation, "path": "", "kind": "", "keep_kinds": False, "owner": None, **extra,
            "mounts": _mounts(engine, record) if volumes else [],
        }
        inherited = []
        if record.running:
            namespace = _namespace_of(record)
            stack.callback(os.close, namespace)
            inherited.append(namespace)
            question["namespace"] = namespace
        else:
            place = tempfile.mkdtemp(prefix="rootfs-", dir=engine.layout.tmp)
            stack.callback(os.rmdir, place)
            question |= {"namespace": -1, "overlay": engine.snapshots.rootfs(record.id), "place": place}
        job = await _start(question, inherited, inward=operation == "put")
        stack.push_async_callback(job.end)
        yield job


async def _start(question: dict[str, Any], inherited: list[int], inward: bool) -> _Job:
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    ours, theirs = (write_end, read_end) if inward else (read_end, write_end)
    try:
        grow_pipe(ours)
        os.set_blocking(ours, False)
        question["data"] = theirs
        process = await asyncio.create_subprocess_exec(
            *worker.command(MODULE), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE, pass_fds=[theirs, *inherited], limit=_LINE_LIMIT, env={}, cwd="/",
        )
    except BaseException:
        os.close(ours)
        raise
    finally:
        os.close(theirs)
    assert process.stdin is not None
    process.stdin.write(json.dumps(question).encode())
    process.stdin.close()
    return _Job(process, ours)


def _namespace_of(record: ContainerRecord) -> int:
    """The mount namespace of a running container, proven to be its own. Raises Unavailable when it has just ended."""
    pid = record.state.pid
    try:
        descriptor = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        raise Unavailable(f"container {record.id} has just ended") from None
    try:
        if record.state.start_time and Process(pid).start_ticks != record.state.start_time:
            raise Unavailable(f"container {record.id} has just ended")
    except (OSError, Error):
        os.close(descriptor)
        raise Unavailable(f"container {record.id} has just ended") from None
    return descriptor


def _is_file_system(engine: "Engine", volume: str) -> bool:
    mount = engine.volumes.mount_of(volume)
    return mount is not None and mount.kind != "bind"


def _mounts(engine: "Engine", record: ContainerRecord) -> list[dict[str, Any]]:
    """Volumes and binds, outer ones first; what the image brings as mounts is read-only."""
    mounts = [
        {"source": entry["source"], "destination": entry["destination"], "rw": False, "type": "bind"}
        for entry in engine.images.container_mounts(record.id)
    ]
    for point in record.mounts:
        if point.type == "image" or (point.type == "volume" and _is_file_system(engine, point.name)):
            continue  # mounted in the container only
        source = engine.volumes.mountpoint(point.name) if point.type == "volume" else point.source
        if point.subpath and source:
            source = f"{source}/{point.subpath}"
        mounts.append({"source": source, "destination": point.destination, "rw": point.rw, "type": point.type})
    for path in record.host_config.tmpfs or {}:
        mounts.append({"source": "", "destination": posixpath.normpath(path), "rw": True, "type": "tmpfs"})
    return sorted(mounts, key=lambda entry: str(entry["destination"]).count("/"))
