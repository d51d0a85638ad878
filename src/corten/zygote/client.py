"""The daemon's side of the zygote's socket: asyncio calls, events, and coming back after a kill -9 of the other side.

When the zygote dies, the anchor starts the next one; when neither answers, both are started anew. A request under way
is then repeated where that is safe, and otherwise answered from what the new zygote holds.
"""

import asyncio
import os
import socket
from collections.abc import Callable
from typing import Any

from corten.base import errors
from corten.base.paths import Layout
from corten.linux import cgroup
from corten.zygote import protocol
from corten.zygote.starting import start_zygote

Message = dict[str, Any]
Entries = list[Message]
Fds = list[int]
Execs = list[tuple[str, str]]  # container, exec


class StartFailed(errors.Error):
    """The program could not be started; `exit_code` is 127 (not found), 126 (not executable) or 125."""

    def __init__(self, text: str, exit_code: int = 125) -> None:
        super().__init__(text)
        self.exit_code = exit_code


class StartLost(StartFailed):
    """The zygote was killed meanwhile: the program has not run, and may be started again."""


class ZygoteLost(errors.Unavailable):
    """The zygote was killed before it answered."""


class Created:
    """A container whose init is under way. Whoever asked closes `pidfd` and `netns`."""

    __slots__ = ("netns", "pid", "pidfd", "start_time")

    def __init__(self, pid: int, start_time: int, pidfd: int, netns: int) -> None:
        self.pid = pid
        self.start_time = start_time
        self.pidfd = pidfd
        self.netns = netns


class ExecStarted:
    """A process started in a container; descriptors are -1 where not asked for. With a terminal all three are it."""

    __slots__ = ("pid", "stderr", "stdin", "stdout")

    def __init__(self, pid: int, fds: dict[str, int]) -> None:
        self.pid = pid
        console = fds.get("console", -1)
        self.stdin = fds.get("stdin", console)
        self.stdout = fds.get("stdout", console)
        self.stderr = fds.get("stderr", -1)


