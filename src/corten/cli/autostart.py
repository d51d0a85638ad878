"""Starting the engine: in the background when a command finds none at the default socket, in place for `corten daemon`.

It is this same Python with the environment's packages, not the bare one that runs the command line.
"""

import fcntl
import os
import sys
import time

from corten.cli.client import connect
from corten.cli.errors import Failure, NotConnected

_PATIENCE_S = 60.0  # a first start compiles everything; one that ends is noticed at once
_LOGS = ("/var/log/corten.log", "/run/corten/daemon.log")
_PROGRAM = (
    "import sys; sys.path.insert(0, {root!r}); from corten.daemon.main import main; sys.exit(main(sys.argv[1:]))"
)


def _command(arguments: list[str]) -> list[str]:
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    return [sys.executable, "-I", "-c", _PROGRAM.format(root=root), *arguments]


def exec_daemon(arguments: list[str]) -> None:
    """`corten daemon …`: become it. Raises Failure."""
    command = _command(arguments)
    sys.stdout.flush()
    try:
        os.execv(command[0], command)  # noqa: S606
    except OSError as error:
        raise Failure(f"cannot run {command[0]}: {error.strerror}") from None


def _open_log() -> tuple[int, str]:
    for path in _LOGS:
        try:
            os.makedirs(os.path.dirname(path), mode=0o711, exist_ok=True)
            return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640), path
        except OSError:
            continue
    return os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC), os.devnull


def _spawn(log: int) -> int:
    """Fork twice, so that it is nobody's child and has no terminal; its pid comes back through a pipe."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    command = _command([])
    child = os.fork()
    if not child:
        try:
            os.setsid()
            daemon = os.fork()
            if daemon:
                os.write(writer, str(daemon).encode())
                os._exit(0)
            null = os.open(os.devnull, os.O_RDONLY)
            os.dup2(null, 0)
            os.dup2(log, 1)
            os.dup2(log, 2)
            os.chdir("/")
            os.umask(0o022)
            os.execv(command[0], command)  # noqa: S606
        finally:
            os._exit(127)
    os.close(writer)
    os.waitpid(child, 0)
    pid = os.read(reader, 32)
    os.close(reader)
    return int(pid or 0)


def _answers(endpoint: str) -> bool:
    try:
        connect(endpoint).close()
    except NotConnected:
        return False
    return True


def _ended(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def start_daemon(endpoint: str) -> None:
    """Start the engine, wait at most a minute until it listens, say so on stderr. Raises Failure, NotConnected."""
    if os.geteuid():
        text = f"Cannot connect to the corten daemon at {endpoint}. Is the corten daemon running?"
        raise NotConnected(f"{text} (only root can start it)")
    os.makedirs("/run/corten", mode=0o711, exist_ok=True)
    lock = os.open("/run/corten/start.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two first commands at once start one engine
        if _answers(endpoint):
            return
        log, path = _open_log()
        begin = os.fstat(log).st_size
        pid = _spawn(log)
        os.close(log)
        deadline = time.monotonic() + _PATIENCE_S
        while not _answers(endpoint):
            if time.monotonic() > deadline or _ended(pid):
                raise Failure(f"the corten daemon did not start; the end of {path}:\n{_tail(path, begin)}")
            time.sleep(0.01)
        sys.stderr.write(f"corten: started the daemon (pid {pid})\n")
        sys.stderr.flush()
    finally:
        os.close(lock)


def _tail(path: str, begin: int) -> str:
    try:
        with open(path, "rb") as file:
            file.seek(max(begin, os.fstat(file.fileno()).st_size - 4096))
            return b"\n".join(file.read().splitlines()[-15:]).decode("utf-8", "replace")
    except OSError:
        return ""
