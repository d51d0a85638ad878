"""The channel between a starting child and who made it: one SOCK_SEQPACKET pair, one letter a message.

    parent (create, exec)                       child (init, or an exec)
      clone3 ────────────────────────────────▶  steps in its new namespaces
      ◀────────────────────── BORN (+ its pidfd)  only when a launcher has made it (docs/adr/0003)
      GO (control groups made) ──────────────▶  and the users mapped, when the spec asks for a user namespace
      ◀──────────────────────── SOURCE number   for each mount whose source the parent opens (sources.py)
      SOURCE (a tree), or FAILED ────────────▶
      ◀──────────────────────────────── HOOKS   only when the spec has createRuntime or prestart hooks
      GO (hooks have run) ───────────────────▶
      ◀──────────── READY (+ the pty's master)  all is made but the execve
      START ─────────────────────────────────▶  start hooks, user, capabilities, seccomp
      ◀───────────── LISTENER descriptor number  only when the filter notifies an agent (seccomp_agent.py)
      GO (the agent has it) ─────────────────▶
      ◀─────────────────────────── end of file  execve took the descriptor: the program runs
      ◀──── FAILED step syscall errno path text  at any time instead; the child then exits

START may be sent early; it waits in the socket. The child holds the only copy of its end.
"""

import _socket
import posix
import sys

from corten.runtime.errors import StepFailed

GO = b"G"
START = b"S"
READY = b"R"
HOOKS = b"H"
FAILED = b"F"
SOURCE = b"M"
LISTENER = b"L"
BORN = b"B"

_SIZE = 8192
_FD_BYTES = 4
_CONTROL = _socket.CMSG_SPACE(_FD_BYTES)


def make_pair() -> tuple[int, int]:
    """(parent's end, child's end): close-on-exec, both blocking."""
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
    return ours.detach(), theirs.detach()


def send(channel: int, message: bytes, descriptor: int = -1) -> None:
    """One message, with a descriptor if given. A peer that is gone is no error: it will be noticed by its exit."""
    end = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET, 0, channel)
    try:
        rights = descriptor.to_bytes(_FD_BYTES, sys.byteorder) if descriptor >= 0 else b""
        control = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)] if rights else []
        end.sendmsg([message], control, _socket.MSG_NOSIGNAL)
    except (BrokenPipeError, ConnectionError):
        pass
    finally:
        end.detach()


def receive(channel: int, wait: bool = True) -> tuple[bytes, int]:
    """(message, descriptor or -1); an empty message is the end. Raises BlockingIOError when told not to wait."""
    end = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET, 0, channel)
    try:
        flags = _socket.MSG_CMSG_CLOEXEC | (0 if wait else _socket.MSG_DONTWAIT)
        try:
            data, control, _, _ = end.recvmsg(_SIZE, _CONTROL, flags)
        except ConnectionResetError:  # the peer ended with a START unread; what it said before that comes now
            data, control, _, _ = end.recvmsg(_SIZE, _CONTROL, flags)
    except ConnectionError:
        return b"", -1
    finally:
        end.detach()
    for level, kind, payload in control:
        if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS and len(payload) >= _FD_BYTES:
            return data, int.from_bytes(payload[:_FD_BYTES], sys.byteorder)
    return data, -1


def asked(channel: int) -> int:
    """The number of the SOURCE the child asks for; -1 when it says something else, which stays to be received."""
    end = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET, 0, channel)
    try:
        if end.recv(1, _socket.MSG_PEEK) != SOURCE:
            return -1
        return int(end.recv(_SIZE)[1:])
    except ConnectionError:
        return -1
    finally:
        end.detach()


def tell_listener(channel: int, listener: int) -> None:
    """Say by write(2) and read(2) alone which descriptor the kernel has given, and wait until an agent has it."""
    posix.write(channel, LISTENER + str(listener).encode())
    if posix.read(channel, 1) != GO:
        posix._exit(125)


def expect(channel: int, wanted: bytes) -> None:
    """Wait for one message. The parent gone (end of file) or out of step: this child has no purpose left."""
    message, _ = receive(channel)
    if message != wanted:
        posix._exit(125)


def pack_failure(failure: StepFailed) -> bytes:
    """FAILED as bytes; a text too long for one message is cut."""
    fields = (failure.step, failure.syscall, str(failure.errno), failure.path, failure.detail)
    return FAILED + b"\0".join(field.encode("utf-8", "surrogateescape").replace(b"\0", b"?")[:1500] for field in fields)


def unpack_failure(message: bytes) -> StepFailed:
    """The StepFailed of a FAILED message, whoever wrote it."""
    try:
        parts = (part.decode("utf-8", "surrogateescape") for part in message[1:].split(b"\0"))
        step, syscall, errno, path, detail = parts
        return StepFailed(step, syscall, int(errno), path, detail)
    except ValueError:
        return StepFailed("start the process", detail="start the process: it did not say why it failed")
