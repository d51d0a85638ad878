"""An engine that only listens: it answers pings, refuses everything else, and keeps what was asked of it.

The docker CLI and ours send a request to it and are compared; neither needs an engine for that.
"""

import json
import socket
import threading
from pathlib import Path
from typing import Any

Request = tuple[str, str, dict[str, str], bytes]  # method, target, headers, body


class Recorder:
    """Listens on `path` until closed; `requests` is what came."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.requests: list[Request] = []
        self.answers: dict[tuple[str, str], tuple[int, Any]] = {}
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(16)
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"unix://{self.path}"

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)  # a close alone leaves the thread in accept
        self._listener.close()

    def bodies(self, path: str) -> list[Any]:
        """The JSON bodies sent to a path (its version left out)."""
        return [json.loads(body) for method, target, _, body in self.requests if bare(target).split("?")[0] == path and body]

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as reader:
            while line := reader.readline():
                method, target, _ = line.decode().split(" ")
                headers = {}
                while (header := reader.readline().strip()):
                    name, _, value = header.decode().partition(":")
                    headers[name.lower()] = value.strip()
                self.requests.append((method, target, headers, self._body(reader, headers)))
                connection.sendall(self._answer(method, target))

    @staticmethod
    def _body(reader: Any, headers: dict[str, str]) -> bytes:
        if headers.get("transfer-encoding") != "chunked":
            return reader.read(int(headers.get("content-length", 0)))
        parts = []
        while size := int(reader.readline(), 16):
            parts.append(reader.read(size))
            reader.readline()
        reader.readline()
        return b"".join(parts)

    def _answer(self, method: str, target: str) -> bytes:
        path = bare(target).split("?")[0]
        status, value = self.answers.get((method, path), (418, {"message": "recorded"}))
        if path == "/_ping":
            status, value = 200, ""
        data = b"" if method == "HEAD" else json.dumps(value).encode()
        return (
            f"HTTP/1.1 {status} X\r\nApi-Version: 1.51\r\nOstype: linux\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(data)}\r\n\r\n"
        ).encode() + data


def bare(target: str) -> str:
    """A request's target without its version."""
    return "/" + target.split("/", 2)[2] if target.startswith("/v1.") else target
