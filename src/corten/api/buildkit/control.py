"""BuildKit's services, answered: `moby.buildkit.v1.Control`, and `LLBBridge`, by which a client drives its own build.

buildx asks Control.Solve for the outer frame and Status for progress, then Ping, Solve and Return on the bridge under
the same ref. Source: moby/buildkit api/services/control, frontend/gateway/pb.
"""

import json
import re
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any

from grpclib.const import Cardinality, Handler, Status
from grpclib.exceptions import GRPCError

from corten.api.buildkit import caches
from corten.api.buildkit import export as exporters
from corten.api.buildkit.contexts import definition
from corten.api.buildkit.history import HistoryService, Recorder, send_log
from corten.api.buildkit.progress import Progress
from corten.api.buildkit.questions import BuildFailed
from corten.api.buildkit.sessions import METHODS_HEADER, NAME_HEADER, Session, Sessions
from corten.api.buildkit.solve import Posted, Solve
from corten.base.errors import Error
from corten.build.buildkit.messages import MESSAGES, new
from corten.engine import emulation
from corten.engine.build_cache import Prune, Usage
from corten.oci.platform import parse_platform

if TYPE_CHECKING:
    from corten.engine.engine import Engine

_CONTROL, _BRIDGE = "/moby.buildkit.v1.Control/", "/moby.buildkit.v1.frontend.LLBBridge/"
_CONTENT = "/containerd.services.content.v1.Content/"
_BUILD_ID = "buildkit-controlapi-buildid"
_CAPABILITIES = ("solve.base", "solve.inlinereturn", "return", "returnmap", "proto.refarray", "importcaches",
                 "gateway.solve.evaluate", "gateway.evaluate", "gateway.warnings", "reference.output",
                 "frontend.inputs", "frontend.caps")
_LLB_CAPABILITIES = ("exporter.multiple", "source.image", "source.local", "source.http", "source.git",
                     "exec.meta.base", "constraints", "meta.description", "meta.exportcache",
                     "exporter.image.attestations",
                     "cache.gha", "cache.s3")  # those two are refused by name, where buildx would drop them in silence
_DOCKERFILE = re.compile(r"(?:docker\.io/)?docker/dockerfile(?:-upstream)?(?:[:@].*)?$")  # what we do ourselves
_EXECUTOR = "org.mobyproject.buildkit.worker.executor"
_SNAPSHOTTER = "org.mobyproject.buildkit.worker.snapshotter"  # by it buildx knows that all exporters are there
_KEPT_BUILDS, _MOST_BUILDS = 32, 200
VERSION = "v0.19.0"


