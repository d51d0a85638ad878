"""Engines that are not behind a plain socket: `-H ssh://`, TLS over `tcp://`, and docker's contexts.

A process beside the command speaks ssh or TLS; the command itself has one end of a socket pair, plain HTTP in it. So
nothing else of the command line knows of either. Flags, variables and files are docker's.
"""

import os
from _socket import SHUT_WR, SOCK_STREAM, socket

from corten.cli.errors import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_PIECE = 1 << 16


class Tls:
    """What is proved to the server, and asked of it: files may be absent. `verify`: it proves that it is `host`."""

    def __init__(self, verify: bool, ca: str, certificate: str, key: str) -> None:
        self.verify = verify
        self.ca, self.certificate, self.key = ca, certificate, key

    @classmethod
    def of(cls, folder: str, verify: bool) -> "Tls":
        """The three files of a folder, as docker names them."""
        return cls(verify, f"{folder}/ca.pem", f"{folder}/cert.pem", f"{folder}/key.pem")


# --- ssh


def connect_ssh(address: str) -> socket:
    """`[user@]host[:port][/path]`: the engine there, by `corten system dial-stdio`, or docker's. Raises Failure."""
    place, slash, path = address.partition("/")
    user, _, host = place.rpartition("@")
    host, _, port = host.partition(":") if not host.startswith("[") else (host.strip("[]"), "", "")
    if not host or host.startswith("-") or user.startswith("-"):
        raise Failure(f'invalid ssh host: "{address}"')
    words = ["ssh", *(["-l", user] if user else ()), *(["-p", port] if port else ()), "-o", "ConnectTimeout=30", "-T",
             "--", host, _dial(f"/{path}" if slash and path else "")]
    return _beside(lambda end: _exec_ssh(words, end))


def _dial(path: str) -> str:
    """The command that runs there; a POSIX shell reads it."""
    quoted = path.replace("'", "'\\''")
    where = f" -H 'unix://{quoted}'" if path else ""
    return (f"if command -v corten >/dev/null; then exec corten{where} system dial-stdio; "
            f"else exec docker{where} system dial-stdio; fi")


def _exec_ssh(words: list[str], end: socket) -> None:
    os.dup2(end.fileno(), 0)
    os.dup2(end.fileno(), 1)
    os.execvp(words[0], words)  # noqa: S606 - no shell here


# --- TLS


def connect_tls(connection: socket, host: str, tls: Tls) -> socket:
    """A connected TCP socket as one that is spoken to in the clear. Raises Failure."""
    import ssl

    try:
        context = ssl.create_default_context(cafile=tls.ca if os.path.exists(tls.ca) else None)
        if not tls.verify:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if os.path.exists(tls.certificate):
            context.load_cert_chain(tls.certificate, tls.key)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        session = context.wrap_bio(incoming, outgoing, server_hostname=host)
        while True:
            try:
                session.do_handshake()
                break
            except ssl.SSLWantReadError:
                connection.sendall(outgoing.read())
                data = connection.recv(_PIECE)
                incoming.write(data) if data else incoming.write_eof()
        connection.sendall(outgoing.read())
    except (OSError, ssl.SSLError) as error:
        raise Failure(f"error during connect: {error}") from None
    made = _beside(lambda end: _proxy(session, incoming, outgoing, connection, end))
    connection.close()
    return made


def _proxy(session: "Any", incoming: "Any", outgoing: "Any", server: socket, client: socket) -> None:
    """Copy both ways until the server has ended; the client's end of sending is passed on as TLS's."""
    import select
    import ssl

    watched = [client.fileno(), server.fileno()]
    while server.fileno() in watched:
        readable, _, _ = select.select(watched, [], [])
        if client.fileno() in readable:
            data = client.recv(_PIECE)
            if data:
                session.write(data)
            else:
                watched.remove(client.fileno())
                try:
                    session.unwrap()
                except ssl.SSLError:  # the server goes on sending
                    pass
            server.sendall(outgoing.read())
        if server.fileno() in readable:
            data = server.recv(_PIECE)
            incoming.write(data) if data else incoming.write_eof()
            if not _hand_on(session, client):
                watched.remove(server.fileno())
            server.sendall(outgoing.read())
    client.shutdown(SHUT_WR)


def _hand_on(session: "Any", client: socket) -> bool:
    """What has been decrypted goes to the client; False at the end."""
    import ssl

    try:
        while data := session.read(_PIECE):
            client.sendall(data)
    except ssl.SSLWantReadError:
        return True
    except ssl.SSLError:  # the end, with or without a word of it; or an alert
        pass
    return False


def _beside(serve: "Callable[[socket], None]") -> socket:
    """Our end of a socket pair, whose other end a process of its own serves."""
    from _socket import AF_UNIX
    from _socket import socketpair as pair

    first, second = pair(AF_UNIX, SOCK_STREAM)
    if os.fork():
        second.close()
        made = socket(fileno=os.dup(first.fileno()))
        first.close()
        return made
    status = 1
    try:
        first.close()
        serve(second)
        status = 0
    except FileNotFoundError:
        os.write(2, b"ssh is not installed\n")
    except OSError:
        pass
    finally:
        os._exit(status)


# --- contexts


def context_endpoint(name: str, config_dir: str) -> tuple[str, Tls | None]:
    """(host, TLS files if it has any) of a context that `docker context create` made. Raises Failure."""
    from hashlib import sha256

    from corten.base import jsonio

    digest = sha256(name.encode()).hexdigest()
    try:
        with open(f"{config_dir}/contexts/meta/{digest}/meta.json", encoding="utf-8") as file:
            found = jsonio.loads(file.read())
        assert isinstance(found, dict)
        endpoint = found["Endpoints"]["docker"]
        host, lax = str(endpoint.get("Host") or ""), bool(endpoint.get("SkipTLSVerify"))
    except FileNotFoundError:
        raise Failure(f'Failed to initialize: unable to resolve docker endpoint: context "{name}": context not found: '
                      f"open {config_dir}/contexts/meta/{digest}/meta.json: no such file or directory") from None
    except (ValueError, KeyError, TypeError, AttributeError, AssertionError):
        raise Failure(f'context "{name}": its metadata cannot be read') from None
    folder = f"{config_dir}/contexts/tls/{digest}/docker"
    return host, Tls.of(folder, not lax) if os.path.isdir(folder) else None
