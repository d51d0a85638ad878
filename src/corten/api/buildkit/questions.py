"""A Dockerfile over BuildKit's protocol besides its build: checks, outline and targets; warnings; errors with lines.

Source: moby/buildkit frontend/subrequests, api/services/control VertexWarning, solver/errdefs, util/grpcerrors.
"""

import base64
import json
from typing import Any

from corten.api.buildkit.progress import Progress, Vertex
from corten.build.buildkit.messages import new
from corten.build.line import LocatedError
from corten.build.requests import message
from corten.build.rules import Finding

_SOURCE = "github.com/moby/buildkit/errdefs.Source+json"


class Place:
    """Lines of a Dockerfile, `text` called `name`."""

    __slots__ = ("first", "last", "name", "text")

    def __init__(self, name: str, text: bytes, first: int, last: int) -> None:
        self.name, self.text, self.first, self.last = name, text, first, max(first, last)

    def ranges(self) -> list[Any]:
        """One a line."""
        lines = range(self.first, self.last + 1) if self.first else ()
        return [new("Range", start=new("Position", line=line), end=new("Position", line=line)) for line in lines]

    def detail(self) -> Any:
        """As a gRPC error carries it, so that the client draws the lines."""
        ranges = [{"start": {"line": line}, "end": {"line": line}} for line in range(self.first, self.last + 1)]
        info = {"filename": self.name, "data": base64.b64encode(self.text).decode("ascii"), "language": "Dockerfile"}
        return new("Any", type_url=_SOURCE, value=json.dumps({"info": info, "ranges": ranges}).encode())


class BuildFailed(Exception):
    """The text that the client shows after `failed to solve: `, and the lines it is about."""

    def __init__(self, text: str, place: Place | None = None) -> None:
        super().__init__(text)
        self.details = [place.detail()] if place is not None and place.first else None


def located(error: LocatedError, name: str, text: bytes) -> BuildFailed:
    """A Dockerfile's own error."""
    return BuildFailed(message(error), Place(name, text, error.line, error.end_line))


def warn(progress: Progress, vertex: Vertex, name: str, text: bytes, findings: list[Finding]) -> None:
    """Tell the client's display what the checks found."""
    told = [new(
        "VertexWarning", vertex=vertex.digest, level=1, short=finding.short.encode(),
        detail=[finding.description.encode()], url=finding.url,
        info=new("SourceInfo", filename=name, data=text, language="Dockerfile"),
        ranges=Place(name, text, finding.line, finding.end_line).ranges(),
    ) for finding in findings]
    if told:
        progress.tell(warnings=told)
