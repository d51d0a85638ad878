"""`-p` and `--expose` as the create request carries them: ports and ranges to bindings. Pure; docker's texts."""

from corten.cli.args import Values, split_csv
from corten.cli.errors import Failure

Bindings = dict[str, list[dict[str, str]]]


def _range(text: str, what: str) -> tuple[int, int]:
    low, dash, high = text.partition("-")
    for part in (low, high) if dash else (low,):
        if not (part.isascii() and part.isdigit()) or int(part) > 65535:
            raise Failure(f"invalid {what}: {text}")
    first, last = int(low), int(high or low)
    if last < first:
        raise Failure(f"invalid {what}: {text}")
    return first, last


def _split(text: str) -> tuple[str, str, str]:
    """(host address, host ports, container ports); a v6 address stands in brackets."""
    address = ""
    if text.startswith("["):
        address, bracket, text = text[1:].partition("]")
        if not bracket or not text.startswith(":"):
            raise Failure(f"Invalid address {address}: missing ']' in address")
        text = text[1:]
        host, _, container = text.rpartition(":")
        return address, host, container
    parts = text.rsplit(":", 2)
    if len(parts) == 3:
        return parts[0], parts[1], parts[2]
    return ("", parts[0], parts[1]) if len(parts) == 2 else ("", "", parts[0])


def _long_form(text: str) -> str:
    """`published=80,target=8080,protocol=udp` in the short way."""
    fields = dict(field.partition("=")[::2] for field in split_csv(text))
    for key in fields:
        if key not in ("target", "published", "protocol", "mode"):
            raise Failure(f"invalid field key {key}")
    if not fields.get("target"):
        raise Failure("invalid empty port")
    protocol = f"/{fields['protocol']}" if fields.get("protocol") else ""
    published = fields.get("published", "")
    return f"{published}:{fields['target']}{protocol}" if published else fields["target"] + protocol


def _publish(text: str, bindings: Bindings) -> None:
    spec = _long_form(text) if "=" in text else text
    address, host, container = _split(spec)
    container, slash, protocol = container.partition("/")
    protocol = protocol.lower() if slash else "tcp"
    if not container:
        raise Failure(f"no port specified: {text}<empty>")
    first, last = _range(container, "containerPort")
    if protocol not in ("tcp", "udp", "sctp"):
        raise Failure(f"invalid proto: {protocol}")
    if address and not _is_address(address):
        raise Failure(f"invalid IP address: {address}")
    low, high = _range(host, "hostPort") if host else (0, 0)
    spread = host and last - first != high - low
    if spread and first != last:
        raise Failure(f"invalid ranges specified for container and host Ports: {container} and {host}")
    for number in range(first, last + 1):
        published = "" if not host else f"{low}-{high}" if spread else str(low + number - first)
        bindings.setdefault(f"{number}/{protocol}", []).append({"HostIp": address, "HostPort": published})


def _is_address(text: str) -> bool:
    from _socket import AF_INET, AF_INET6, inet_pton

    try:
        inet_pton(AF_INET6 if ":" in text else AF_INET, text)
    except OSError:
        return False
    return True


def exposed(text: str) -> list[str]:
    """`--expose 80-82/udp` -> `["80/udp", …]`."""
    if ":" in text:
        raise Failure(f"invalid port format for --expose: {text}")
    container, _, protocol = text.partition("/")
    try:
        first, last = _range(container, "port")
    except Failure:
        bad = container.partition("-")[0]
        wrong = f'strconv.ParseUint: parsing "{bad}": invalid syntax'
        raise Failure(f"invalid range format for --expose: {container}, error: {wrong}") from None
    return [f"{number}/{(protocol or 'tcp').lower()}" for number in range(first, last + 1)]


def ports(values: Values) -> tuple[dict[str, object], Bindings]:
    """Config.ExposedPorts and HostConfig.PortBindings."""
    bindings: Bindings = {}
    for text in values.many("publish"):
        _publish(text, bindings)
    names = set(bindings)
    for text in values.many("expose"):
        names.update(exposed(text))
    return {name: {} for name in sorted(names)}, bindings
