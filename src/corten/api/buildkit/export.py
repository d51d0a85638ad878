"""What becomes of a built image: a name here, a push, or an archive sent to the client."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from corten.api.buildkit.progress import Vertex
from corten.api.buildkit.sessions import Sessions
from corten.api.buildkit.solve import Solve
from corten.base.errors import Error, Unsupported
from corten.engine.builds import tag_name
from corten.oci import reference
from corten.registry.auth import credentials_from

if TYPE_CHECKING:
    from corten.engine.engine import Engine

_HERE = ("moby", "image")


async def export(
    engine: "Engine", sessions: Sessions, solve: Solve, image_id: str, exporters: Iterable[Any],
) -> dict[str, str]:
    """Do what the exporters ask; ExporterResponse. Raises Unsupported, and what naming and pushing raise."""
    if not image_id:
        return {}  # a frame without a build, by which buildx learns what there is
    response = {"containerimage.digest": image_id, "containerimage.config.digest": image_id}
    for exporter in exporters:
        if exporter.Type not in _HERE:
            raise Unsupported(f"the exporter {exporter.Type} is not done yet: --output type={exporter.Type}")
        attributes: Mapping[str, str] = exporter.Attrs
        names = [tag_name(name) for name in attributes.get("name", "").split(",") if name]
        vertex = Vertex(solve.progress, "exporting to image", f"{solve.ref}export")
        try:
            for full in names:
                engine.images.give_name(engine.images.find(image_id), full)
                vertex.log(2, f"naming to {full} done\n".encode())
            if attributes.get("push", "") == "true":
                for full in names:
                    await _push(engine, sessions, solve, full)
        except Error as error:
            vertex.done(error=str(error))
            raise
        vertex.done()
        if names:
            response["image.name"] = ",".join(names)
    return response


async def _push(engine: "Engine", sessions: Sessions, solve: Solve, full: str) -> None:
    session = await sessions.get(solve.session)
    parsed = reference.parse(full)
    login = await session.credentials(parsed.domain)
    vertex = Vertex(solve.progress, f"pushing {full}", f"{solve.ref}push{full}")
    async for message in await engine.distribution.push(parsed.name, parsed.tag, credentials_from(login or {})):
        if "error" in message:
            vertex.done(error=message["error"])
            raise Unsupported(message["error"])
    vertex.done()