class Service:
    """The services of one daemon; `methods` is what connection.serve answers."""

    def __init__(self, engine: "Engine", sessions: Sessions) -> None:
        self._engine, self._sessions = engine, sessions
        self._solves: dict[str, Solve] = {}
        history = HistoryService(engine)
        unary, streaming = Cardinality.UNARY_UNARY, Cardinality.UNARY_STREAM
        table: list[tuple[str, Callable[[Any], Awaitable[None]], Cardinality, str, str]] = [
            (f"{_CONTROL}Info", self._info, unary, "Empty", "InfoResponse"),
            (f"{_CONTROL}ListWorkers", self._workers, unary, "Empty", "ListWorkersResponse"),
            (f"{_CONTROL}Session", self._session, Cardinality.STREAM_STREAM, "BytesMessage", "BytesMessage"),
            (f"{_CONTROL}Solve", self._solve, unary, "SolveRequest", "SolveResponse"),
            (f"{_CONTROL}Status", self._status, streaming, "StatusRequest", "StatusResponse"),
            (f"{_CONTROL}DiskUsage", self._disk_usage, unary, "Empty", "DiskUsageResponse"),
            (f"{_CONTROL}Prune", self._prune, streaming, "PruneRequest", "UsageRecord"),
            (f"{_CONTROL}ListenBuildHistory", history.listen, streaming, "BuildHistoryRequest", "BuildHistoryEvent"),
            (f"{_CONTROL}UpdateBuildHistory", history.update, unary, "UpdateBuildHistoryRequest", "Empty"),
            (f"{_CONTENT}Info", history.info, unary, "ContentInfoRequest", "ContentInfoResponse"),
            (f"{_CONTENT}Read", history.read, streaming, "ReadContentRequest", "ReadContentResponse"),
            (f"{_BRIDGE}Ping", self._ping, unary, "Empty", "PongResponse"),
            (f"{_BRIDGE}Solve", self._bridge_solve, unary, "BridgeSolveRequest", "BridgeSolveResponse"),
            (f"{_BRIDGE}Return", self._return, unary, "ReturnRequest", "Empty"),
            (f"{_BRIDGE}Evaluate", self._empty, unary, "Empty", "Empty"),  # what is solved is built
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
            if len(self._solves) >= _KEPT_BUILDS:
                over = [known for known, one in self._solves.items() if one.progress.over or not one.begun.is_set()]
                if len(self._solves) - len(over) >= _MOST_BUILDS:
                    raise GRPCError(Status.RESOURCE_EXHAUSTED, f"{_MOST_BUILDS} builds are under way")
                for known in over[:1]:
                    del self._solves[known]
            self._solves[ref] = Solve(ref)
        return self._solves[ref]

    # --- the machine

    async def _worker(self) -> Any:
        runs = [new("Platform", Architecture=one.architecture, OS=one.os, Variant=one.variant)
                for one in await emulation.platforms()]
        return new(
            "WorkerRecord", ID=self._engine.system.identity, Labels={_EXECUTOR: "corten", _SNAPSHOTTER: "overlayfs"},
            platforms=runs, BuildkitVersion=self._version(),
        )

    @staticmethod
    def _version() -> Any:
        return new("BuildkitVersion", package="corten", version=VERSION)

    async def _info(self, stream: Any) -> None:
        await stream.recv_message()
        await stream.send_message(new("InfoResponse", buildkitVersion=self._version()))

    async def _workers(self, stream: Any) -> None:
        await stream.recv_message()
        await stream.send_message(new("ListWorkersResponse", record=[await self._worker()]))

    async def _empty(self, stream: Any) -> None:
        await stream.recv_message()
        await stream.send_message(new("Empty"))

    async def _session(self, stream: Any) -> None:
        """A client's session within this very connection."""
        methods = stream.metadata.getall(METHODS_HEADER.lower(), ())
        await self._sessions.accept_within(stream, stream.metadata.get(NAME_HEADER.lower(), ""), methods)

    # --- a build

    async def _solve(self, stream: Any) -> None:
        request = await stream.recv_message()
        try:
            response = await self.solve(request)
        except (BuildFailed, Error) as error:
            raise GRPCError(Status.UNKNOWN, str(error), getattr(error, "details", None)) from None
        await stream.send_message(new("SolveResponse", ExporterResponse=response))

    def progress(self, ref: str) -> Progress:
        """What the build `ref` tells, from its beginning. Raises GRPCError when too many are under way."""
        return self._of(ref).progress

    async def solve(self, request: Any, posted: Posted | None = None) -> dict[str, str]:
        """Do what a SolveRequest asks; the ExporterResponse. Raises BuildFailed, Error."""
        solve = self._of(request.Ref)
        solve.session, solve.entitlements, solve.posted = request.Session, frozenset(request.Entitlements), posted
        recorder = Recorder(self._engine.builds.history, request)
        solve.begun.set()
        response: dict[str, str] = {}
        failure: BaseException | None = None
        try:
            solve.exporters = list(request.Exporters)
            caches.check(request.Cache.Exports)
            if request.Definition.ops:
                raise BuildFailed("only Dockerfiles are built")
            if request.Frontend:
                await self._build(solve, request.Frontend, request.FrontendAttrs, request.FrontendInputs)
            else:
                await solve.returned
            session = await solve.open_session(self._sessions)
            response = await self._export(solve, session, request)
        except BaseException as error:
            failure = error
            raise
        finally:
            solve.progress.end()
            recorder.attach(solve.documents(self._engine, response))
            recorder.end(solve.progress, response, failure)
        return response

    async def _export(self, solve: Solve, session: Session, request: Any) -> dict[str, str]:
        engine, told = self._engine, (solve.progress, solve.ref)
        if not solve.images:
            return {}  # a frame without a build, by which buildx learns what there is
        exports = request.Cache.Exports
        ids = [built.id for built in solve.images.values()]
        result = solve.result(engine)
        result.images = {platform: caches.add_inline(engine, image_id, solve.steps, exports)
                         for platform, image_id in result.images.items()}
        response = await exporters.export(engine, session, *told, result, request.Exporters)
        return response | await caches.write(engine, session, *told, ids, solve.steps, exports)

    async def _build(self, solve: Solve, frontend: str, attributes: Any, inputs: Any) -> None:
        foreign = frontend == "gateway.v0" and not _DOCKERFILE.match(attributes.get("source", ""))
        if foreign or frontend not in ("dockerfile.v0", "gateway.v0"):
            name = attributes.get("source", "") if foreign else frontend
            raise BuildFailed(f"the front end {name} is not there: only Dockerfiles are built (dockerfile.v0)")
        await solve.build(self._engine, self._sessions, dict(attributes), dict(inputs))

    async def _status(self, stream: Any) -> None:
        request = await stream.recv_message()
        if request.Ref not in self._solves and self._engine.builds.history.is_over(request.Ref):
            await send_log(stream, self._engine.builds.history.log(request.Ref))
            return
        async for update in self._of(request.Ref).progress.read():
            await stream.send_message(update)

    # --- the bridge

    async def _ping(self, stream: Any) -> None:
        await stream.recv_message()
        capabilities = [new("APICap", ID=name, Enabled=True) for name in _CAPABILITIES]
        llb = [new("APICap", ID=name, Enabled=True) for name in _LLB_CAPABILITIES]
        answer = new("PongResponse", FrontendAPICaps=capabilities, LLBCaps=llb, Workers=[await self._worker()])
        await stream.send_message(answer)

    async def _bridge_solve(self, stream: Any) -> None:
        request = await stream.recv_message()
        solve = self._of(stream.metadata.get(_BUILD_ID, ""))
        try:
            if request.FrontendOpt.get("requestid"):
                found = await solve.answer(self._engine, self._sessions, dict(request.FrontendOpt))
                await stream.send_message(new("BridgeSolveResponse", result=new("Result", metadata=found)))
                return
            await self._build(solve, request.Frontend, request.FrontendOpt, request.FrontendInputs)
        except (BuildFailed, Error) as error:
            raise GRPCError(Status.UNKNOWN, str(error), getattr(error, "details", None)) from None
        result = _result({str(platform): one.id for platform, one in solve.images.items()}, solve.several,
                         self._engine.images.store.content.read)
        await stream.send_message(new("BridgeSolveResponse", ref=solve.image_id, result=result))

    async def _return(self, stream: Any) -> None:
        request = await stream.recv_message()
        solve = self._of(stream.metadata.get(_BUILD_ID, ""))
        if not solve.returned.done():
            if request.error.code or request.error.message:
                solve.returned.set_exception(solve.failure or BuildFailed(request.error.message))
            else:
                solve.returned.set_result(request.result.ref.id or solve.image_id)
        await stream.send_message(new("Empty"))

    # --- the cache

    async def _disk_usage(self, stream: Any) -> None:
        await stream.recv_message()
        records = [_usage(one) for one in await self._engine.builds.cache.usage()]
        await stream.send_message(new("DiskUsageResponse", record=records))

    async def _prune(self, stream: Any) -> None:
        request = await stream.recv_message()
        before = time.time_ns() - request.keepDuration if request.keepDuration else 0
        asked = Prune(request.all, before, _filters(request.filter), request.reservedSpace, request.maxUsedSpace,
                      request.minFreeSpace)
        try:
            gone = await self._engine.builds.cache.prune(asked)
        except Error as error:
            raise GRPCError(Status.INVALID_ARGUMENT, str(error)) from None
        await self._engine.builds.folders.prune()
        self._engine.images.store.collect()
        for one in gone:
            await stream.send_message(_usage(one))


def _result(images: dict[str, str], several: bool, read: Callable[[str], bytes]) -> Any:
    """What the client is handed of a build: a reference to its image, or one a platform."""
    refs = {platform: new("Ref", id=image_id, **{"def": definition(image_id)})
            for platform, image_id in images.items()}
    if not several:
        (image_id,), (ref,) = images.values(), refs.values()
        return new("Result", ref=ref, metadata={"containerimage.config": read(image_id)})
    told = [{"ID": platform, "Platform": parse_platform(platform).json()} for platform in images]
    metadata = {f"containerimage.config/{platform}": read(image_id) for platform, image_id in images.items()}
    metadata["refs.platforms"] = json.dumps({"Platforms": told}).encode()
    return new("Result", refs=new("RefMap", refs=refs), metadata=metadata)


def _usage(one: Usage) -> Any:
    return new("UsageRecord", ID=one.id, Mutable=one.mutable, InUse=one.in_use, Size=one.size, Shared=one.shared,
               CreatedAt=_stamp(one.created_ns), LastUsedAt=_stamp(one.used_ns), UsageCount=one.uses,
               Description=one.description, RecordType=one.kind, Parents=one.parents)


def _stamp(time_ns: int) -> Any:
    return new("Timestamp", seconds=time_ns // 1_000_000_000, nanos=time_ns % 1_000_000_000)


def _filters(texts: Iterable[str]) -> dict[str, list[str]]:
    """containerd's filters: `name==value`, `name~=value`, a name alone; several with commas. An empty one is none."""
    found: dict[str, list[str]] = {}
    for text in texts:
        for part in filter(None, text.split(",")):
            name, operator, value = part.replace("~=", "==").partition("==")
            found.setdefault(name.strip(), []).append(value.strip() if operator else "true")
    return found
