"""A container's `corten.gateway.*` labels as an Api document of its own. Pure.

`path`, `exact`, `regex`, `methods`, `header.NAME`, `query.NAME` say which requests; `host`, `name`, `port`, `weight`,
`version`, `protocol`, `tls`, `policy` (names) the rest; every other label is a member of a Policy, `retry.attempts=3`.
Lists are written with commas.
"""

from typing import Any, get_args, get_origin, get_type_hints

import msgspec

from corten.base.errors import InvalidArgument
from corten.gateway.fields import Document, PolicyBody, said
from corten.gateway.model import Api

PREFIX = "corten.gateway."
_ROUTE = ("path", "exact", "regex", "methods")
_BACKEND = ("port", "weight", "version", "protocol")
OWN = ("weight", "version", "port")  # in which containers of one Api may differ
_LISTS_OF_ONE = {"rate": ("rates", "limit"), "allow": ("allow", "")}


def gateway_labels(labels: dict[str, str] | None) -> dict[str, str]:
    """Those that speak to the gateway, without their prefix."""
    return {name.removeprefix(PREFIX): value for name, value in (labels or {}).items() if name.startswith(PREFIX)}


def shared(own: dict[str, str]) -> dict[str, str]:
    """What all containers of one Api must agree on."""
    return {name: value for name, value in own.items() if name not in OWN}


def api_of(own: dict[str, str], name: str, project: str) -> Api:
    """The Api that labels describe; `name` is taken unless they give one. Raises InvalidArgument naming the label."""
    api: dict[str, Any] = {"name": own.get("name", name), "project": project}
    route: dict[str, Any] = {}
    backend: dict[str, Any] = {}
    policy: dict[str, Any] = {}
    for label, text in own.items():
        head, _, rest = label.partition(".")
        if label in _ROUTE:
            route[label] = text.split(",") if label == "methods" else text
        elif head in ("header", "query") and rest:
            route.setdefault("headers" if head == "header" else "query", {})[rest] = text
        elif label == "host":
            api["hosts"] = text.split(",")
        elif label == "policy":
            api["policies"] = text.split(",")
        elif label == "tls":
            api["tls"] = {"mode": text}
        elif label in _BACKEND:
            backend[label] = _number(label, text) if label in ("port", "weight") else text
        elif label != "name":
            _put(policy, label, text)
    api["routes"], api["backends"], api["policy"] = [route], [backend], policy
    try:
        return msgspec.convert(api, Api)
    except msgspec.ValidationError as error:
        raise InvalidArgument(f"labels {PREFIX}*: {_place(said(str(error)))}") from None


def _place(text: str) -> str:
    for inside in ("$.routes[0].", "$.backends[0].", "$.policy.", "$."):
        text = text.replace(f" - at `{inside}", " - at `")
    return text


def _number(label: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise InvalidArgument(f"label {PREFIX}{label}: {text!r} is not a number")
    return int(text)


def _put(policy: dict[str, Any], label: str, text: str) -> None:
    """A member of a Policy, found by the types: `rate=5/s` and `allow.claims.role=admin` are lists of one."""
    steps = label.split(".")
    place: Any = policy
    kind: Any = PolicyBody
    if steps[0] in _LISTS_OF_ONE:
        member, short = _LISTS_OF_ONE[steps[0]]
        kind = get_args(_plain(_hints(PolicyBody)[member]))[0]
        place = policy.setdefault(member, [{}])[0]
        steps = steps[1:] or [short]
    for at, step in enumerate(steps):
        kind = _member(kind, step, label)
        if at == len(steps) - 1:
            place[step] = _value(kind, text, label)
        else:
            place = place.setdefault(step, {})


def _hints(kind: type[Document]) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {name: hints[field] for field, name in
            zip(kind.__struct_fields__, kind.__struct_encode_fields__, strict=True)}


def _plain(hint: Any) -> Any:
    """A type without `| None`."""
    parts = [part for part in get_args(hint) if part is not type(None)] if type(None) in get_args(hint) else [hint]
    return parts[0]


def _member(kind: Any, step: str, label: str) -> Any:
    if isinstance(kind, type) and issubclass(kind, Document):
        hints = _hints(kind)
        if step in hints:
            return _plain(hints[step])
    elif get_origin(kind) is dict:
        return get_args(kind)[1]
    raise InvalidArgument(f"label {PREFIX}{label}: the gateway knows no {step!r}"
                          f"{' here' if '.' in label else ''}; see corten gateway --help and docs/gateway.md")


def _value(kind: Any, text: str, label: str) -> Any:
    if get_origin(kind) is list:
        return [_value(get_args(kind)[0], part, label) for part in text.split(",")]
    if isinstance(kind, type) and issubclass(kind, Document):
        if text.lower() in ("true", "on", ""):
            return {}
        raise InvalidArgument(f"label {PREFIX}{label}: say which member, {PREFIX}{label}.…, or true")
    if kind is bool:
        if text not in ("true", "false"):
            raise InvalidArgument(f"label {PREFIX}{label}: {text!r} is neither true nor false")
        return text == "true"
    return _number(label, text) if kind is int else text

