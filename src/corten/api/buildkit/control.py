"""BuildKit's services, answered: `moby.buildkit.v1.Control`, and `LLBBridge`, by which a client drives its own build.

buildx asks Control.Solve for the outer frame and Status for progress, then Ping, Solve and Return on the bridge under
the same ref. Source: moby/buildkit api/services/control, frontend/gateway/pb.
"""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from grpclib.const import Cardinality, Handler, Status
from grpclib.exceptions import GRPCError

from corten.api.buildkit.export import export
from corten.api.buildkit.messages import MESSAGES, new
from corten.api.buildkit.sessions import Sessions
from corten.api.buildkit.solve import BuildFailed, Solve
from corten.base.errors import Error
from corten.build.arguments import ARCHITECTURE

if TYPE_CHECKING:
    from corten.engine.engine import Engine

_CONTROL, _BRIDGE = "/moby.buildkit.v1.Control/", "/moby.buildkit.v1.frontend.LLBBridge/"
_BUILD_ID = "buildkit-controlapi-buildid"
_CAPABILITIES = ("solve.base", "solve.inlinereturn", "return", "returnmap", "proto.refarray", "importcaches",
                 "gateway.solve.evaluate", "gateway.warnings")
_EXECUTOR = "org.mobyproject.buildkit.worker.executor"
_KEPT_BUILDS = 32
VERSION = "v0.19.0"


