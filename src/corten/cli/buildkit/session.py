"""What the engine may ask of us while a build runs: our end of `POST /session`, where it is the client.

Source: moby/buildkit session/ (filesync, auth, secrets, sshforward, upload, content).
"""

import os
from collections.abc import Callable
from typing import Any

from grpclib.const import Cardinality, Handler, Status
from grpclib.exceptions import GRPCError

from corten.build.buildkit.messages import MESSAGES, new
from corten.cli import login
from corten.cli.buildkit.agents import Agents
from corten.cli.buildkit.asked import Asked
from corten.cli.buildkit.folders import send_folder
from corten.cli.buildkit.lent import SECRET_LIMIT
from corten.cli.buildkit.received import receive_output
from corten.cli.buildkit.stores import Stores

_LENT = "/moby.buildkit.secrets.v1.Secrets/GetSecret"
_CONTENT, _SYNC = "/containerd.services.content.v1.Content/", "/moby.filesync.v1."


class Services:
    """The answers for one build; `methods` as connection.serve wants them."""

    def __init__(self, asked: Asked, config_dir: str, agents: Agents, write_out: Callable[[bytes], None]) -> None:
        self._asked, self._config_dir, self._write_out = asked, config_dir, write_out
        unary, both = Cardinality.UNARY_UNARY, Cardinality.STREAM_STREAM
        table: list[tuple[str, Any, Cardinality, str, str]] = [
            (f"{_SYNC}FileSync/DiffCopy", self._folder, both, "Packet", "Packet"),
            (f"{_SYNC}Auth/Credentials", self._credentials, unary, "CredentialsRequest", "CredentialsResponse"),
            (_LENT, self._secret, unary, "GetSecretRequest", "GetSecretResponse"),
            ("/moby.upload.v1.Upload/Pull", self._upload, both, "BytesMessage", "BytesMessage"),
        ]
        if asked.agents:
            table += [("/moby.sshforward.v1.SSH/CheckAgent", agents.check, unary, "CheckAgentRequest", "Empty"),
                      ("/moby.sshforward.v1.SSH/ForwardAgent", agents.forward, both, "BytesMessage", "BytesMessage")]
        folders = dict(asked.stores)
        for number, output in enumerate(asked.outputs):
            if output.folder and output.kind != "local":
                folders.setdefault("export", output.folder)
                folders[f"export{number}"] = output.folder
        if folders:
            stores, stream = Stores(folders), Cardinality.UNARY_STREAM
            table += [(f"{_CONTENT}Info", stores.info, unary, "ContentInfoRequest", "ContentInfoResponse"),
                      (f"{_CONTENT}Read", stores.read, stream, "ReadContentRequest", "ReadContentResponse"),
                      (f"{_CONTENT}Write", stores.write, both, "WriteContentRequest", "WriteContentResponse")]
        self.methods = {path: Handler(function, cardinality, MESSAGES[question], MESSAGES[answer])
                        for path, function, cardinality, question, answer in table}
        self.methods[f"{_SYNC}FileSend/DiffCopy"] = Handler(self._output, both, bytes, bytes)

    async def _folder(self, stream: Any) -> None:
        await send_folder(stream, self._asked.folders)

    async def _output(self, stream: Any) -> None:
        await receive_output(stream, self._asked.outputs, self._write_out)

    async def _credentials(self, stream: Any) -> None:
        host = (await stream.recv_message()).Host
        found = login.credentials(self._config_dir, host)
        if found.get("identitytoken"):
            await stream.send_message(new("CredentialsResponse", Secret=str(found["identitytoken"])))
            return
        user, password = str(found.get("username", "")), str(found.get("password", ""))
        await stream.send_message(new("CredentialsResponse", Username=user, Secret=password))

    async def _secret(self, stream: Any) -> None:
        name = (await stream.recv_message()).ID
        secret = self._asked.secrets.get(name)
        if secret is None or (secret.variable and secret.variable not in os.environ):
            raise GRPCError(Status.NOT_FOUND, f"secret {name} not found")
        if secret.variable:
            data = os.environb[os.fsencode(secret.variable)]
        else:
            try:
                with open(secret.path, "rb") as file:
                    data = file.read(SECRET_LIMIT + 1)
            except OSError as error:
                raise GRPCError(Status.UNKNOWN, f"{secret.path}: {error.strerror}") from None
        if len(data) > SECRET_LIMIT:
            raise GRPCError(Status.INVALID_ARGUMENT, f"secret {name} too big. max size 500KB")
        await stream.send_message(new("GetSecretResponse", data=data))

    async def _upload(self, stream: Any) -> None:
        path = str(stream.metadata.get("urlpath", ""))
        if path not in self._asked.uploads:
            raise GRPCError(Status.NOT_FOUND, f"no upload at {path!r}")
        await stream.send_initial_metadata()
        for piece in self._asked.uploads.pop(path)():
            await stream.send_message(new("BytesMessage", data=piece))
