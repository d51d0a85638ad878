"""Contexts of a build that come by the client's session: its folders, an uploaded tar, layouts, other builds' results.

Source: moby/buildkit frontend/dockerui/{context,namedcontext}.go, session/upload.
"""

import urllib.parse
from collections.abc import AsyncGenerator, Mapping
from typing import TYPE_CHECKING, Any

from grpclib.const import Cardinality

from corten.api.buildkit.content import ClientStore
from corten.api.buildkit.files import read_file, receive
from corten.api.buildkit.sessions import Session
from corten.base.errors import InvalidArgument, Unsupported
from corten.build.buildkit.messages import MESSAGES, new
from corten.build.dockerignore import read_patterns
from corten.build.remotes import git_ref, is_remote
from corten.engine.build_import import import_layout
from corten.engine.builds import BuildRequest
from corten.oci.digest import digest_of

if TYPE_CHECKING:
    from corten.engine.engine import Engine

_UPLOAD = "http://buildkit-session/"
_IMAGE = "docker-image://"
_LAYOUT = "oci-layout://"


async def add_named(engine: "Engine", session: Session, attributes: Mapping[str, str], inputs: Mapping[str, Any],
                    request: BuildRequest) -> None:
    """`context:NAME` attributes into the request. Raises Unsupported, InvalidArgument, NotFound."""
    for attribute, value in attributes.items():
        kind, _, rest = attribute.partition(":")
        if kind != "context" or not rest:
            continue
        name, of_platform = rest.partition("::")[0], rest
        if value.startswith("local:"):
            folder = value.removeprefix("local:")
            rules = await read_file(session, folder, ".dockerignore") or b""
            exclude = read_patterns(rules.decode("utf-8", "replace"))
            request.folders[name] = receive(session, folder, exclude=exclude)
        elif value.startswith(_IMAGE):
            request.options.named_images[of_platform] = value.removeprefix(_IMAGE)
        elif value.startswith(_LAYOUT):
            where, _, digest = value.removeprefix(_LAYOUT).rpartition("@")
            store = ClientStore(session, f"oci:{where.rpartition('/')[2].partition(':')[0] if where else ''}")
            request.options.named_images[name] = await import_layout(engine, store, digest)
        elif value.startswith("input:"):
            request.options.named_images[of_platform] = input_image(inputs, value.removeprefix("input:"))
        elif is_remote(value) or git_ref(value, context=True):
            request.remote_folders[name] = value
        else:
            raise Unsupported(f"the build context {name}={value} is not done yet: --build-context")


def is_upload(context: str) -> bool:
    """Whether the main context is a tar the client holds (its standard input)."""
    return context.startswith(_UPLOAD)


async def upload(session: Session, context: str) -> AsyncGenerator[bytes]:
    """The pieces of that tar. Raises GRPCError."""
    url = urllib.parse.urlsplit(context)
    kind, path = MESSAGES["BytesMessage"], "/moby.upload.v1.Upload/Pull"
    if path not in session.methods:
        raise InvalidArgument("the client offers no upload")
    metadata = [("urlpath", url.path), ("urlhost", url.netloc)]
    async with session.channel.request(path, Cardinality.STREAM_STREAM, kind, kind, metadata=metadata) as stream:
        await stream.send_request()
        await stream.end()  # an open half would be reset by Go's server
        while (message := await stream.recv_message()) is not None:
            yield message.data


# --- results of builds, as definitions that a client hands from one build to the next


def definition(image_id: str) -> Any:
    """What a client takes for the way to make this image: one source operation that names it."""
    source = new("Op", source=new("SourceOp", identifier=f"{_IMAGE}{image_id}")).SerializeToString()
    end = new("Op", inputs=[new("Input", digest=digest_of(source))]).SerializeToString()
    known = {digest_of(data): new("Empty") for data in (source, end)}  # without any, clients take it for none
    return new("Definition", ops=[source, end], metadata=known)


def input_image(inputs: Mapping[str, Any], name: str) -> str:
    """The image a definition of ours names. Raises Unsupported for any other definition."""
    if name not in inputs:
        raise InvalidArgument(f"the build context input:{name} was not sent")
    for data in inputs[name].ops:
        op = MESSAGES["Op"].FromString(data)
        if op.HasField("source") and op.source.identifier.startswith(f"{_IMAGE}sha256:"):
            return str(op.source.identifier).removeprefix(_IMAGE)
    raise Unsupported(f"the build context input:{name} is made of more than an image of this engine: not done yet")
