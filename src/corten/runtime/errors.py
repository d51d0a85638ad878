"""What can go wrong between a bundle and a running program, told in one line.

The child knows its step, the system call and the path; that much crosses the channel, and no traceback ever does.
"""

import errno as codes
import posix

from corten.base.errors import Error, Internal

NOT_FOUND_IN_PATH = "executable file not found in $PATH"


class StepFailed(Internal):
    """A step of a container's init, or of an exec, failed; `str()` is the one-line text.

    `step` is the step's name, `syscall` and `path` may be "", `errno` 0 when no system call failed. `detail`, when
    given, is the whole text: what docker and runc print for the same failure.
    """

    def __init__(self, step: str, syscall: str = "", errno: int = 0, path: str = "", detail: str = "") -> None:
        super().__init__(detail or _text(step, syscall, errno, path))
        self.step = step
        self.syscall = syscall
        self.errno = errno
        self.path = path
        self.detail = detail

    @property
    def exit_code(self) -> int:
        """As a shell has it: 127 the program is not there, 126 it cannot be run, 125 all else."""
        if self.step not in (LOOK_UP, EXECUTE):
            return 125
        return 127 if self.errno in (codes.ENOENT, codes.ENOTDIR) else 126


LOOK_UP = "look up the program"
EXECUTE = "execute the program"


def _text(step: str, syscall: str, errno: int, path: str) -> str:
    parts = [step, f"{syscall} {path}".strip(), go_strerror(errno) if errno else ""]
    return ": ".join(part for part in parts if part)


def go_strerror(errno: int) -> str:
    """An errno as Go prints it, which is what callers look for: `no such file or directory`."""
    text = posix.strerror(errno)
    return text[:1].lower() + text[1:] if text[1:2].islower() else text


def from_exception(step: str, error: BaseException) -> StepFailed:
    """Whatever a step raised, as the failure of that step."""
    if isinstance(error, StepFailed):
        return error
    if isinstance(error, OSError) and error.errno:
        name = error.filename
        path = name.decode("utf-8", "surrogateescape") if isinstance(name, bytes) else str(name or "")
        syscall, separator, note = (error.strerror or "").partition(": ")
        if not separator:
            return StepFailed(step, "", error.errno, path)
        _, bracket, explained = note.partition(" (")
        return StepFailed(step, f"{syscall} ({explained}" if bracket else syscall, error.errno, path)
    if isinstance(error, Error):
        return StepFailed(step, detail=f"{step}: {error}")
    return StepFailed(step, detail=f"{step}: {type(error).__name__}: {error}")
