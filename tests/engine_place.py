"""Where an engine sees files and ports: ours beside us, another one perhaps in a root and a network of its own.

`Place(socket)` finds out from the process behind the socket. Folders made with it are at the same path for the client
and for the engine; sockets of it are in the engine's network.
"""

import ctypes
import http.server
import os
import shutil
import socket
import struct
import tempfile
import threading

CLONE_NEWNET = 0x40000000


class _Registry(http.server.BaseHTTPRequestHandler):
    """A registry that has nothing."""

    def do_GET(self):
        body = b"{}" if self.path == "/v2/" else (
            b'{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown","detail":{}}]}')
        self.send_response(200 if self.path == "/v2/" else 404)
        for header in (("Docker-Distribution-Api-Version", "registry/2.0"), ("Content-Type", "application/json"),
                       ("Content-Length", str(len(body)))):
            self.send_header(*header)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, *words):
        pass


class Place:
    """Folders and ports as an engine sees them. `close` takes them away."""

    def __init__(self, engine_socket):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(engine_socket)
            credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        self.pid = struct.unpack("iII", credentials)[0]
        self.root = "" if os.path.samefile(f"/proc/{self.pid}/root/", "/") and self._same("mnt") else f"/proc/{self.pid}/root"
        self._folders, self._open = [], []

    def _same(self, kind):
        return os.stat(f"/proc/{self.pid}/ns/{kind}").st_ino == os.stat(f"/proc/self/ns/{kind}").st_ino

    def folder(self):
        """A new folder, there for both; the client's and the engine's, which may be one."""
        path = tempfile.mkdtemp(prefix="corten-bad-", dir="/var/tmp")
        self._folders.append(path)
        if self.root:
            os.makedirs(self.root + path)
            self._folders.append(self.root + path)
            return [path, self.root + path]
        return [path]

    def call(self, what, function):
        """Run it in the engine's network (a thread may be in another network than the rest); what it returns."""
        result = []

        def inside():
            if not self._same("net"):
                descriptor = os.open(f"/proc/{self.pid}/ns/net", os.O_RDONLY)
                assert ctypes.CDLL(None, use_errno=True).setns(descriptor, CLONE_NEWNET) == 0, what
                os.close(descriptor)
            result.append(function())

        thread = threading.Thread(target=inside)
        thread.start()
        thread.join()
        return result[0]

    def free_port(self):
        """A port nobody listens on."""
        with self.call("free port", lambda: socket.create_server(("0.0.0.0", 0))) as taken:
            return taken.getsockname()[1]

    def busy_port(self):
        """A port that this process holds."""
        taken = self.call("busy port", lambda: socket.create_server(("0.0.0.0", 0)))
        self._open.append(taken)
        return taken.getsockname()[1]

    def registry_port(self):
        """Where an empty registry answers."""
        server = self.call("registry", lambda: http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Registry))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self._open.append(server)
        return server.server_address[1]

    def close(self):
        for server in self._open:
            if isinstance(server, http.server.HTTPServer):
                server.shutdown()
                server.server_close()
            else:
                server.close()
        for path in self._folders:
            shutil.rmtree(path, ignore_errors=True)
