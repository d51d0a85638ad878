"""The flags of `run` and `create` as the body of POST /containers/create, field for field as docker's command sends it.

Zero values are sent as docker sends them, so that requests can be compared. What the engine thinks of it is its own.
"""

import os

from corten.cli.args import Values, parse_size, split_csv
from corten.cli.errors import Failure, UsageError
from corten.cli.mounts import volumes
from corten.cli.ports import ports

Json = dict[str, object]


def _lines(path: str, what: str) -> list[str]:
    try:
        with open(path, encoding="utf-8-sig") as file:
            text = file.read()
    except OSError as error:
        raise Failure(f"open {path}: {(error.strerror or str(error)).lower()}") from None
    except UnicodeDecodeError:
        raise Failure(f"{path}: invalid {what} file: not UTF-8") from None
    return [line.lstrip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]


def environment(values: Values) -> list[str]:
    """`--env-file` and `-e`: a name alone takes the value from here, and is left out when there is none."""
    found: list[str] = []
    for path in values.many("env-file"):
        for line in _lines(path, "env"):
            name, equals, _ = line.partition("=")
            if not name:
                raise Failure(f"invalid env file ({path}): no variable name on line '{line}'")
            if " " in name or "\t" in name:
                raise Failure(f"invalid env file ({path}): variable '{name}' contains whitespaces")
            if equals:
                found.append(line)
            elif name in os.environ:
                found.append(f"{name}={os.environ[name]}")
    for text in values.many("env"):
        name, equals, _ = text.partition("=")
        if not name:
            raise UsageError(f'invalid argument "{text}" for "-e, --env" flag: invalid environment variable: {text}')
        found.append(f"{name}={os.environ[name]}" if not equals and name in os.environ else text)
    return found


def labels(values: Values, file_flag: str = "label-file") -> dict[str, str]:
    """`--label-file` and `-l` as a map."""
    texts: list[str] = []
    for path in values.many(file_flag):
        texts += [line for line in _lines(path, "label") if "=" in line]
    for text in values.many("label"):
        if not text.partition("=")[0].strip():
            shown = "-l, --label" if file_flag == "label-file" else "--label"
            raise UsageError(f"invalid argument \"{text}\" for \"{shown}\" flag: invalid label '{text}': empty name")
    return pairs(texts + values.many("label"))


def pairs(texts: list[str]) -> dict[str, str]:
    """`["a=b", "c"]` -> `{"a": "b", "c": ""}`."""
    return dict(text.partition("=")[::2] for text in texts)


def _usage(values: Values, name: str, text: str, message: str) -> UsageError:
    return UsageError(f'invalid argument "{text}" for "--{name}" flag: {message}')


_ULIMITS = frozenset(("core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss",
                      "rtprio", "rttime", "sigpending", "stack"))  # docker's go-units: "as" is not among them


def ulimit_entries(values: Values) -> list[Json]:
    """--ulimit as the API has it. Raises UsageError."""
    found: dict[str, Json] = {}
    for text in values.many("ulimit"):
        name, equals, limits = text.partition("=")
        if not equals:
            raise _usage(values, "ulimit", text, f"invalid ulimit argument: {text}")
        if name not in _ULIMITS:
            raise _usage(values, "ulimit", text, f"invalid ulimit type: {name}")
        soft, colon, hard = limits.partition(":")
        numbers = []
        for part in (soft, hard) if colon else (soft,):
            if not part.lstrip("-").isdigit():
                raise _usage(values, "ulimit", text, f'strconv.ParseInt: parsing "{part}": invalid syntax')
            numbers.append(int(part))
        if colon and numbers[1] != -1 and (numbers[0] > numbers[1] or numbers[0] == -1):
            raise _usage(values, "ulimit", text,
                         f"ulimit soft limit must be less than or equal to hard limit: {numbers[0]} > {numbers[1]}")
        found[name] = {"Name": name, "Hard": numbers[-1], "Soft": numbers[0]}
    return [found[name] for name in sorted(found)]


def _devices(values: Values) -> list[Json]:
    found: list[Json] = []
    for text in values.many("device"):
        parts = text.split(":")
        source, target, mode = parts[0], parts[0], "rwm"
        if len(parts) == 3:
            target, mode = parts[1] or source, parts[2]
        elif len(parts) == 2:
            if parts[1] and set(parts[1]) <= set("rwm"):
                mode = parts[1]
            else:
                target = parts[1]
        elif len(parts) > 3:
            raise Failure(f"bad format for path: {text}")
        if not set(mode) <= set("rwm") or not source:
            raise Failure(f"bad mode specified: {mode}")
        found.append({"PathOnHost": source, "PathInContainer": target, "CgroupPermissions": mode})
    return found