class Service:
    """The services of one daemon; `methods` is what connection.serve answers."""

    def __init__(self, engine: "Engine", sessions: Sessions) -> None:
        self._engine, self._sessions = engine, sessions
        self._solves: dict[str, Solve] = {}
        unary, streaming = Cardinality.UNARY_UNARY, Cardinality.UNARY_STREAM
        table: list[tuple[str, Callable[[Any], Awaitable[None]], Cardinality, str, str]] = [
            (f"{_CONTROL}Info", self._info, unary, "Empty", "InfoResponse"),
            (f"{_CONTROL}ListWorkers", self._workers, unary, "Empty", "ListWorkersResponse"),
            (f"{_CONTROL}Solve", self._solve, unary, "SolveRequest", "SolveResponse"),
            (f"{_CONTROL}Status", self._status, streaming, "StatusRequest", "StatusResponse"),
            (f"{_CONTROL}DiskUsage", self._disk_usage, unary, "Empty", "DiskUsageResponse"),
            (f"{_CONTROL}Prune", self._prune, streaming, "PruneRequest", "UsageRecord"),
            (f"{_CONTROL}ListenBuildHistory", self._nothing, streaming, "Empty", "Empty"),
            (f"{_CONTROL}UpdateBuildHistory", self._empty, unary, "Empty", "Empty"),
            (f"{_BRIDGE}Ping", self._ping, unary, "Empty", "PongResponse"),
            (f"{_BRIDGE}Solve", self._bridge_solve, unary, "BridgeSolveRequest", "BridgeSolveResponse"),
            (f"{_BRIDGE}Return", self._return, unary, "ReturnRequest", "Empty"),
            (f"{_BRIDGE}Warn", self._empty, unary, "Empty", "Empty"),
        ]
        self.methods = {
            path: Handler(function, cardinality, MESSAGES[question], MESSAGES[answer])
            for path, function, cardinality, question, answer in table
        }

    def _of(self, ref: str) -> Solve:
        """The build `ref`; whoever asks first makes it, since Status and Ping may come before Solve."""
        if not ref:
            raise GRPCError(Status.INVALID_ARGUMENT, "no build is named")
        if ref not in self._solves:
            while len(self._solves) >= _KEPT_BUILDS:
                self._solves.pop(next(iter(self._solves)))
            self._solves[ref] = Solve(ref)
        return self._solves[ref]

    # --- the machine

    def _worker(self) -> Any:
        return new(
            "WorkerRecord", ID=self._engine.system.identity, Labels={_EXECUTOR: "corten"},
            platforms=[new("Platform", Architecture=ARCHITECTURE, OS="linux")], BuildkitVersion=self._version(),
        )

    @staticmethod
    def _version() -> Any:
        return new("BuildkitVersion", package="corten", version=VERSION)

    async def _info(self, stream: Any) -> None:
        await stream.recv_message()
        await stream.send_message(new("InfoResponse", buildkitVersion=self._version()))

    async def _workers(self, stream: Any) -> None:
        await stream.recv_message()
        await stream.send_message(new("ListWorkersResponse", record=[self._worker()]))

    async def _empty(self, stream: Any) -> None:
        await stream.recv_message()
        await stream.send_message(new("Empty"))

    async def _nothing(self, stream: Any) -> None:
        await stream.recv_message()

    # --- a build

    async def _solve(self, stream: Any) -> None:
        request = await stream.recv_message()
        solve = self._of(request.Ref)
        solve.session = request.Session
        try:
            if request.Definition.ops or request.Cache.Exports:
                raise BuildFailed("only Dockerfiles are built, and no cache is exported yet")
            if request.Frontend:
                image_id = await self._build(solve, request.Frontend, request.FrontendAttrs)
            else:
                image_id = await solve.returned
            response = await export(self._engine, self._sessions, solve, image_id, request.Exporters)
        except (BuildFailed, Error) as error:
            raise GRPCError(Status.UNKNOWN, str(error)) from None
        finally:
            solve.progress.end()
        await stream.send_message(new("SolveResponse", ExporterResponse=response))

    async def _build(self, solve: Solve, frontend: str, attributes: Any) -> str:
        if frontend != "dockerfile.v0":
            raise BuildFailed(f"the front end {frontend} is not there: dockerfile.v0 is")
        return await solve.build(self._engine, self._sessions, dict(attributes))

    async def _status(self, stream: Any) -> None:
        request = await stream.recv_message()
        async for update in self._of(request.Ref).progress.read():
            await stream.send_message(update)

    # --- the bridge

    async def _ping(self, stream: Any) -> None:
        await stream.recv_message()
        capabilities = [new("APICap", ID=name, Enabled=True) for name in _CAPABILITIES]
        await stream.send_message(new("PongResponse", FrontendAPICaps=capabilities, Workers=[self._worker()]))

    async def _bridge_solve(self, stream: Any) -> None:
        request = await stream.recv_message()
        solve = self._of(stream.metadata.get(_BUILD_ID, ""))
        try:
            image_id = await self._build(solve, request.Frontend, request.FrontendOpt)
        except (BuildFailed, Error) as error:
            raise GRPCError(Status.UNKNOWN, str(error)) from None
        result = new("Result", ref=new("Ref", id=image_id))
        await stream.send_message(new("BridgeSolveResponse", ref=image_id, result=result))

    async def _return(self, stream: Any) -> None:
        request = await stream.recv_message()
        solve = self._of(stream.metadata.get(_BUILD_ID, ""))
        if not solve.returned.done():
            if request.error.code or request.error.message:
                solve.returned.set_exception(BuildFailed(request.error.message))
            else:
                solve.returned.set_result(request.result.ref.id or solve.image_id)
        await stream.send_message(new("Empty"))

    # --- the cache

    async def _disk_usage(self, stream: Any) -> None:
        await stream.recv_message()
        await stream.send_message(new("DiskUsageResponse"))

    async def _prune(self, stream: Any) -> None:
        request = await stream.recv_message()
        done = await self._engine.builds.prune(request.all)
        for image_id in done["CachesDeleted"]:
            await stream.send_message(new("UsageRecord", ID=image_id, RecordType="regular"))
        if done["SpaceReclaimed"]:
            await stream.send_message(new("UsageRecord", ID="blobs", Size=done["SpaceReclaimed"], RecordType="regular"))
