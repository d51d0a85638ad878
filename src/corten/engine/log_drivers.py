"""Log drivers as data: which there are, their options, and what of them the log pump and the readers need. Pure.

`json-file` and `local` keep one and the same log (corten.zygote.log_format); the names differ in their defaults. `none`
keeps just enough for clients that are attached. `syslog` and `journald` keep a log as `local` does, docker's cache,
from which corten.engine.log_forward sends it on. Texts are Docker's (daemon/logger). See ADR 8.
"""

import re
import socket
from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import quote_plus

from corten.base.errors import InvalidArgument, Unsupported
from corten.engine import syslog
from corten.engine.records import ContainerRecord, LogConfig
from corten.zygote.log_format import Limits

DEFAULT_DRIVER = "json-file"
FAILED = "failed to create task for container: failed to initialize logging driver: "
NOT_READABLE = "configured logging driver does not support reading"
_COMMON = frozenset(("mode", "max-buffer-size"))
_ATTRIBUTES = frozenset(("labels", "labels-regex", "env", "env-regex", "tag"))
_FILE = frozenset(("max-size", "max-file", "compress"))
_CACHE = frozenset(("cache-disabled", "cache-max-size", "cache-max-file", "cache-compress"))
_OPTIONS = {"json-file": _ATTRIBUTES | _FILE, "local": _FILE, "none": frozenset(),
            "syslog": _ATTRIBUTES | _CACHE | syslog.OPTIONS, "journald": _ATTRIBUTES | _CACHE}
NAMES = tuple(_OPTIONS)
FORWARDED = ("syslog", "journald")
# known to docker and not to this engine
_ELSEWHERE = frozenset(("gelf", "fluentd", "awslogs", "splunk", "gcplogs", "etwlogs"))
_DECIMAL = {"": 1, "k": 1000, "m": 1000 ** 2, "g": 1000 ** 3, "t": 1000 ** 4, "p": 1000 ** 5}
_ATTACHED = Limits(segment_bytes=16 << 20, files=2)  # what `none` keeps for attached clients


class Defaults(NamedTuple):
    max_size: str
    max_file: int
    compress: bool


_KEPT = Defaults("20m", 5, True)
_DEFAULTS = {"json-file": Defaults("-1", 1, False), "local": _KEPT, "syslog": _KEPT, "journald": _KEPT}


def check(config: LogConfig) -> None:
    """Whether this driver and these options can be had. Raises InvalidArgument, Unsupported."""
    driver = config.type or DEFAULT_DRIVER
    if driver in _ELSEWHERE:
        raise Unsupported(f"HostConfig.LogConfig.Type {driver!r} is not supported; {', '.join(NAMES)} are")
    if driver not in _OPTIONS:
        raise InvalidArgument(f'error looking up logging plugin {driver}: plugin "{driver}" not found')
    if driver == "none":
        return
    mode = config.config.get("mode", "")
    if mode not in ("", "blocking", "non-blocking"):
        raise InvalidArgument(f"logger: logging mode not supported: {mode}")
    if "max-buffer-size" in config.config and mode != "non-blocking":
        raise InvalidArgument("logger: max-buffer-size option is only supported with 'mode=non-blocking'")
    for name in config.config:
        if name not in _OPTIONS[driver] and name not in _COMMON:
            raise InvalidArgument(f"unknown log opt '{name}' for {driver} log driver")
    limits(config)
    if driver == "syslog":
        syslog.check(config.config)
    _check_tag(config.config.get("tag", ""))
    for name in ("labels-regex", "env-regex"):
        try:
            re.compile(config.config.get(name, ""))
        except re.error as error:
            raise InvalidArgument(f"{FAILED}error parsing regexp: {error}") from None