def _throttle(values: Values, name: str) -> list[Json]:
    found: list[Json] = []
    for text in values.many(name):
        path, colon, rate = text.rpartition(":")
        if not colon or not path.startswith("/dev/"):
            raise _usage(values, name, text, f"bad format: {text}" if not colon
                         else f"bad format for device path: {text}")
        try:
            number = parse_size(rate) if name.endswith("bps") else int(rate)
        except ValueError:
            unit = more = ""
            if name.endswith("bps"):
                unit, more = "[<unit>]", ". Unit is optional and can be kb, mb, or gb"
            wrong = f"invalid rate for device: {text}. The correct format is <device-path>:<number>{unit}"
            raise _usage(values, name, text, f"{wrong}. Number must be a positive integer{more}") from None
        found.append({"Path": path, "Rate": number})
    return found


def _weights(values: Values) -> list[Json]:
    found: list[Json] = []
    for text in values.many("blkio-weight-device"):
        path, _, weight = text.rpartition(":")
        if not path.startswith("/dev/") or not weight.isdigit() or not (weight == "0" or 10 <= int(weight) <= 1000):
            raise _usage(values, "blkio-weight-device", text, f"invalid weight for device: {text}")
        found.append({"Path": path, "Weight": int(weight)})
    return found


def _gpus(values: Values) -> list[Json] | None:
    found: list[Json] = []
    for text in values.many("gpus"):
        request: Json = {"Driver": "", "Count": 0, "DeviceIDs": None, "Capabilities": [["gpu"]], "Options": {}}
        for field in split_csv(text):
            key, equals, value = field.partition("=")
            if not equals:
                key, value = "count", key
            if key == "count":
                request["Count"] = -1 if value == "all" else int(value) if value.isdigit() else 0
            elif key == "device":
                request["DeviceIDs"] = value.split(",")
            elif key == "driver":
                request["Driver"] = value
            elif key == "capabilities":
                request["Capabilities"] = [[*value.split(","), "gpu"]]
            else:
                raise _usage(values, "gpus", text, f"unexpected key '{key}' in '{field}'")
        found.append(request)
    return found or None


def _sysctls(values: Values) -> dict[str, str]:
    names = ("kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall", "kernel.shmmax",
             "kernel.shmmni", "kernel.shm_rmid_forced")
    for text in values.many("sysctl"):
        name = text.partition("=")[0]
        if "=" not in text or (name not in names and not name.startswith(("net.", "fs.mqueue."))):
            raise _usage(values, "sysctl", text, f"sysctl '{text}' is not allowed")
    return pairs(values.many("sysctl"))


def host_entries(values: Values) -> list[str] | None:
    """--add-host as `name:address`, None for none. Raises UsageError."""
    found = []
    for text in values.many("add-host"):
        at = min((place for place in (text.find("="), text.find(":")) if place >= 0), default=-1)
        name, address = (text[:at], text[at + 1:]) if at > 0 else ("", "")
        if not name or not address:
            raise _usage(values, "add-host", text, f'bad format for add-host: "{text}"')
        if address.startswith("[") and address.endswith("]"):
            address = address[1:-1]
        if address != "host-gateway" and not set(address) <= set("0123456789abcdefABCDEF.:%"):
            raise _usage(values, "add-host", text, f'invalid IP address in add-host: "{address}"')
        found.append(f"{name}:{address}")
    return found or None


def _restart(text: str) -> Json:
    name, colon, count = text.partition(":")
    if colon and not name:
        raise Failure("invalid restart policy format: no policy provided before colon")
    if colon and not count.lstrip("-").isdigit():
        raise Failure("invalid restart policy format: maximum retry count must be an integer")
    return {"Name": name, "MaximumRetryCount": int(count or 0)}


def _health(values: Values) -> Json | None:
    names = {"health-interval": "Interval", "health-timeout": "Timeout", "health-start-period": "StartPeriod",
             "health-start-interval": "StartInterval", "health-retries": "Retries"}
    given = [name for name in ("health-cmd", *names) if values.number(name) or values.text(name) not in ("", "0")]
    if values.flag("no-healthcheck"):
        if given:
            raise Failure("--no-healthcheck conflicts with --health-* options")
        return {"Test": ["NONE"]}
    if not given:
        return None
    command = values.text("health-cmd")
    found: Json = {"Test": ["CMD-SHELL", command]} if command else {}
    for name in ("health-interval", "health-timeout", "health-start-period", "health-start-interval", "health-retries"):
        number = values.number(name)
        if number < 0:
            raise Failure(f"--{name} cannot be negative")
        if number:
            found[names[name]] = number
    return found


def _own_labels(values: Values) -> dict[str, str]:
    """Flags beyond docker's, which the engine takes as labels (corten.engine.own_labels)."""
    found = {}
    if values.number("max-run-time"):
        found["corten.max-run-time"] = f"{values.number('max-run-time')}ns"
    if values.text("on-unhealthy"):
        found["corten.on-unhealthy"] = values.text("on-unhealthy")
    return found


def _endpoint() -> Json:
    return {
        "IPAMConfig": None, "Links": None, "Aliases": None, "MacAddress": "", "DriverOpts": None, "GwPriority": 0,
        "NetworkID": "", "EndpointID": "", "Gateway": "", "IPAddress": "", "IPPrefixLen": 0, "IPv6Gateway": "",
        "GlobalIPv6Address": "", "GlobalIPv6PrefixLen": 0, "DNSNames": None,
    }


