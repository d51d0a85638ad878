"""`corten system dial-stdio`: standard input and output joined to the daemon's socket, for `-H ssh://`.

The client at the other end of ssh speaks HTTP through it. Either side may end its direction before the other.
"""

import os
import select
from socket import SHUT_WR

from corten.cli.args import Values
from corten.cli.main import Cli

_CHUNK = 1 << 16


def dial_stdio(cli: Cli, _values: Values) -> int:
    """Until the daemon ends the connection, or nobody reads what it says."""
    sock = cli.client.dial().sock
    watched = {0: sock.fileno(), sock.fileno(): 1}
    try:
        while sock.fileno() in watched:
            readable, _, _ = select.select(list(watched), [], [])
            for source in readable:
                data = os.read(source, _CHUNK)
                if data:
                    _write_all(watched[source], data)
                    continue
                del watched[source]
                if source == 0:
                    sock.shutdown(SHUT_WR)
    except (BrokenPipeError, ConnectionResetError):
        return 0
    finally:
        sock.close()
    return 0


def _write_all(target: int, data: bytes) -> None:
    while data:
        data = data[os.write(target, data):]
