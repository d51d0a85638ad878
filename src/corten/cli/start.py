"""`corten start`, with or without attaching to it."""

from corten.cli.args import Values
from corten.cli.client import quote
from corten.cli.errors import ApiError, Failure, NotConnected
from corten.cli.main import Cli


def start(cli: Cli, values: Values) -> int:
    """`corten start C…`: with -a or -i the container's exit code."""
    for flag in ("checkpoint", "checkpoint-dir"):
        if values.text(flag):
            raise Failure(f"--{flag} is not supported: corten makes no checkpoints")
    if values.flag("attach") or values.flag("interactive"):
        if len(values.rest) > 1:
            raise Failure("you cannot start and attach multiple containers at once")
        return _attached(cli, values)
    failed = []
    for name in values.rest:
        try:
            cli.client.call("POST", f"/containers/{quote(name)}/start")
        except NotConnected:
            raise
        except Failure as error:
            cli.error(error.text)
            failed.append(name)
            continue
        cli.out(name)
    if failed:
        raise Failure(f"Error: failed to start containers: {', '.join(failed)}")
    return 0


def _attached(cli: Cli, values: Values) -> int:
    from corten.cli.attach import Attached, detach_keys, exit_code, open_stream, wait_for_exit
    from corten.cli.containers import inspect

    found = inspect(cli, values.rest[0])
    config, host = found.get("Config"), found.get("HostConfig")
    assert isinstance(config, dict) and isinstance(host, dict)
    container_id = str(found["Id"])
    path = f"/containers/{quote(container_id)}"
    keys = detach_keys(cli, values)
    is_tty = bool(config.get("Tty"))
    stdin = values.flag("interactive") and bool(config.get("OpenStdin"))
    if is_tty and stdin:
        from corten.cli.tty import check_input

        check_input(stdin, is_tty)
    connection = open_stream(cli, container_id, stdin=stdin, stdout=True, stderr=True, keys=keys)
    attached = Attached(
        cli, connection, is_tty=is_tty, stdin=stdin, keys=keys, resize_path=f"{path}/resize",
        kill_path="" if is_tty else f"{path}/kill",
    )
    waiting = wait_for_exit(cli, container_id, "removed" if host.get("AutoRemove") else "next-exit")
    try:
        cli.client.call("POST", f"{path}/start")
    except ApiError:
        waiting.close()
        raise
    if attached.run():
        return 0
    return exit_code(waiting)
