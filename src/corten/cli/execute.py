"""`corten exec`: a program more in a running container."""

from corten.cli.args import Values
from corten.cli.attach import Attached, detach_keys
from corten.cli.client import quote
from corten.cli.create_request import environment
from corten.cli.errors import Failure
from corten.cli.main import Cli
from corten.cli.tty import check_input, size


def execute(cli: Cli, values: Values) -> int:
    """`corten exec C CMD…`: the program's exit code."""
    container, *command = values.rest
    detach, tty = values.flag("detach"), values.flag("tty")
    stdin = values.flag("interactive") and not detach
    keys = detach_keys(cli, values)
    found = cli.client.call("GET", f"/containers/{quote(container)}/json")
    assert isinstance(found, dict)
    if not detach:
        check_input(stdin, tty)
    body: dict[str, object] = {
        "User": values.text("user"), "Privileged": values.flag("privileged"), "Tty": tty, "AttachStdin": stdin,
        "AttachStderr": not detach, "AttachStdout": not detach, "DetachKeys": keys, "Env": environment(values) or None,
        "WorkingDir": values.text("workdir"), "Cmd": command,
    }
    created = cli.client.call("POST", f"/containers/{quote(container)}/exec", None, body)
    exec_id = str(created.get("Id", "")) if isinstance(created, dict) else ""
    if not exec_id:
        raise Failure("exec ID empty")
    start: dict[str, object] = {"Detach": detach, "Tty": tty}
    if detach:
        cli.client.call("POST", f"/exec/{exec_id}/start", None, start)
        return 0
    window = size() if tty else None
    if window:
        start["ConsoleSize"] = list(window)
    connection = cli.client.hijack(f"/exec/{exec_id}/start", None, start)
    attached = Attached(cli, connection, is_tty=tty, stdin=stdin, keys=keys, resize_path=f"/exec/{exec_id}/resize")
    if attached.run():
        raise Failure("read escape sequence")
    state = cli.client.call("GET", f"/exec/{exec_id}/json")
    code = state.get("ExitCode") if isinstance(state, dict) else None
    return code if isinstance(code, int) else 0
