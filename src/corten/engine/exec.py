"""Further processes in a container that runs: docker exec and health checks. An exec dies with its container.

A running exec is kept in the database so that a new daemon knows it again; a finished one lives in memory until its
container goes, at most the last few hundred.
"""

import asyncio
import os
from typing import TYPE_CHECKING, Any

import msgspec

from corten.base.errors import Conflict, Error, Internal, InvalidArgument, NotFound
from corten.base.ids import new_id
from corten.engine.launch import NOT_EXECUTABLE, UNKNOWN, exit_code_of
from corten.engine.records import ContainerRecord, ExecRequest
from corten.engine.schema import Schema
from corten.engine.spec import ALL_CAPABILITIES, build_exec_process, capabilities
from corten.engine.users import User, resolve_user
from corten.linux import process
from corten.zygote.client import ExecStarted, StartFailed

if TYPE_CHECKING:
    from corten.engine.engine import Engine

PREFIX = "OCI runtime exec failed: exec failed: unable to start container process: "
KEPT_FINISHED = 512
GOES_ON_S, NEWS_S = 2.0, 60.0  # of who has closed its outputs; of an end that is yet to be told
AFTERWARDS_S = 0.05  # what nobody waits for is done for many at once
KEEP_S = 0.02  # most are over by then


class ExecRecord(Schema):
    """One exec; `exit_code` is None until it has ended."""

    id: str
    container_id: str
    request: ExecRequest
    started: bool = False
    running: bool = False
    exit_code: int | None = None
    pid: int = 0
    silent: bool = False  # a health check: not kept


class ExecFailed(InvalidArgument):
    """The program of an exec is not there or cannot be run; `exit_code` is 127 or 126."""

    def __init__(self, text: str, exit_code: int) -> None:
        super().__init__(text)
        self.exit_code = exit_code


