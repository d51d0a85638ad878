"""Commands that change containers one by one: stop, restart, kill, pause, unpause, rm, rename, wait, update."""

from collections.abc import Callable

from corten.cli.args import Values
from corten.cli.client import Query, quote
from corten.cli.errors import ApiError, Failure, NotConnected
from corten.cli.main import Cli


def each(cli: Cli, names: list[str], act: Callable[[str], object]) -> int:
    """Do it to all of them; print each name (or what `act` returns), the failures at the end."""
    failures = []
    for name in names:
        try:
            shown = act(name)
        except NotConnected:
            raise
        except Failure as failure:
            failures.append(failure.text)
            continue
        if shown != "":
            cli.out(name if shown is None else str(shown))
    if failures:
        raise Failure("\n".join(failures))
    return 0


def _post(cli: Cli, action: str, query: Query | None = None) -> Callable[[str], object]:
    return lambda name: cli.client.call("POST", f"/containers/{quote(name)}/{action}", query)


def _stopping(values: Values) -> Query:
    query = [("signal", values.text("signal"))] if values.text("signal") else []
    if values.has("timeout"):
        query.append(("t", str(values.number("timeout"))))
    return query


def stop(cli: Cli, values: Values) -> int:
    """`corten stop C…`"""
    return each(cli, values.rest, _post(cli, "stop", _stopping(values)))


def restart(cli: Cli, values: Values) -> int:
    """`corten restart C…`"""
    return each(cli, values.rest, _post(cli, "restart", _stopping(values)))


def kill(cli: Cli, values: Values) -> int:
    """`corten kill C…`"""
    query = [("signal", values.text("signal"))] if values.text("signal") else []
    return each(cli, values.rest, _post(cli, "kill", query))


def pause(cli: Cli, values: Values) -> int:
    """`corten pause C…`"""
    return each(cli, values.rest, _post(cli, "pause"))


def unpause(cli: Cli, values: Values) -> int:
    """`corten unpause C…`"""
    return each(cli, values.rest, _post(cli, "unpause"))


def rm(cli: Cli, values: Values) -> int:
    """`corten rm C…`; with -f an absent container is said and no failure."""
    query = [(parameter, "1") for flag, parameter in (("volumes", "v"), ("link", "link"), ("force", "force"))
             if values.flag(flag)]

    def remove(given: str) -> object:
        name = given.strip("/")
        if not name:
            raise Failure("container name cannot be empty")
        try:
            cli.client.call("DELETE", f"/containers/{quote(name)}", query)
        except ApiError as error:
            if not (values.flag("force") and error.status == 404):
                raise
            cli.error(error.text)
            return ""
        return None

    return each(cli, values.rest, remove)


def rename(cli: Cli, values: Values) -> None:
    """`corten rename OLD NEW`"""
    old, new = (name.strip() for name in values.rest)
    if not old or not new:
        raise Failure("Error: Neither old nor new names may be empty")
    try:
        cli.client.call("POST", f"/containers/{quote(old)}/rename", [("name", new)])
    except ApiError as error:
        raise Failure(f"{error.text}\nError: failed to rename container named {old}") from None


def wait(cli: Cli, values: Values) -> int:
    """`corten wait C…`: prints the exit codes. With --healthy (beyond docker) 0 once it is."""

    def one(name: str) -> object:
        if values.flag("healthy"):
            return wait_healthy(cli, name)
        found = cli.client.call("POST", f"/containers/{quote(name)}/wait")
        assert isinstance(found, dict)
        error = found.get("Error")
        if isinstance(error, dict) and error.get("Message"):
            raise Failure(str(error["Message"]))
        return found.get("StatusCode", 0)

    return each(cli, values.rest, one)


def wait_healthy(cli: Cli, name: str) -> int:
    """0 once it is healthy. Raises Failure when it has ended before, or has no health check."""
    found = cli.client.call("POST", f"/containers/{quote(name)}/wait", [("condition", "healthy")])
    assert isinstance(found, dict)
    error = found.get("Error")
    if isinstance(error, dict):
        raise Failure(f"{error.get('Message')}, with code {found.get('StatusCode')}")
    return 0


def _rebuilt(values: Values) -> dict[str, object]:
    """Ports and mounts of an update; beyond docker."""
    found: dict[str, object] = {}
    if values.has("publish"):
        from corten.cli.ports import ports

        found["PortBindings"] = ports(values)[1]
    if values.has("volume"):
        from corten.cli.mounts import volumes

        found["Binds"] = volumes(values)[0] or []
    if values.has("mount"):
        from corten.cli.mounts import mounts

        found["Mounts"] = mounts(values)
    return found


def update(cli: Cli, values: Values) -> int:
    """`corten update C…`. POST /containers/{id}/update."""
    if not values.given:
        raise Failure("you must provide one or more flags when using this command")
    body: dict[str, object] = {
        "CpuShares": values.number("cpu-shares"), "Memory": values.number("memory"), "NanoCpus": values.number("cpus"),
        "CgroupParent": "", "BlkioWeight": values.number("blkio-weight"), "BlkioWeightDevice": None,
        "BlkioDeviceReadBps": None, "BlkioDeviceWriteBps": None, "BlkioDeviceReadIOps": None,
        "BlkioDeviceWriteIOps": None, "CpuPeriod": values.number("cpu-period"), "CpuQuota": values.number("cpu-quota"),
        "CpuRealtimePeriod": values.number("cpu-rt-period"), "CpuRealtimeRuntime": values.number("cpu-rt-runtime"),
        "CpusetCpus": values.text("cpuset-cpus"), "CpusetMems": values.text("cpuset-mems"), "Devices": None,
        "DeviceCgroupRules": None, "DeviceRequests": None, "MemoryReservation": values.number("memory-reservation"),
        "MemorySwap": values.number("memory-swap"), "MemorySwappiness": None, "OomKillDisable": None,
        "PidsLimit": values.number("pids-limit") if values.has("pids-limit") else None, "Ulimits": None,
        "CpuCount": 0, "CpuPercent": 0, "IOMaximumIOps": 0, "IOMaximumBandwidth": 0,
        "RestartPolicy": {"Name": "", "MaximumRetryCount": 0},
    }
    if values.text("restart"):
        from corten.cli.create_request import _restart

        body["RestartPolicy"] = _restart(values.text("restart"))
    body.update(_rebuilt(values))
    warnings: list[str] = []

    def one(name: str) -> object:
        found = cli.client.call("POST", f"/containers/{quote(name)}/update", None, body)
        if isinstance(found, dict):
            warnings.extend(found.get("Warnings") or [])
        return None

    code = each(cli, values.rest, one)
    for warning in warnings:
        cli.error(warning)
    return code
