"""Our command line as the tests run it: through pipes, and on a terminal of its own."""

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time

REPOSITORY = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "src")
COMMAND = [sys.executable, "-IS", "-c",
           f"import sys; sys.path.insert(0, {REPOSITORY!r}); from corten.cli.main import start; start()"]


def corten(socket, *words, stdin=None, timeout=180, text=True):
    """Run it against the engine at `socket`; a CompletedProcess."""
    given = {"stdin": subprocess.DEVNULL} if stdin is None else {"input": stdin}
    return subprocess.run([*COMMAND, "-H", f"unix://{socket}", *words], capture_output=True, text=text, timeout=timeout, **given)


class Terminal:
    """It runs on a pseudo-terminal: type, look, resize."""

    def __init__(self, socket, *words, rows=30, columns=100, program=None):
        self.seen = b""
        self.pid, self.master = pty.fork()
        if not self.pid:
            command = [*(program or COMMAND), "-H", f"unix://{socket}", *words]
            os.environ["TERM"] = "xterm"
            self._size(0, rows, columns)
            os.execvp(command[0], command)

    @staticmethod
    def _size(descriptor, rows, columns):
        fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def resize(self, rows, columns):
        self._size(self.master, rows, columns)

    def type(self, data):
        os.write(self.master, data)

    def _read(self, timeout):
        if not select.select([self.master], [], [], timeout)[0]:
            return True
        try:
            data = os.read(self.master, 65536)
        except OSError:
            return False
        self.seen += data
        return bool(data)

    def until(self, wanted, timeout=90):
        """Wait for bytes on the screen that were not there before; what came up to then."""
        start = getattr(self, "_mark", 0)
        deadline = time.monotonic() + timeout
        while (at := self.seen.find(wanted, start)) < 0:
            assert time.monotonic() < deadline, f"{wanted!r} does not come: {self.seen!r}"
            assert self._read(0.1), f"it ended before {wanted!r}: {self.seen!r}"
        self._mark = at + len(wanted)
        return self.seen[start:self._mark]

    def end(self, timeout=90):
        """Wait for its end; the exit code."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline and self._read(0.1):
            pass
        while time.monotonic() < deadline:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                os.close(self.master)
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.02)
        os.kill(self.pid, 9)
        os.waitpid(self.pid, 0)
        raise AssertionError(f"it does not end: {self.seen!r}")