class Execs:
    """All execs of one daemon."""

    def __init__(self, engine: "Engine") -> None:
        self.engine = engine
        self._records: dict[str, ExecRecord] = {}
        self._ended: dict[str, asyncio.Future[None]] = {}
        self._users: dict[str, User] = {}  # of those that have not been started
        self._kept: set[str] = set()  # those in the database
        self._over: list[tuple[str, str]] = []  # (container, exec) that the zygote still holds

    def get(self, exec_id: str) -> ExecRecord:
        """Raises NotFound."""
        found = self._records.get(exec_id)
        if found is None:
            raise NotFound(f"No such exec instance: {exec_id}")
        return found

    def of(self, container_id: str) -> list[str]:
        """The ids of a container's execs that have not ended, None-like empty when there are none."""
        return [r.id for r in self._records.values() if r.container_id == container_id and r.exit_code is None]

    def exited(self, exec_id: str) -> "asyncio.Future[None]":
        """Done when it has ended. Many may wait for it: by asyncio.wait, which does not cancel it."""
        return self._ended[exec_id]

    async def code_is_known(self, exec_id: str) -> None:
        """Its outputs have ended: returns when its end is on record, or after two seconds if it goes on without them.

        A client asks for the code once the stream has ended. The news of an end that is there may take its time on a
        busy machine: it is waited for.
        """
        made, ended = self.get(exec_id), self._ended[exec_id]
        await asyncio.wait({ended}, timeout=GOES_ON_S)
        if not ended.done() and process.state(made.pid) in "ZX":
            await asyncio.wait({ended}, timeout=NEWS_S)

    # --- create and start

    def create(self, ref: str, request: ExecRequest, silent: bool = False) -> str:
        """A new exec's id; nothing runs yet. Raises Conflict, InvalidArgument. POST /containers/{id}/exec."""
        record = self.engine.containers.get(ref)
        if not request.cmd or not request.cmd[0]:
            raise InvalidArgument("No exec command specified")
        self._check(record, ref)
        if request.user:
            self._user(record, request)
        if request.console_size and (len(request.console_size) != 2 or min(request.console_size) < 0):
            raise InvalidArgument("invalid ConsoleSize")
        made = ExecRecord(id=new_id(), container_id=record.id, request=request, silent=silent)
        self._records[made.id] = made
        self._ended[made.id] = asyncio.get_running_loop().create_future()
        self._publish(made, "exec_create", command=True)
        asyncio.get_running_loop().call_soon(self._look_ahead, made, record)
        return made.id

    def _look_ahead(self, made: ExecRecord, record: ContainerRecord) -> None:
        """Who it will run as, looked up while the client hears of its id."""
        if not made.started and made.exit_code is None:
            try:
                self._users[made.id] = self._user(record, made.request)
            except (Error, OSError):
                pass  # the start says so

    def _check(self, record: ContainerRecord, ref: str) -> None:
        if record.state.status == "paused":
            raise Conflict(f"Container {ref} is paused, unpause the container before exec")
        if record.state.status == "restarting":
            raise Conflict(f"Container {ref} is restarting, wait until the container is running")
        if not record.running:
            raise Conflict(f"container {record.id} is not running")

    def check_start(self, exec_id: str) -> ExecRecord:
        """Whether it may be started now. Raises NotFound, Conflict."""
        made = self.get(exec_id)
        if made.exit_code is not None:
            raise Conflict(f"exec command {exec_id} has already run")
        if made.started:
            raise Conflict(f"exec command {exec_id} is already running")
        record = self.engine.containers.find(made.container_id)
        if record is None:
            raise NotFound(f"No such container: {made.container_id}")
        self._check(record, record.id)
        return made

    async def start(
        self, exec_id: str, *, attach: bool, console_size: list[int] | None = None
    ) -> ExecStarted:
        """Run it; the caller closes the descriptors (`attach`) and awaits `exited`. Raises ExecFailed, Error."""
        return await self._start(self._begin(exec_id), attach, console_size)

    def start_beside(self, exec_id: str, console_size: list[int] | None) -> "asyncio.Task[ExecStarted]":
        """`start` for one who has something to do meanwhile; whether it may be started now is checked at once."""
        return self.engine.spawn(self._start(self._begin(exec_id), True, console_size))

    def _begin(self, exec_id: str) -> ExecRecord:
        made = self.check_start(exec_id)
        made.started = True
        return made

    async def _start(self, made: ExecRecord, attach: bool, console_size: list[int] | None) -> ExecStarted:
        record = self.engine.containers.get(made.container_id)
        request = made.request
        try:
            user = self._users.pop(made.id, None)
            process = self._process(record, request, user, console_size or request.console_size)
            self._publish(made, "exec_start", command=True)
            started = await self.engine.zygote.exec(
                record.id, made.id, process, tty=request.tty, stdin=attach and request.attach_stdin,
                output=attach and (request.attach_stdout or request.attach_stderr),
            )
        except StartFailed as error:
            self._finish(made, exit_code_of(error))
            raise ExecFailed(PREFIX + str(error), made.exit_code or NOT_EXECUTABLE) from None
        except Error as error:
            self._finish(made, error.exit_code if isinstance(error, ExecFailed) else NOT_EXECUTABLE)
            raise
        except OSError as error:
            self._finish(made, NOT_EXECUTABLE)
            raise Internal(f"{PREFIX}{error}") from None
        made.pid = started.pid
        if made.exit_code is None:
            made.running = True
            if not attach and not made.silent:
                self._keep(made)
            elif not made.silent:
                asyncio.get_running_loop().call_later(KEEP_S, self._keep_if_running, made)
        return started

    def _keep_if_running(self, made: ExecRecord) -> None:
        """Whoever is attached to it loses it with this daemon anyway; a short one is not worth a write."""
        if made.running:
            self._keep(made)

    def _keep(self, made: ExecRecord) -> None:
        """So that a next daemon knows it again; it runs already, whatever the disk says."""
        try:
            self.engine.db.put("exec", made.id, msgspec.json.encode(made))
            self._kept.add(made.id)
        except OSError as error:
            self.engine.log.warning("exec %s is not on record: %s", made.id[:12], error)

    def _process(
        self, record: ContainerRecord, request: ExecRequest, user: User | None, console_size: list[int] | None
    ) -> dict[str, Any]:
        if request.working_dir and not request.working_dir.startswith("/"):
            raise ExecFailed("OCI runtime exec failed: exec failed: Cwd must be an absolute path", UNKNOWN)
        user = user or self._user(record, request)
        names = capabilities(record.host_config, self.engine.bounding)
        if request.privileged:
            bounding = self.engine.bounding
            names = [name for name in ALL_CAPABILITIES if bounding is None or name in bounding]
        return build_exec_process(record, request, user, names, console_size)

    def _user(self, record: ContainerRecord, request: ExecRequest) -> User:
        rootfs = self.engine.snapshots.rootfs(record.id)
        lower = rootfs["lower"]
        assert isinstance(lower, list)
        return resolve_user(request.user or record.config.user, [str(rootfs["upper"]), *lower],
                            None if request.user else record.host_config.group_add)

    # --- ends

    def on_exit(self, event: dict[str, Any]) -> None:
        """The zygote says that one has ended."""
        made = self._records.get(event["exec_id"])
        if made is not None and made.exit_code is None:
            self._finish(made, event["status"])
            self._publish(made, "exec_die", exitCode=str(event["status"]))
        self._over.append((event["id"], event["exec_id"]))
        if len(self._over) == 1:
            self.engine.spawn(self._forget_all())

    async def _forget_all(self) -> None:
        """Take the ends of the last moment off the record, once those who wait for them have been told."""
        await asyncio.sleep(AFTERWARDS_S)
        over, self._over = self._over, []
        try:
            with self.engine.db.transaction():
                for _, exec_id in over:
                    if exec_id in self._kept:
                        self.engine.db.delete("exec", exec_id)
        except OSError as error:  # the next daemon finds that nobody holds them
            self.engine.log.warning("%d execs stay on record: %s", len(over), error)
        self._kept.difference_update(exec_id for _, exec_id in over)
        try:
            await self.engine.zygote.forget_execs(over)
        except Error as error:
            self.engine.log.warning("%d execs stay with the zygote: %s", len(over), error)
            for container_id, exec_id in over:  # one that is older than this daemon knows them singly
                await self.engine.zygote.forget(container_id, exec_id)

    def _finish(self, made: ExecRecord, exit_code: int) -> None:
        made.exit_code, made.running = exit_code, False
        self._tell(made.id)
        if made.silent:
            self._drop(made.id)
        elif len(self._records) > KEPT_FINISHED:
            for old in [r.id for r in self._records.values() if r.exit_code is not None][:KEPT_FINISHED // 4]:
                self._drop(old)

    def _tell(self, exec_id: str) -> None:
        if not self._ended[exec_id].done():
            self._ended[exec_id].set_result(None)

    def _drop(self, exec_id: str) -> None:
        self._records.pop(exec_id, None)
        self._ended.pop(exec_id, None)
        self._users.pop(exec_id, None)

    def container_ended(self, container_id: str) -> None:
        """Its execs have been killed with it; their own exits say the codes, this is for those that never ran."""
        for made in list(self._records.values()):
            if made.container_id == container_id and made.exit_code is None and not made.started:
                self._finish(made, 137)

    def container_removed(self, container_id: str) -> None:
        """Forget its execs."""
        for made in list(self._records.values()):
            if made.container_id == container_id:
                self._tell(made.id)
                made.running = False
                if made.id in self._kept:
                    self._kept.discard(made.id)
                    self.engine.db.delete("exec", made.id)
                self._drop(made.id)

    def adopt(self, entries: dict[str, dict[str, Any]]) -> None:
        """At the daemon's start: know again what still runs; `entries` are the zygote's, by exec id."""
        for key, data in self.engine.db.all("exec"):
            made = msgspec.json.decode(data, type=ExecRecord)
            held = entries.get(key)
            if held is None:
                self.engine.db.delete("exec", key)
                continue
            self._records[key] = made
            self._kept.add(key)
            self._ended[key] = asyncio.get_running_loop().create_future()

    # --- the rest of the API

    async def resize(self, exec_id: str, rows: int, columns: int) -> None:
        """Set the size of its terminal. POST /exec/{id}/resize."""
        made = self.get(exec_id)
        if not made.running:
            raise Conflict(f"exec process {exec_id} is not running") if made.started else Conflict(
                f"exec process {exec_id} is not started")
        await self.engine.zygote.resize(made.container_id, rows, columns, made.id)

    def inspect(self, exec_id: str) -> dict[str, Any]:
        """GET /exec/{id}/json."""
        made = self.get(exec_id)
        request = made.request
        command = request.cmd or [""]
        process: dict[str, Any] = {
            "tty": request.tty, "entrypoint": command[0], "arguments": command[1:], "privileged": request.privileged,
        }
        if request.user:
            process["user"] = request.user
        return {
            "ID": made.id, "Running": made.running, "ExitCode": made.exit_code, "ProcessConfig": process,
            "OpenStdin": request.attach_stdin, "OpenStderr": request.attach_stderr,
            "OpenStdout": request.attach_stdout, "CanRemove": False, "ContainerID": made.container_id,
            "DetachKeys": request.detach_keys, "Pid": made.pid,
        }

    def _publish(self, made: ExecRecord, action: str, command: bool = False, **extra: str) -> None:
        record = self.engine.containers.find(made.container_id)
        if record is None:
            return
        if command:
            action = f"{action}: {' '.join(made.request.cmd or ())}"
        self.engine.containers.publish(record, action, 0, execID=made.id, **extra)


def close_late(starting: "asyncio.Task[ExecStarted]") -> None:
    """Nobody listens any more: what a start under way hands over is closed."""
    if not starting.cancelled() and starting.exception() is None:
        close_all(starting.result())


def close_all(started: ExecStarted) -> None:
    """Close what a detached or abandoned start has handed over."""
    for descriptor in {started.stdin, started.stdout, started.stderr}:
        if descriptor >= 0:
            os.close(descriptor)
