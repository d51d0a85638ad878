"""`docker buildx history` answered: records as messages, logs as they were told, documents as a content store's blobs.

Source: moby/buildkit api/services/control (BuildHistoryRequest …), containerd api/services/content/v1.
"""

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from grpclib.const import Status
from grpclib.exceptions import GRPCError

from corten.api.buildkit.progress import Progress, stamp
from corten.base.errors import Error, NotFound
from corten.build.buildkit.messages import MESSAGES, new
from corten.build.provenance import redacted
from corten.engine.build_history import CANCELED, LOG_LIMIT_BYTES, UNKNOWN, Attached, History, HistoryRecord
from corten.oci.digest import digest_of

if TYPE_CHECKING:
    from corten.engine.engine import Engine

_EVENTS = {"started": 0, "completed": 1, "deleted": 2}
_STATUS = "application/vnd.googeapis.google.rpc.status+proto"  # so spelled by BuildKit
_ATTRIBUTES, _TEXT, _DETAILS = 500, 1 << 16, 1 << 20  # what of a client's words is kept: how many, how long
_LENGTH = 4  # bytes before each message of a log


class Recorder:
    """One build's record, from its request to its end; nothing for what clients only ask on the way."""

    def __init__(self, history: History, request: Any) -> None:
        self._history = history
        given = list(request.FrontendAttrs.items())[:_ATTRIBUTES]
        attributes = {name[:_TEXT]: _safe(name, value)[:_TEXT] for name, value in given}
        self.record = HistoryRecord(request.Ref, request.Frontend, attributes)
        self.record.exporters = [
            (one.Type[:_TEXT], {name[:_TEXT]: text[:_TEXT] for name, text in list(one.Attrs.items())[:_ATTRIBUTES]})
            for one in request.Exporters[:_ATTRIBUTES]]
        self._kept = not request.Internal and history.begin(self.record)

    def attach(self, documents: Iterable[Attached]) -> None:
        """What was made, and what attests to it."""
        self.record.attached += documents

    def end(self, progress: Progress, response: dict[str, str], error: BaseException | None) -> None:
        """The build is over."""
        if not self._kept:
            return
        record = self.record
        record.response = response
        record.steps, record.completed, record.cached, record.warnings = progress.counts()
        if error is not None:
            cancelled = isinstance(error, asyncio.CancelledError)
            record.code, record.error = (CANCELED, "context canceled") if cancelled else (UNKNOWN, str(error)[:_TEXT])
            status = new("Status", code=record.code, message=record.error, details=getattr(error, "details", None))
            if status.ByteSize() > _DETAILS:  # a Dockerfile of megabytes, for its one line
                status.ClearField("details")
            record.details = status.SerializeToString()
        self._history.end(record, packed(progress.told()))


def _safe(name: str, value: str) -> str:
    return redacted(value) if name.partition(":")[0] in ("context", "vcs") else value


def packed(messages: Iterable[Any]) -> bytes:
    """StatusResponses one after the other, each after its length; what is beyond the limit is left out."""
    found, size = [], 0
    for message in messages:
        data = message.SerializeToString()
        size += len(data) + _LENGTH
        if size > LOG_LIMIT_BYTES:
            break
        found += [len(data).to_bytes(_LENGTH, "big"), data]
    return b"".join(found)


async def send_log(stream: Any, data: bytes) -> None:
    """What `packed` made, as it was told."""
    at = 0
    while at < len(data):
        size = int.from_bytes(data[at:at + _LENGTH], "big")
        at += _LENGTH
        await stream.send_message(MESSAGES["StatusResponse"].FromString(data[at:at + size]))
        at += size


