"""`corten ps`, `port`, `top`: what containers there are and what they show to the outside."""

import sys

from corten.base.human import human_size
from corten.cli import clock, filters
from corten.cli.args import Values
from corten.cli.client import quote
from corten.cli.errors import Failure
from corten.cli.main import Cli
from corten.cli.reference import domain_of, familiar, short_id, split_name
from corten.cli.table import Listing, Row, ellipsis, joined_labels, label_of

Port = dict[str, object]

HEADERS = {
    "ID": "CONTAINER ID", "Names": "NAMES", "Image": "IMAGE", "Command": "COMMAND", "CreatedAt": "CREATED AT",
    "RunningFor": "CREATED", "Ports": "PORTS", "State": "STATE", "Status": "STATUS", "Size": "SIZE",
    "Labels": "LABELS", "Mounts": "MOUNTS", "LocalVolumes": "LOCAL VOLUMES", "Networks": "NETWORKS",
    "Platform": "PLATFORM",
}
COLUMNS = ("ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names")


def _group(key: str, first: int, last: int) -> str:
    ip, slash, kind = key.rpartition("/")
    span = str(first) if first == last else f"{first}-{last}"
    if slash:
        host = f"[{ip}]" if ":" in ip else ip
        return f"{host}:{span}->{span}/{kind}"
    return f"{span}/{kind}"


def _number(port: Port, name: str) -> int:
    value = port.get(name)
    return value if isinstance(value, int) else 0


def ports_text(ports: list[Port]) -> str:
    """The PORTS cell: neighbours in ranges, mappings to another number after them."""
    groups: dict[str, list[int]] = {}
    done: list[str] = []
    mapped: list[str] = []
    for port in sorted(ports, key=lambda one: (
        _number(one, "PrivatePort"), str(one.get("IP", "")), _number(one, "PublicPort"), str(one.get("Type", "")),
    )):
        number, kind, ip = _number(port, "PrivatePort"), str(port.get("Type", "tcp")), str(port.get("IP") or "")
        key = kind
        if ip:
            public = _number(port, "PublicPort")
            if public != number:
                mapped.append(f"{f'[{ip}]' if ':' in ip else ip}:{public}->{number}/{kind}")
                continue
            key = f"{ip}/{kind}"
        group = groups.get(key)
        if group and number == group[1] + 1:
            group[1] = number
            continue
        if group:
            done.append(_group(key, *group))
        groups[key] = [number, number]
    return ", ".join((*done, *(_group(key, *span) for key, span in groups.items()), *mapped))


def go_quoted(text: str) -> str:
    """A command as Go quotes it; the usual one without importing the template engine."""
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return f'"{text}"'
    from corten.cli.template_values import quoted

    return quoted(text)


def _image(summary: dict[str, object], trunc: bool) -> str:
    image = str(summary.get("Image") or "<no image>")
    if not trunc or image == "<no image>":
        return image
    image_id = short_id(str(summary.get("ImageID", "")))
    if image_id == short_id(image):
        return image_id
    name, tag, digest = split_name(image)
    if tag and domain_of(name)[1]:
        return familiar(f"{name}:{tag}")
    return familiar(name) if digest else image


def row_of(summary: dict[str, object], trunc: bool) -> Row:
    """One container of the API's list as a row of texts."""
    labels = summary.get("Labels") or {}
    assert isinstance(labels, dict)
    names = [str(name).removeprefix("/") for name in _list(summary, "Names")]
    if trunc:
        names = [name for name in names if "/" not in name] or names
    command = go_quoted(ellipsis(str(summary.get("Command", "")), 20) if trunc else str(summary.get("Command", "")))
    created = summary.get("Created")
    created = created if isinstance(created, int) else 0
    mounts = [str(one.get("Name") or one.get("Source", "")) for one in _dicts(summary, "Mounts")]
    networks = summary.get("NetworkSettings") or {}
    assert isinstance(networks, dict)
    container_id = str(summary.get("Id", ""))
    return {
        "Command": command,
        "CreatedAt": clock.go_time(created),
        "ID": container_id[:12] if trunc else container_id,
        "Image": _image(summary, trunc),
        "Label": label_of(labels),
        "Labels": joined_labels(labels),
        "LocalVolumes": str(sum(one.get("Driver") == "local" for one in _dicts(summary, "Mounts"))),
        "Mounts": ",".join(ellipsis(one, 15) if trunc else one for one in mounts),
        "Names": ",".join(names),
        "Networks": ",".join(sorted(networks.get("Networks") or {})),
        "Platform": summary.get("ImageManifestDescriptor"),
        "Ports": ports_text(_dicts(summary, "Ports")),
        "RunningFor": clock.ago(created),
        "Size": _size(summary),
        "State": str(summary.get("State", "")),
        "Status": str(summary.get("Status", "")),
    }


