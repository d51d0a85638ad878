"""How the daemon asks the zygote for containers: JSON messages with file descriptors on a SOCK_SEQPACKET socket.

    daemon                                            zygote
      | {"n":1,"op":"create","id":C,...}  ------------> |  clone
      | <-- {"n":1,"ok":{"pid","start_time"}} +pidfd,netns   init mounts meanwhile
      |     (the daemon attaches the network)           |
      | {"n":2,"op":"start","id":C}       ------------> |  init executes when it has mounted
      | <-- {"n":2,"ok":{}}                             |  or {"n":2,"error":{"kind","text","exit_code"}}
      |                                                 |
      | {"n":3,"op":"exec",...}           ------------> |
      | <-- {"n":3,"ok":{"pid"}} +stdin,stdout,stderr   |  or +console
      | {"n":4,"op":"stdin"|"close_stdin"|"signal"|"resize"|"list"|"shutdown",...}
      |                                                 |
      | <-- {"event":"drained","id":C}                  |  the pump wrote the last byte
      | <-- {"event":"exit","id":C,"exec_id":null,"status":0,"time_ns":...,"oom":false}
      | {"n":9,"op":"forget","id":C}      ------------> |  the exit is in the database
      | {"n":9,"op":"forget_execs","execs":[[C,E],...]} |  their exits have been told to whoever waited

A reply names its request by `n`. Events go to every connection. A message larger than a packet travels in a memfd, its
last descriptor. What is passed is never trusted to be small, only to come from root: the socket is in a 0700 folder.
"""

import json
import os
import socket

MAX_FDS = 8
_PACKET_BYTES = 64 << 10
_SPILL = b"{\"memfd\":1}"
_encode = json.JSONEncoder(separators=(",", ":")).encode


def send(sock: socket.socket, message: dict[str, object], fds: tuple[int, ...] | list[int] = ()) -> None:
    """Send one message; the descriptors are duplicated. Raises OSError (BlockingIOError: the reader is too slow)."""
    data = _encode(message).encode()
    if len(data) <= _PACKET_BYTES:
        socket.send_fds(sock, [data], list(fds))
        return
    spill = os.memfd_create("corten-message", os.MFD_CLOEXEC)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(spill, view):]
        socket.send_fds(sock, [_SPILL], [*fds, spill])
    finally:
        os.close(spill)


def receive(sock: socket.socket) -> tuple[dict[str, object] | None, list[int]]:
    """Receive one message and its descriptors; None at the end of the stream. Raises OSError, ValueError."""
    data, fds, _flags, _address = socket.recv_fds(sock, _PACKET_BYTES + 1024, MAX_FDS + 1)
    if not data:
        return None, fds
    if data == _SPILL and fds:
        data = _read_all(fds.pop())
    return json.loads(data), fds


def _read_all(descriptor: int) -> bytes:
    try:
        size = os.fstat(descriptor).st_size
        return os.pread(descriptor, size, 0)
    finally:
        os.close(descriptor)
