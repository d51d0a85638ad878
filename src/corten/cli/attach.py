"""`corten attach`, and what `run`, `start` and `exec` share with it: the attached part of a container's life."""

from corten.cli import tty
from corten.cli.args import Values
from corten.cli.client import Connection, Response, quote
from corten.cli.errors import Failure
from corten.cli.main import Cli
from corten.cli.stream import PROXIED, Detached, Signals, Streamer


def detach_keys(cli: Cli, values: Values) -> str:
    """The keys asked for: by flag, else by `detachKeys` in config.json; empty for the default."""
    given = values.text("detach-keys")
    if given:
        return given
    from corten.cli.containers import config_format

    return config_format(cli, "detachKeys", values)


def wait_for_exit(cli: Cli, container_id: str, condition: str) -> Response:
    """The reply to a wait: its headers are here, so no exit is missed from now on; its body comes with the exit."""
    return cli.client.open("POST", f"/containers/{quote(container_id)}/wait", [("condition", condition)])


def exit_code(response: Response) -> int:
    """The container's exit code, once it has ended. Raises Failure."""
    found = response.json()
    if not isinstance(found, dict):
        raise Failure("Error waiting for container: unexpected EOF", 125)
    error = found.get("Error")
    if isinstance(error, dict) and error.get("Message"):
        raise Failure(f"Error waiting for container: {error['Message']}", 125)
    code = found.get("StatusCode", 0)
    return code if isinstance(code, int) else 0


def open_stream(cli: Cli, container_id: str, *, stdin: bool, stdout: bool, stderr: bool, keys: str) -> Connection:
    """Attach to a container. POST /containers/{id}/attach."""
    query = [("stream", "1")]
    query += [(name, "1") for name, wanted in (("stdin", stdin), ("stdout", stdout), ("stderr", stderr)) if wanted]
    if keys:
        query.append(("detachKeys", keys))
    return cli.client.hijack(f"/containers/{quote(container_id)}/attach", query)


class Attached:
    """The foreground of a container or exec: streams, signals, terminal size."""

    def __init__(self, cli: Cli, connection: Connection, *, is_tty: bool, stdin: bool, keys: str, resize_path: str,
                 kill_path: str = "") -> None:
        self.cli = cli
        self.is_tty = is_tty
        self.resize_path = resize_path
        self.kill_path = kill_path
        names = (PROXIED if kill_path else ()) + (("SIGWINCH",) if is_tty else ())
        self.signals = Signals(names)
        self.streamer = Streamer(
            connection, tty=is_tty, stdin=stdin, detach_keys=tty.parse_keys(keys or tty.DEFAULT_KEYS),
            on_signal=self._signal, signals=self.signals,
        )
        self.stdin = stdin

    def resize(self, more: int = 0) -> None:
        """Tell the engine how large the terminal is, or `more` than that."""
        found = tty.size()
        if found:
            rows, columns = (str(number + more) for number in found)
            try:
                self.cli.client.call("POST", self.resize_path, [("h", rows), ("w", columns)])
            except Failure:
                pass  # it has ended already

    def _signal(self, name: str) -> None:
        if name == "SIGWINCH":
            self.resize()
            return
        try:
            self.cli.client.call("POST", self.kill_path, [("signal", name.removeprefix("SIG"))])
        except Failure:
            pass

    def run(self) -> bool:
        """Until the output ends; whether it was the detach keys that ended it."""
        raw = tty.RawTerminal(0) if self.is_tty and self.stdin else None
        try:
            with self.signals:
                if raw:
                    raw.__enter__()
                if self.is_tty:
                    self.resize()
                self.streamer.run()
        except Detached:
            return True
        finally:
            if raw:
                raw.restore()
        return False


def attach(cli: Cli, values: Values) -> int:
    """`corten attach C`."""
    from corten.cli.containers import inspect

    name = values.rest[0]
    found = inspect(cli, name)
    state, config = found.get("State"), found.get("Config")
    assert isinstance(state, dict) and isinstance(config, dict)
    if not state.get("Running"):
        raise Failure("You cannot attach to a stopped container, start it first")
    if state.get("Paused"):
        raise Failure("You cannot attach to a paused container, unpause it first")
    if state.get("Restarting"):
        raise Failure("You cannot attach to a restarting container, wait until it is running")
    is_tty = bool(config.get("Tty"))
    stdin = bool(config.get("OpenStdin")) and not values.flag("no-stdin")
    tty.check_input(stdin, is_tty)
    keys = detach_keys(cli, values)
    path = f"/containers/{quote(name)}"
    waiting = wait_for_exit(cli, name, "")
    connection = open_stream(cli, name, stdin=stdin, stdout=True, stderr=True, keys=keys)
    attached = Attached(
        cli, connection, is_tty=is_tty, stdin=stdin, keys=keys, resize_path=f"{path}/resize",
        kill_path=f"{path}/kill" if values.flag("sig-proxy") and not is_tty else "",
    )
    if is_tty:
        attached.resize(1)  # another size and back: what runs there draws its screen again
    if attached.run():
        raise Failure("read escape sequence")
    return exit_code(waiting)