def message(record: HistoryRecord) -> Any:
    """A record as clients are told it."""
    found = new("BuildHistoryRecord", Ref=record.ref, Frontend=record.frontend, FrontendAttrs=record.attributes,
                Exporters=[new("Exporter", Type=kind, Attrs=attributes) for kind, attributes in record.exporters],
                CreatedAt=stamp(record.begun_ns), ExporterResponse=record.response, pinned=record.pinned,
                numCachedSteps=record.cached, numTotalSteps=record.steps, numCompletedSteps=record.completed,
                numWarnings=record.warnings)
    if record.ended_ns:
        found.CompletedAt.CopyFrom(stamp(record.ended_ns))
    if record.code:
        found.error.CopyFrom(new("Status", code=record.code, message=record.error))
        found.externalError.CopyFrom(new("Descriptor", media_type=_STATUS, digest=digest_of(record.details),
                                         size=len(record.details)))
    _add_results(found, record.attached)
    return found


def _add_results(found: Any, attached: Iterable[Attached]) -> None:
    by_platform: dict[str, list[Attached]] = {}
    for one in attached:
        by_platform.setdefault(one.platform, []).append(one)
    for platform, some in by_platform.items():
        told = {at: _descriptor(one) for at, one in enumerate(one for one in some if one.result)}
        info = new("BuildResultInfo", Attestations=[_descriptor(one) for one in some if not one.result], Results=told)
        (found.Results[platform] if platform else found.Result).CopyFrom(info)


def _descriptor(one: Attached) -> Any:
    annotations = {} if one.result else {"in-toto.io/predicate-type": one.kind}
    kind = one.kind if one.result else "application/vnd.in-toto+json"
    return new("Descriptor", media_type=kind, digest=one.digest, size=one.size, annotations=annotations)


class HistoryService:
    """The methods of Control that are about history, and the content store behind it."""

    def __init__(self, engine: "Engine") -> None:
        self._history = engine.builds.history

    async def listen(self, stream: Any) -> None:
        """Control.ListenBuildHistory: what there is, then (unless the client wants no more) what comes."""
        request = await stream.recv_message()
        news = self._history.listen()
        waiting = asyncio.ensure_future(anext(news))  # from now on, so that none is missed
        await asyncio.sleep(0)
        try:
            limit = 0 if request.Filter else request.Limit  # the client filters, and bounds itself what is left
            for record in self._history.all(request.Ref, active=request.ActiveOnly, limit=limit):
                kind = _EVENTS["completed" if record.ended_ns else "started"]
                await stream.send_message(new("BuildHistoryEvent", type=kind, record=message(record)))
            while not request.EarlyExit:
                what, record = await waiting
                waiting = asyncio.ensure_future(anext(news))
                if request.Ref in ("", record.ref) and not (request.ActiveOnly and what != "started"):
                    await stream.send_message(new("BuildHistoryEvent", type=_EVENTS[what], record=message(record)))
        finally:
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            await news.aclose()

    async def update(self, stream: Any) -> None:
        """Control.UpdateBuildHistory: pin, remove; there is no trace to finish."""
        request = await stream.recv_message()
        try:
            if not request.Finalize:
                self._history.update(request.Ref, pinned=request.Pinned, delete=request.Delete)
        except NotFound as error:
            raise GRPCError(Status.NOT_FOUND, str(error)) from None
        await stream.send_message(new("Empty"))

    async def info(self, stream: Any) -> None:
        """Content.Info."""
        request = await stream.recv_message()
        size = len(self._blob(request.digest))
        await stream.send_message(new("ContentInfoResponse", info=new("ContentInfo", digest=request.digest, size=size)))

    async def read(self, stream: Any) -> None:
        """Content.Read."""
        request = await stream.recv_message()
        data = self._blob(request.digest)[request.offset:]
        data = data[:request.size] if request.size > 0 else data
        for at in range(0, len(data), 1 << 20):
            piece = data[at:at + (1 << 20)]
            await stream.send_message(new("ReadContentResponse", offset=request.offset + at, data=piece))

    def _blob(self, digest: str) -> bytes:
        for record in self._history.all():
            if record.details and digest_of(record.details) == digest:
                return record.details
        try:
            return self._history.blob(digest)
        except (Error, OSError) as error:
            raise GRPCError(Status.NOT_FOUND, str(error)) from None