def limits(config: LogConfig) -> Limits:
    """How much of the log is kept. Raises InvalidArgument."""
    driver = config.type or DEFAULT_DRIVER
    if driver not in _DEFAULTS or not readable(config):
        return _ATTACHED
    default, given = _DEFAULTS[driver], config.config
    prefix = "cache-" if driver in FORWARDED else ""
    size = _size(given.get(f"{prefix}max-size", default.max_size))
    files = _count(given.get(f"{prefix}max-file", str(default.max_file)))
    compress = _truth(given.get(f"{prefix}compress", "true" if default.compress else "false"))
    if driver == "json-file" and compress and (files == 1 or not size):
        raise InvalidArgument(
            f"{FAILED}compress cannot be true when max-file is less than 2 or max-size is not set")
    if driver != "json-file" and compress and files == 1:
        raise InvalidArgument(f"{FAILED}compression cannot be enabled when max file count is 1")
    return Limits(size, files, compress)


def _size(text: str) -> int:
    if text == "-1":
        return 0
    found = re.fullmatch(r"([0-9]{1,15})(?:\.([0-9]{1,6}))? ?([kmgtp]?)b?", text.lower(), re.ASCII)
    if not found:
        raise InvalidArgument(f"{FAILED}invalid size: '{text}'")
    size = int(float(f"{found[1]}.{found[2] or 0}") * _DECIMAL[found[3]])
    if not size:
        raise InvalidArgument(f"{FAILED}max-size must be a positive number")
    return size


def _count(text: str) -> int:
    if not re.fullmatch("-?[0-9]{1,6}", text, re.ASCII):
        raise InvalidArgument(f'{FAILED}strconv.Atoi: parsing "{text}": invalid syntax')
    if int(text) < 1:
        raise InvalidArgument(f"{FAILED}max-file cannot be less than 1")
    return int(text)


def _truth(text: str) -> bool:
    if text in ("1", "t", "T", "TRUE", "true", "True"):
        return True
    if text in ("0", "f", "F", "FALSE", "false", "False"):
        return False
    raise InvalidArgument(f'{FAILED}strconv.ParseBool: parsing "{text}": invalid syntax')


def readable(config: LogConfig) -> bool:
    """Whether `docker logs` can show it."""
    return config.type != "none" and not (forwarded(config) and _truth(config.config.get("cache-disabled", "false")))


def forwarded(config: LogConfig) -> bool:
    """Whether the log is also sent elsewhere."""
    return config.type in FORWARDED


def attributes(record: ContainerRecord) -> dict[str, str]:
    """The labels and variables that options of the log choose."""
    given = record.host_config.log_config.config
    labels = record.config.labels or {}
    variables = dict(text.split("=", 1) for text in record.config.env or () if "=" in text)
    found: dict[str, str] = {}
    for values, kind in ((labels, "labels"), (variables, "env")):
        wanted = given.get(kind, "").split(",")
        pattern = given.get(f"{kind}-regex", "")
        found.update({
            name: value for name, value in values.items()
            if name in wanted or (pattern and re.search(pattern, name))
        })
    return found


def details(record: ContainerRecord) -> bytes:
    """What `docker logs --details` puts before each line: the attributes, and the tag."""
    found, template = attributes(record), record.host_config.log_config.config.get("tag")
    if template:
        found["tag"] = tag(record, template)
    return ",".join(f"{quote_plus(name)}={quote_plus(found[name])}" for name in sorted(found)).encode()


_PLACEHOLDERS: dict[str, Callable[[ContainerRecord], str]] = {
    "ID": lambda record: record.id[:12], "FullID": lambda record: record.id, "Name": lambda record: record.name,
    "ImageName": lambda record: record.image,
    "ImageID": lambda record: record.image_id.removeprefix("sha256:")[:12],
    "ImageFullID": lambda record: record.image_id, "DaemonName": lambda _: "docker",
    "Hostname": lambda _: socket.gethostname(),
    "Command": lambda record: " ".join([record.path, *record.args]),
}


def tag(record: ContainerRecord, template: str) -> str:
    """The `tag` option with its placeholders filled in."""
    return re.sub(r"{{ *\.(\w+) *}}", lambda found: _PLACEHOLDERS[found[1]](record), template)


def _check_tag(template: str) -> None:
    for text in re.findall("{{.*?}}|{{", template):
        found = re.fullmatch(r"{{ *\.(\w+) *}}", text)
        if not found or found[1] not in _PLACEHOLDERS:
            known = ", ".join(f".{name}" for name in _PLACEHOLDERS)
            raise InvalidArgument(f"{FAILED}log tag {text}: not one of {known}")