class ZygoteClient:
    """One connection. `on_event` is called on the loop with each exit and drained event; a repeated one is possible."""

    def __init__(self, layout: Layout, on_event: Callable[[Message], None]) -> None:
        self.layout = layout
        self.on_event = on_event
        self._number = 0
        self._waiting: dict[int, asyncio.Future[tuple[Message, Fds]]] = {}
        self._sock: socket.socket | None = None
        self._ready = asyncio.Event()
        self._closed = False
        self._tasks: set[asyncio.Task[None]] = set()

    @classmethod
    async def connect(cls, layout: Layout, on_event: Callable[[Message], None]) -> "ZygoteClient":
        """Connect, starting anchor and zygote when there are none. Raises Unavailable."""
        client = cls(layout, on_event)
        await client._connect()
        return client

    # --- operations

    async def create(
        self, container_id: str, *, tty: bool, open_stdin: bool, stdin_once: bool, log_dir: str
    ) -> Created:
        """Clone the init of the bundle that lies at `layout.bundle(id)`; returns while it still mounts."""
        request = {"id": container_id, "tty": tty, "open_stdin": open_stdin, "log_dir": log_dir}
        try:
            answer, fds = await self._call("create", request)
        except ZygoteLost:
            await self.forget(container_id)
            answer, fds = await self._call("create", request)
        if len(fds) < 2:  # its init has ended before anybody could look at it
            os.close(fds[0])
            await self.start(container_id)
            raise StartFailed("the container's init ended before it was ready")
        return Created(answer["pid"], answer["start_time"], fds[0], fds[1])

    async def start(self, container_id: str) -> None:
        """Let it execve; returns when it has. Raises StartFailed."""
        try:
            await self._call("start", {"id": container_id})
        except ZygoteLost:
            for entry in await self.list():
                if entry["id"] == container_id and not entry["exec_id"] and entry["state"] in ("running", "exited"):
                    return
            await self.forget(container_id)
            raise StartLost("the zygote was killed while it started the container") from None

    async def exec(
        self, container_id: str, exec_id: str, process: Message, *, tty: bool, stdin: bool, output: bool
    ) -> ExecStarted:
        """Start one more process (OCI `process` object) in a running container. Raises StartFailed, Conflict."""
        try:
            answer, fds = await self._call("exec", {
                "id": container_id, "exec_id": exec_id, "process": process, "tty": tty, "stdin": stdin,
                "output": output,
            })
        except ZygoteLost:
            await self.forget(container_id, exec_id)  # its stdio is lost to us, so it is of no use to anyone
            raise StartFailed("the zygote was killed while it started the process") from None
        return ExecStarted(answer["pid"], dict(zip(answer["fds"], fds, strict=True)))

    async def stdin(self, container_id: str) -> int:
        """A non-blocking descriptor of the container's standard input or terminal; the caller closes it."""
        _answer, fds = await self._call_again("stdin", {"id": container_id})
        return fds[0]

    async def close_stdin(self, container_id: str) -> None:
        """Let the container read the end of its standard input."""
        await self._call_again("close_stdin", {"id": container_id})

    async def signal(self, container_id: str, signum: int, exec_id: str | None = None) -> None:
        """Raises NotFound when the process is gone."""
        await self._call_again("signal", {"id": container_id, "exec_id": exec_id, "signal": signum})

    async def resize(self, container_id: str, rows: int, cols: int, exec_id: str | None = None) -> None:
        """Set the size of its terminal. Raises Conflict when it has none."""
        await self._call_again("resize", {"id": container_id, "exec_id": exec_id, "rows": rows, "cols": cols})

    async def list(self) -> Entries:
        """All that is held: id, exec_id, pid, start_time, tty, state, status, time_ns, oom, drained."""
        answer, _fds = await self._call_again("list", {})
        entries: Entries = answer["entries"]
        return entries

    async def forget(self, container_id: str, exec_id: str | None = None) -> None:
        """The exit is recorded elsewhere; one that still runs is killed. Idempotent."""
        await self._call_again("forget", {"id": container_id, "exec_id": exec_id})

    async def forget_execs(self, execs: Execs) -> None:
        """The ends of these have been heard of. Idempotent."""
        await self._call_again("forget_execs", {"execs": execs})

    async def pause(self, cgroups: str) -> None:
        """Freeze all processes of the cgroup path. Does not go through the zygote: the kernel keeps this state."""
        await asyncio.to_thread(cgroup.freeze, cgroups)

    async def unpause(self, cgroups: str) -> None:
        """Thaw them."""
        await asyncio.to_thread(cgroup.thaw, cgroups)

    async def shutdown(self) -> None:
        """End zygote, pump and anchor. Raises Conflict while anything is held."""
        self._closed = True  # the end of the connection may come with the answer: it must not start another zygote
        try:
            await self._call("shutdown", {})
        except ZygoteLost:
            pass
        except BaseException:
            self._closed = False
            raise
        self.close()

    def close(self) -> None:
        """Leave; the other side goes on."""
        self._closed = True
        self._disconnect()

    # --- connection

    async def _connect(self) -> None:
        for attempt in range(100):
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            sock.setblocking(False)
            try:
                sock.connect(self.layout.zygote_socket)
            except (FileNotFoundError, ConnectionRefusedError, BlockingIOError):
                sock.close()
                if attempt % 20 == 0:
                    await asyncio.to_thread(start_zygote, self.layout)
                else:
                    await asyncio.sleep(0.02)
                continue
            self._sock = sock
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
            asyncio.get_running_loop().add_reader(sock, self._readable)
            self._ready.set()
            return
        raise errors.Unavailable(f"no zygote answers at {self.layout.zygote_socket}")

    async def _reconnect(self) -> None:
        try:
            await self._connect()
            entries = await self.list()
        except errors.Unavailable:
            return  # killed again: the next reconnection is under way, or nothing answers any more
        for entry in entries:  # what happened meanwhile
            if entry["drained"] and not entry["exec_id"]:
                self.on_event({"event": "drained", "id": entry["id"]})
            if entry["state"] == "exited":
                kept = {key: entry[key] for key in ("id", "exec_id", "status", "time_ns", "oom")}
                self.on_event({"event": "exit", **kept})

    def _disconnect(self) -> None:
        self._ready.clear()
        sock, self._sock = self._sock, None
        if sock is not None:
            asyncio.get_running_loop().remove_reader(sock)
            sock.close()
        waiting, self._waiting = self._waiting, {}
        for future in waiting.values():
            if not future.done():
                future.set_exception(ZygoteLost("the zygote was killed before it answered"))
        if not self._closed:
            task = asyncio.get_running_loop().create_task(self._reconnect())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _call(self, operation: str, request: Message) -> tuple[Message, Fds]:
        await self._ready.wait()
        assert self._sock is not None
        self._number += 1
        number = self._number
        future: asyncio.Future[tuple[Message, Fds]] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        await self._send({"n": number, "op": operation, **request})
        answer, fds = await future
        if "error" in answer:
            raise _error(answer["error"])
        return answer["ok"], fds

    async def _call_again(self, operation: str, request: Message) -> tuple[Message, Fds]:
        """For what can be done twice: repeat it when the zygote was killed before it answered."""
        for _ in range(20):
            try:
                return await self._call(operation, request)
            except ZygoteLost:
                continue
        return await self._call(operation, request)

    async def _send(self, message: Message) -> None:
        while (sock := self._sock) is not None:
            try:
                protocol.send(sock, message)
                return
            except BlockingIOError:
                await asyncio.sleep(0.001)
            except OSError:
                self._disconnect()
                return

    def _readable(self) -> None:
        while (sock := self._sock) is not None:
            try:
                message, fds = protocol.receive(sock)
            except BlockingIOError:
                return
            except (OSError, ValueError):
                message, fds = None, []
            if message is None:
                self._disconnect()
                return
            self._dispatch(message, fds)

    def _dispatch(self, message: Message, fds: Fds) -> None:
        if "event" in message:
            self.on_event(message)
            return
        future = self._waiting.pop(message["n"], None)
        if future is None or future.done():
            for descriptor in fds:
                os.close(descriptor)
            return
        future.set_result((message, fds))


def _error(said: Message) -> errors.Error:
    if said["kind"] == "StartFailed":
        return (StartLost if said.get("lost") else StartFailed)(said["text"], said.get("exit_code", 125))
    kind: type[errors.Error] = getattr(errors, said["kind"], errors.Internal)
    return kind(said["text"])
