"""What a client asks of a Dockerfile besides building it: checks, outline, targets; and a build's own warnings.

Images that are here lend their configuration to the checks; nothing is pulled for them.
"""

from typing import TYPE_CHECKING, Any

from corten.base.errors import Error
from corten.build import requests
from corten.build.checks import Bases
from corten.build.dockerignore import Ignore
from corten.build.rules import Finding

if TYPE_CHECKING:
    from corten.engine.engine import Engine


def question(engine: "Engine", text: bytes, name: str, arguments: dict[str, str | None], target: str,
             ignored: list[str]) -> requests.Question:
    """A Dockerfile `text` called `name` with the caller's arguments; `ignored`: the lines of its .dockerignore.

    Raises InvalidArgument.
    """
    ignore = Ignore("\n".join(ignored)) if ignored else None
    return requests.Question(text, name, arguments, target, ignore, _bases(engine))


def warnings(asked: requests.Question) -> list[Finding]:
    """What a build tells before it begins. Raises LocatedError when it need not begin, `error=true` included."""
    findings, error = requests.check(asked, building=True)
    if error is not None:
        raise error
    return findings


def _bases(engine: "Engine") -> Bases:
    def look(name: str) -> dict[str, Any] | None:
        try:
            image = engine.images.find(name)
        except Error:
            return None
        return dict(image.config.get("config") or {})

    return look