def _network(text: str) -> tuple[str, Json]:
    """One `--network`: a name, or `name=…,alias=…,ip=…`."""
    endpoint = _endpoint()
    if "=" not in text:
        return text, endpoint
    target = ""
    addresses: Json = {}
    aliases: list[str] = []
    options: dict[str, str] = {}
    for field in split_csv(text):
        key, equals, value = field.partition("=")
        if not equals:
            wrong = f"invalid key value pair format in {field}"
            raise UsageError(f'invalid argument "{text}" for "--network" flag: {wrong}')
        key, value = key.strip().lower(), value.strip()
        if key == "name":
            target = value
        elif key == "alias":
            aliases.append(value)
        elif key in ("ip", "ip6"):
            addresses["IPv4Address" if key == "ip" else "IPv6Address"] = value
        elif key == "link-local-ip":
            addresses["LinkLocalIPs"] = [value]
        elif key == "mac-address":
            endpoint["MacAddress"] = value
        elif key == "driver-opt":
            options.update(pairs([value]))
        elif key == "gw-priority":
            endpoint["GwPriority"] = int(value)
        else:
            raise UsageError(f'invalid argument "{text}" for "--network" flag: invalid field key {key}')
    endpoint.update(IPAMConfig=addresses or None, Aliases=aliases or None, DriverOpts=options or None)
    return target, endpoint


def _networking(values: Values) -> tuple[str, Json]:
    """HostConfig.NetworkMode and NetworkingConfig. The single flags (--ip, …) belong to the first network."""
    given = [_network(text) for text in values.many("network")] or [("default", _endpoint())]
    mode, first = given[0]
    addresses = dict(first["IPAMConfig"]) if isinstance(first["IPAMConfig"], dict) else {}
    for flag, key in (("ip", "IPv4Address"), ("ip6", "IPv6Address")):
        if values.text(flag):
            addresses[key] = values.text(flag)
    if values.many("link-local-ip"):
        addresses["LinkLocalIPs"] = values.many("link-local-ip")
    first["IPAMConfig"] = addresses or None
    own = mode not in ("default", "bridge", "host", "none") and not mode.startswith("container:")
    if values.many("network-alias"):
        if not own:
            raise Failure("network-scoped aliases are only supported for user-defined networks")
        first["Aliases"] = values.many("network-alias")
    if values.many("link") and own:
        first["Links"] = values.many("link")
    if values.text("mac-address"):
        import re  # not at import time, for the sake of the start

        if not re.fullmatch(r"[0-9a-fA-F]{2}([:-]?[0-9a-fA-F]{2}){5,19}", values.text("mac-address"), re.ASCII):
            raise Failure(f"{values.text('mac-address')} is not a valid mac address")
        first["MacAddress"] = values.text("mac-address")
    return mode, {"EndpointsConfig": {
        name: endpoint for name, endpoint in given
        if name not in ("host", "none") and not name.startswith("container:")
    }}


def build(values: Values) -> tuple[Json, Json, Json]:
    """Config, HostConfig and NetworkingConfig of a request. Raises UsageError, Failure with docker's texts."""
    from corten.cli.create_host import host_config

    image, *command = values.rest
    exposed, bindings = ports(values)
    binds, anonymous = volumes(values)
    interactive, tty = values.flag("interactive"), values.flag("tty")
    attached = [word.lower() for word in values.many("attach")]
    for word in attached:
        if word not in ("stdin", "stdout", "stderr"):
            valid = "valid streams are STDIN, STDOUT and STDERR"
            raise UsageError(f'invalid argument "{word}" for "-a, --attach" flag: {valid}')
    foreground = not values.flag("detach")
    config: Json = {
        "Hostname": values.text("hostname"), "Domainname": values.text("domainname"), "User": values.text("user"),
        "AttachStdin": foreground and ("stdin" in attached if attached else interactive),
        "AttachStdout": foreground and (not attached or "stdout" in attached),
        "AttachStderr": foreground and (not attached or "stderr" in attached),
    }
    if exposed:
        config["ExposedPorts"] = exposed
    config.update(
        Tty=tty, OpenStdin=interactive, StdinOnce=interactive and bool(config["AttachStdin"]),
        Env=environment(values) or None, Cmd=command or None,
    )
    health = _health(values)
    if health is not None:
        config["Healthcheck"] = health
    entrypoint = [values.text("entrypoint")] if values.has("entrypoint") else None
    config.update(Image=image, Volumes=anonymous, WorkingDir=values.text("workdir"), Entrypoint=entrypoint)
    config.update(OnBuild=None, Labels={**labels(values), **_own_labels(values)})
    if values.text("stop-signal"):
        config["StopSignal"] = values.text("stop-signal")
    if values.has("stop-timeout"):
        config["StopTimeout"] = values.number("stop-timeout")
    mode, networking = _networking(values)
    return config, host_config(values, binds, bindings, mode), networking