def _list(value: dict[str, object], name: str) -> list[object]:
    found = value.get(name)
    return found if isinstance(found, list) else []


def _dicts(value: dict[str, object], name: str) -> list[dict[str, object]]:
    return [one for one in _list(value, name) if isinstance(one, dict)]


def _size(summary: dict[str, object]) -> str:
    def number(name: str) -> int:
        value = summary.get(name)
        return value if isinstance(value, int) else 0

    virtual = number("SizeRootFs")
    text = human_size(number("SizeRw"), 3)
    return f"{text} (virtual {human_size(virtual, 3)})" if virtual > 0 else text


def ls(cli: Cli, values: Values) -> None:
    """`corten ps`. GET /containers/json."""
    form = values.text("format") or config_format(cli, "psFormat", values)
    limit = 1 if values.flag("latest") else values.number("last")
    size = values.flag("size")
    query = [("all", "1")] if values.flag("all") else []
    if limit > 0:
        query.append(("limit", str(limit)))
    if size or (form not in ("", "table", "json") and _asks_for_size(form)):
        query.append(("size", "1"))
    query += filters.query(values.many("filter"))
    found = cli.client.call("GET", "/containers/json", query)
    trunc = not values.flag("no-trunc")
    rows = [row_of(one, trunc) for one in found if isinstance(one, dict)] if isinstance(found, list) else []
    columns = (*COLUMNS, "Size") if size else COLUMNS
    Listing("*formatter.ContainerContext", HEADERS, columns).show(rows, form, values.flag("quiet"))


_PROBE = "size asked for"


def _asks_for_size(form: str) -> bool:
    """Whether a template uses the size, which costs the engine a walk. Raises Failure when it cannot be carried out."""
    from corten.cli.template import TemplateError
    from corten.cli.template_run import Template
    from corten.cli.template_values import Record

    asked = []

    def size() -> str:
        asked.append(True)
        return ""

    probe: dict[str, object] = {**row_of({}, True), "Size": size}
    try:
        template = Template(form)
    except TemplateError as error:
        raise Failure(f"failed to parse template: {error.text}") from None
    try:
        shown = template.render(Record("*formatter.ContainerContext", probe, {"Size": _PROBE}))
    except TemplateError as error:
        raise Failure(f"failed to execute template: {error.text}") from None
    return bool(asked) or _PROBE in shown


def config_format(cli: Cli, name: str, values: Values) -> str:
    """A list's own format from the user's config.json; not with --quiet."""
    if values.flag("quiet"):
        return ""
    from corten.base import jsonio

    try:
        with open(f"{cli.config_dir}/config.json", encoding="utf-8") as file:
            config = jsonio.loads(file.read())
    except (OSError, ValueError):
        return ""
    found = config.get(name) if isinstance(config, dict) else ""
    return found if isinstance(found, str) else ""


def inspect(cli: Cli, name: str) -> dict[str, object]:
    """The API's description of a container."""
    found = cli.client.call("GET", f"/containers/{quote(name)}/json")
    assert isinstance(found, dict)
    return found


def port(cli: Cli, values: Values) -> None:
    """`corten port C [80/tcp]`."""
    name = values.rest[0]
    settings = inspect(cli, name).get("NetworkSettings")
    ports = settings.get("Ports") if isinstance(settings, dict) else {}
    ports = ports if isinstance(ports, dict) else {}
    lines: list[tuple[int, str, str]] = []
    wanted = values.rest[1] if len(values.rest) > 1 else ""
    if wanted:
        number, _, kind = wanted.partition("/")
        if not number.isdigit() or int(number) > 65535:
            raise Failure(f"invalid port '{number}': invalid syntax")
        wanted = f"{number}/{kind or 'tcp'}"
        if not ports.get(wanted):
            raise Failure(f"Error: No public port '{values.rest[1]}' published for {name}")
    for key, bindings in ports.items():
        for binding in bindings or []:
            host = str(binding.get("HostIp") or "")
            address = f"{f'[{host}]' if ':' in host else host}:{binding.get('HostPort', '')}"
            if wanted in ("", key):
                lines.append((int(key.split("/")[0]), key, address if wanted else f"{key} -> {address}"))
    lines.sort(key=lambda one: (one[0], one[1], one[2]))
    for _, _, text in lines:
        cli.out(text)


def top(cli: Cli, values: Values) -> None:
    """`corten top C [ps options]`. GET /containers/{id}/top."""
    from corten.cli.table import aligned

    name, *rest = values.rest
    query = [("ps_args", " ".join(rest))] if rest else []
    found = cli.client.call("GET", f"/containers/{quote(name)}/top", query)
    assert isinstance(found, dict)
    lines = [[str(cell) for cell in row] for row in [_list(found, "Titles"), *_list(found, "Processes")]
             if isinstance(row, list)]
    # docker's `top` uses a table with a minimum of twenty columns and one blank
    sys.stdout.write(aligned(lines, 20, 3))
