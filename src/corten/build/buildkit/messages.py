"""The messages of BuildKit's protocol, as far as they are used here: fields that are not named are skipped.

A line is a message and its fields `name:number`; `?` bool, `#` int64, `=` bytes, `%` map of strings, `&` map by int64,
`@Message`, `*` repeated; a string otherwise. Source: moby/buildkit api/services/control, frontend/gateway/pb,
session/{filesync,auth,secrets}, tonistiigi/fsutil types (their .proto files).
"""

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_TABLE = """
Empty
Timestamp seconds:1# nanos:2#
Platform Architecture:1 OS:2 Variant:3
BuildkitVersion package:1 version:2 revision:3 dockerfileVersion:4
WorkerRecord ID:1 Labels:2% platforms:3@Platform* BuildkitVersion:5@BuildkitVersion
ListWorkersResponse record:1@WorkerRecord*
InfoResponse buildkitVersion:1@BuildkitVersion
Exporter Type:1 Attrs:2%
CacheOptionsEntry Type:1 Attrs:2%
CacheOptions Exports:4@CacheOptionsEntry* Imports:5@CacheOptionsEntry*
Definition ops:1=* metadata:2%@Empty
Input digest:1 index:2#
SourceOp identifier:1
Op inputs:1@Input* source:3@SourceOp
SolveRequest Ref:1 Definition:2@Definition ExporterDeprecated:3 ExporterAttrsDeprecated:4% Session:5 Frontend:6 \
 FrontendAttrs:7% Cache:8@CacheOptions Entitlements:9* FrontendInputs:10%@Definition Internal:11? \
 Exporters:13@Exporter* EnableSessionExporter:14?
SolveResponse ExporterResponse:1%
StatusRequest Ref:1
Vertex digest:1 inputs:2* name:3 cached:4? started:5@Timestamp completed:6@Timestamp error:7
VertexStatus ID:1 vertex:2 name:3 current:4# total:5# timestamp:6@Timestamp started:7@Timestamp completed:8@Timestamp
VertexLog vertex:1 timestamp:2@Timestamp stream:3# msg:4=
Position line:1# character:2#
Range start:1@Position end:2@Position
SourceInfo filename:1 data:2= language:4
VertexWarning vertex:1 level:2# short:3= detail:4=* url:5 info:6@SourceInfo ranges:7@Range*
StatusResponse vertexes:1@Vertex* statuses:2@VertexStatus* logs:3@VertexLog* warnings:4@VertexWarning*
BuildHistoryRequest ActiveOnly:1? Ref:2 EarlyExit:3? Filter:4* Limit:5#
BuildHistoryEvent type:1# record:2@BuildHistoryRecord
Descriptor media_type:1 digest:2 size:3# annotations:5%
BuildResultInfo Attestations:2@Descriptor* Results:3&@Descriptor
BuildHistoryRecord Ref:1 Frontend:2 FrontendAttrs:3% Exporters:4@Exporter* error:5@Status CreatedAt:6@Timestamp \
 CompletedAt:7@Timestamp logs:8@Descriptor ExporterResponse:9% Result:10@BuildResultInfo Results:11%@BuildResultInfo \
 pinned:14? numCachedSteps:15# numTotalSteps:16# numCompletedSteps:17# externalError:18@Descriptor numWarnings:19#
UpdateBuildHistoryRequest Ref:1 Pinned:2? Delete:3? Finalize:4?
PruneRequest filter:1* all:2? keepDuration:3# reservedSpace:4# maxUsedSpace:5# minFreeSpace:6#
UsageRecord ID:1 Mutable:2? InUse:3? Size:4# CreatedAt:6@Timestamp LastUsedAt:7@Timestamp UsageCount:8# \
 Description:9 RecordType:10 Shared:11? Parents:12*
DiskUsageResponse record:1@UsageRecord*
APICap ID:1 Enabled:2?
PongResponse FrontendAPICaps:1@APICap* LLBCaps:2@APICap* Workers:3@WorkerRecord*
Ref id:1 def:2@Definition
RefMap refs:1%@Ref
Result ref:3@Ref refs:4@RefMap metadata:10%=
Any type_url:1 value:2=
Status code:1# message:2 details:3@Any*
BridgeSolveRequest Definition:1@Definition Frontend:2 FrontendOpt:3% CacheImports:12@CacheOptionsEntry* \
 FrontendInputs:13%@Definition
BridgeSolveResponse ref:1 result:3@Result
ReturnRequest result:1@Result error:2@Status
Stat path:1 mode:2# uid:3# gid:4# size:5# modTime:6# linkname:7 devmajor:8# devminor:9# xattrs:10%=
Packet type:1# stat:2@Stat ID:3# data:4=
BytesMessage data:1=
CredentialsRequest Host:1
CredentialsResponse Username:1 Secret:2
GetSecretRequest ID:1
GetSecretResponse data:1=
CheckAgentRequest ID:1
ContentInfoRequest digest:1
ContentInfo digest:1 size:2#
ContentInfoResponse info:1@ContentInfo
ReadContentRequest digest:1 offset:2# size:3#
ReadContentResponse offset:1# data:2=
WriteContentRequest action:1# ref:2 total:3# expected:4 offset:5# data:6=
WriteContentResponse action:1# offset:4# total:5# digest:6
"""
_KINDS = {"?": "TYPE_BOOL", "#": "TYPE_INT64", "=": "TYPE_BYTES", "": "TYPE_STRING"}
_PACKAGE = "corten.buildkit"


def _field(message: Any, text: str) -> None:
    name, _, rest = text.partition(":")
    digits = rest[: len(rest) - len(rest.lstrip("0123456789"))]
    kind = rest[len(digits):]
    field = message.field.add(name=name, number=int(digits), label="LABEL_OPTIONAL")
    if kind.startswith(("%", "&")):
        entry = message.nested_type.add(name=f"{name[0].upper()}{name[1:]}Entry")
        entry.options.map_entry = True
        _field(entry, "key:1" if kind[0] == "%" else "key:1#")
        _field(entry, f"value:2{kind[1:]}")
        field.label, field.type = 3, 11  # LABEL_REPEATED, TYPE_MESSAGE
        field.type_name = f".{_PACKAGE}.{message.name}.{entry.name}"
        return
    if kind.endswith("*"):
        field.label, kind = 3, kind[:-1]
    if kind.startswith("@"):
        field.type, field.type_name = 11, f".{_PACKAGE}.{kind[1:]}"
    else:
        field.type = descriptor_pb2.FieldDescriptorProto.Type.Value(_KINDS[kind])


def _classes() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="corten/buildkit.proto", package=_PACKAGE, syntax="proto3")
    for line in _TABLE.replace("\\\n", "").strip().split("\n"):
        name, *fields = line.split()
        message = file.message_type.add(name=name)
        for text in fields:
            _field(message, text)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        message.name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{message.name}"))
        for message in file.message_type
    }


MESSAGES = _classes()


def new(kind: str, /, **fields: Any) -> Any:
    """A message of the table, with these fields."""
    return MESSAGES[kind](**fields)
