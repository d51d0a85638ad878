"""The content store of a client (an OCI layout on its side), by its session: blobs in and out, checked by digest.

Caches of kind local, outputs of kind oci with tar=false, and contexts of kind oci-layout live there.
Source: containerd api/services/content/v1, moby/buildkit session/content.
"""

import hashlib
import os
from collections.abc import AsyncIterator

from grpclib.const import Cardinality, Status
from grpclib.exceptions import GRPCError

from corten.api.buildkit.sessions import Session
from corten.base.errors import InvalidArgument, NotFound, Unsupported
from corten.build.buildkit.messages import MESSAGES, new
from corten.image.content import Writer
from corten.oci.digest import hex_of

_SERVICE = "/containerd.services.content.v1.Content/"
_STORE = "buildkit-attachable-store-id"
_STAT, _WRITE, _COMMIT = range(3)
_PIECE_BYTES = 1 << 20


class ClientStore:
    """One of the client's stores, by its name ("local:<folder>", "oci:<id>", "export")."""

    def __init__(self, session: Session, name: str) -> None:
        self._session, self._metadata = session, [(_STORE, name)]
        if f"{_SERVICE}Read" not in session.methods:
            raise Unsupported("the client offers no content store")

    async def read(self, digest: str, limit_bytes: int) -> bytes:
        """A whole small blob. Raises NotFound, InvalidArgument when it is longer or other than its digest."""
        found = bytearray()
        async for piece in self.pieces(digest, limit_bytes):
            found += piece
        return bytes(found)

    async def pieces(self, digest: str, limit_bytes: int) -> AsyncIterator[bytes]:
        """A blob, at most `limit_bytes` of it; its digest is checked at the end. Raises NotFound, InvalidArgument."""
        wanted, hashed, size = hex_of(digest), hashlib.sha256(), 0
        question, answer = MESSAGES["ReadContentRequest"], MESSAGES["ReadContentResponse"]
        path = f"{_SERVICE}Read"
        try:
            async with self._session.channel.request(path, Cardinality.UNARY_STREAM, question, answer,
                                                     metadata=self._metadata) as stream:
                await stream.send_message(question(digest=digest), end=True)
                while (message := await stream.recv_message()) is not None:
                    size += len(message.data)
                    if size > limit_bytes:
                        raise InvalidArgument(f"{digest}: longer than {limit_bytes} bytes")
                    hashed.update(message.data)
                    yield message.data
        except GRPCError as error:
            if error.status is Status.NOT_FOUND:
                raise NotFound(f"{digest}: not found in the client's store") from None
            raise
        if hashed.hexdigest() != wanted:
            raise InvalidArgument(f"{digest}: the client's store holds something else under this digest")

    async def fetch(self, digest: str, size: int, writer: Writer) -> None:
        """A blob into a writer. Raises as `pieces`."""
        async for piece in self.pieces(digest, size):
            writer.write(piece)

    async def write(self, digest: str, size: int, descriptor: int) -> None:
        """Put `size` bytes of a file there, unless they are. Raises GRPCError."""
        kind, answer = MESSAGES["WriteContentRequest"], MESSAGES["WriteContentResponse"]
        common = {"ref": f"corten-{digest}", "total": size, "expected": digest}
        try:
            async with self._session.channel.request(f"{_SERVICE}Write", Cardinality.STREAM_STREAM, kind, answer,
                                                     metadata=self._metadata) as stream:
                await stream.send_message(kind(action=_STAT, **common))
                answered = await stream.recv_message()
                at = answered.offset if answered else 0
                while piece := os.pread(descriptor, _PIECE_BYTES, at):
                    await stream.send_message(kind(action=_WRITE, offset=at, data=piece, **common))
                    await stream.recv_message()
                    at += len(piece)
                await stream.send_message(kind(action=_COMMIT, offset=at, **common), end=True)
                await stream.recv_message()
        except GRPCError as error:
            if error.status is not Status.ALREADY_EXISTS:
                raise

    async def has(self, digest: str) -> bool:
        """Whether the blob is there."""
        question, answer = MESSAGES["ContentInfoRequest"], MESSAGES["Empty"]
        try:
            async with self._session.channel.request(f"{_SERVICE}Info", Cardinality.UNARY_UNARY, question, answer,
                                                     metadata=self._metadata) as stream:
                await stream.send_message(new("ContentInfoRequest", digest=digest), end=True)
                await stream.recv_message()
        except GRPCError as error:
            if error.status is Status.NOT_FOUND:
                return False
            raise
        return True
