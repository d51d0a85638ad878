"""OCI layouts of the user's as the engine reads and writes them: caches of kind local, `oci-layout://`, tar=false.

Blobs are named by their digest, which is checked before one gets its name; nothing but blobs can be reached.
Source: containerd api/services/content/v1.
"""

import hashlib
import os
from collections.abc import Mapping
from typing import Any

from grpclib.const import Status
from grpclib.exceptions import GRPCError

from corten.base.errors import InvalidArgument
from corten.build.buildkit.messages import new
from corten.cli.whole_file import appearing
from corten.oci.digest import hex_of

_STORE = "buildkit-attachable-store-id"
_STAT, _WRITE, _COMMIT = range(3)
_PIECE_BYTES = 1 << 20


class Stores:
    """The layouts of one build by name: path."""

    def __init__(self, folders: Mapping[str, str]) -> None:
        self._folders = folders

    def _blob(self, stream: Any, digest: str) -> str:
        """The path of a blob in the store a call is about. Raises GRPCError."""
        name = str(stream.metadata.get(_STORE, ""))
        if name not in self._folders:
            raise GRPCError(Status.INVALID_ARGUMENT, f"unknown content store {name!r}")
        try:
            return f"{self._folders[name]}/blobs/sha256/{hex_of(digest)}"
        except InvalidArgument as error:
            raise GRPCError(Status.INVALID_ARGUMENT, str(error)) from None

    async def info(self, stream: Any) -> None:
        """Content.Info"""
        digest = (await stream.recv_message()).digest
        try:
            size = os.stat(self._blob(stream, digest)).st_size
        except FileNotFoundError:
            raise GRPCError(Status.NOT_FOUND, f"content {digest}: not found") from None
        await stream.send_message(new("ContentInfoResponse", info=new("ContentInfo", digest=digest, size=size)))

    async def read(self, stream: Any) -> None:
        """Content.Read"""
        request = await stream.recv_message()
        try:
            file = open(self._blob(stream, request.digest), "rb")  # noqa: SIM115 - closed below
        except FileNotFoundError:
            raise GRPCError(Status.NOT_FOUND, f"content {request.digest}: not found") from None
        with file:
            at = file.seek(request.offset)
            end = at + request.size if request.size else 1 << 62
            while at < end and (piece := file.read(min(_PIECE_BYTES, end - at))):
                await stream.send_message(new("ReadContentResponse", offset=at, data=piece))
                at += len(piece)

    async def write(self, stream: Any) -> None:
        """Content.Write"""
        first = await stream.recv_message()
        if first is None:
            return
        path = self._blob(stream, first.expected)
        if os.path.exists(path):
            raise GRPCError(Status.ALREADY_EXISTS, f"content {first.expected}: already exists")
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with appearing(path, beside=os.path.dirname(os.path.dirname(os.path.dirname(path)))) as file:
            await _take(stream, first, file)


async def _take(stream: Any, message: Any, file: Any) -> None:
    """Write what comes until it is committed. Raises GRPCError when it is not what was announced."""
    hashed, at, expected = hashlib.sha256(), 0, message.expected
    while message is not None:
        if message.data:
            if message.offset not in (0, at):
                raise GRPCError(Status.OUT_OF_RANGE, f"write at {message.offset}, {at} bytes are there")
            file.write(message.data)
            hashed.update(message.data)
            at += len(message.data)
        if message.action == _COMMIT:
            if f"sha256:{hashed.hexdigest()}" != expected:
                raise GRPCError(Status.FAILED_PRECONDITION, f"unexpected commit digest, expected {expected}")
            file.flush()
            await stream.send_message(new("WriteContentResponse", action=_COMMIT, offset=at, total=at, digest=expected))
            return
        await stream.send_message(new("WriteContentResponse", action=message.action, offset=at, total=at))
        message = await stream.recv_message()
    raise GRPCError(Status.ABORTED, "the engine ended a transfer early")
