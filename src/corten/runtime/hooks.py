"""Hooks: programs of the spec run at points of a container's life, the state on their standard input.

Each is run by path with its own arguments and environment, in the namespaces of its point; no descriptor is inherited.
runtime-spec runtime.md and config.md "POSIX-platform Hooks".
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import posix
import select
import time

from corten.base import jsonio, pathnames
from corten.base.errors import InvalidArgument
from corten.linux.process import close_range, pidfd_open
from corten.runtime.errors import StepFailed, go_strerror

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_OUTPUT_LIMIT = 4096


def run_all(
    spec: dict[str, Any], kinds: tuple[str, ...], document: dict[str, Any], inherited: dict[str, str] | None = None
) -> None:
    """Run the hooks of these kinds in order, each with the state `document`. Raises StepFailed at the first failure.

    `inherited` is the environment of a hook that names none of its own; without it that is the runtime's.
    """
    for kind in kinds:
        for number, hook in enumerate((spec.get("hooks") or {}).get(kind) or ()):
            run(f"{kind} hook #{number}", hook, jsonio.dumps(document).encode(), inherited)


def run(name: str, hook: dict[str, Any], document: bytes, inherited: dict[str, str] | None = None) -> None:
    """Run one hook to its end, or to its timeout (seconds), at which it is killed. Raises StepFailed."""
    path, arguments = hook.get("path"), hook.get("args") or [hook.get("path")]
    if not isinstance(path, str) or not path.startswith("/"):
        raise InvalidArgument(f"{name}: path must be absolute: {path!r}")
    environment = dict(entry.partition("=")[::2] for entry in hook.get("env") or ())
    if not environment and inherited is not None:
        environment = inherited
    elif hook.get("env") is None:
        own = posix.environ.items()  # as in runc: a hook that says nothing of it has the caller's
        environment = {pathnames.decode(name): pathnames.decode(value) for name, value in own}
    timeout = hook.get("timeout")
    if timeout is not None and timeout <= 0:
        text = f"error running {name}: timeout must be greater than 0, not {timeout}"
        raise StepFailed(f"run the {name}", path=path, detail=text)
    stdin = posix.memfd_create("state", posix.MFD_CLOEXEC)
    posix.write(stdin, document)
    posix.lseek(stdin, 0, 0)
    output = posix.memfd_create("output", posix.MFD_CLOEXEC)
    try:
        status, refused = _run(path, arguments, environment, stdin, output, timeout)
        text = posix.pread(output, _OUTPUT_LIMIT, 0).decode("utf-8", "replace").strip()
    finally:
        posix.close(stdin)
        posix.close(output)
    if refused:
        raise StepFailed(f"run the {name}", "execve", refused, path, f"error running {name}: fork/exec {path}: "
                         f"{go_strerror(refused)}")
    if status is None:
        raise StepFailed(f"run the {name}", path=path, detail=f"error running {name}: timed out after {timeout}s")
    if status:
        ended = _ending(status)
        tail = f", stdout: , stderr: {text}" if text else ""
        raise StepFailed(f"run the {name}", path=path, detail=f"error running {name}: {ended}{tail}")


def _ending(status: int) -> str:
    """A wait status in Go's words, as runc has them."""
    if posix.WIFEXITED(status):
        return f"exit status {posix.WEXITSTATUS(status)}"
    name = _signal.strsignal(posix.WTERMSIG(status)) or str(posix.WTERMSIG(status))
    return f"signal: {name.lower()}" + (" (core dumped)" if posix.WCOREDUMP(status) else "")


def _run(
    path: str, arguments: list[str], environment: dict[str, str], stdin: int, output: int, timeout: float | None
) -> tuple[int | None, int]:
    """(wait status or None after a timeout, errno of a failed execve)."""
    failed_r, failed_w = posix.pipe2(posix.O_CLOEXEC)
    pid = posix.fork()
    if pid == 0:
        try:
            for target, descriptor in enumerate((stdin, output, output)):
                posix.dup2(descriptor, target)
            posix.dup2(failed_w, 3, inheritable=False)
            close_range(4)
            _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
            posix.execve(path, arguments, environment)
        except OSError as error:
            posix.write(3, str(error.errno).encode())
        finally:
            posix._exit(127)
    posix.close(failed_w)
    try:
        refused = posix.read(failed_r, 16)
    finally:
        posix.close(failed_r)
    return _wait(pid, None if refused else timeout), int(refused or 0)


def _wait(pid: int, timeout: float | None) -> int | None:
    if timeout is not None:
        ended = pidfd_open(pid)
        poll = select.poll()
        poll.register(ended, select.POLLIN)
        deadline = time.monotonic() + timeout
        while not poll.poll(max(0, int((deadline - time.monotonic()) * 1000))):
            if time.monotonic() >= deadline:
                posix.kill(pid, _signal.SIGKILL)
                posix.waitpid(pid, 0)
                posix.close(ended)
                return None
        posix.close(ended)
    return posix.waitpid(pid, 0)[1]
