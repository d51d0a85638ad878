"""The process that unpacks layers: confined to a staging folder, it turns blobs into files.

Question: {"root": staging folder, "jobs": [{"descriptor", "folder", "limit_bytes", "limit_entries", "whiteouts": False
for an archive that is no layer, "apply": True where the folder holds the layers below already, "over": True where its
files may be written over too, "bell" of a blob still arriving}], "cpu_seconds", "memory_bytes"}.
Answer: {"layers": [{"sha256", "size", "disk", "entries", "implicit", "opaque", "removed"}]}, in the order of the jobs;
`sha256` is of the uncompressed bytes, "" for a blob that is not compressed (its digest says it); names are latin-1.
"""

import os

from corten.image.apply import Applier, Updater
from corten.image.beneath import open_root
from corten.image.confine import enter
from corten.image.extract import Extractor
from corten.image.inflate import MapSource, StreamSource, chunks_of, compression_of, preload
from corten.image.tar_reader import Reader
from corten.image.worker_side import serve

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_TAR_SLACK = 1 << 30  # headers and padding beside the files' bytes


def _unpack(job: "dict[str, Any]", kind: str) -> "dict[str, Any]":
    descriptor = int(job["descriptor"])
    bell = int(job.get("bell", -1))
    source: MapSource | StreamSource
    if kind or bell >= 0:
        source = StreamSource(chunks_of(descriptor, kind, bell), int(job["limit_bytes"]) + _TAR_SLACK, bool(kind))
    else:
        source = MapSource(descriptor)
    root = open_root(f"/{job['folder']}")
    kind_of = Updater if job.get("over") else Applier if job.get("apply") else Extractor
    extractor = kind_of(root, whiteouts=bool(job.get("whiteouts", True)), limit_bytes=int(job["limit_bytes"]),
                          limit_entries=int(job["limit_entries"]))
    extractor.run(Reader(source))
    sha256 = source.finish()
    os.close(root)
    os.close(descriptor)
    return {
        "sha256": sha256, "size": extractor.size, "disk": extractor.disk, "entries": extractor.entries,
        "implicit": [path.decode("latin-1") for path in extractor.implicit],
        "opaque": [path.decode("latin-1") for path in extractor.opaque],
        "removed": [path.decode("latin-1") for path in extractor.removed],
    }


def _work(question: "dict[str, Any]") -> "dict[str, Any]":
    kinds = [compression_of(os.pread(int(job["descriptor"]), 6, 0)) for job in question["jobs"]]
    preload(set(kinds))
    enter(str(question["root"]), write=True, cpu_seconds=int(question["cpu_seconds"]),
          memory_bytes=int(question["memory_bytes"]))
    return {"layers": [_unpack(job, kind) for job, kind in zip(question["jobs"], kinds, strict=True)]}


def main() -> None:
    """Entry point of the process."""
    serve(_work)
