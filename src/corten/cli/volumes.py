"""`corten volume create`, `ls`, `rm`."""

from corten.cli import filters
from corten.cli.args import Values
from corten.cli.client import quote
from corten.cli.containers import config_format
from corten.cli.create_request import pairs
from corten.cli.errors import ApiError, Failure, NotConnected
from corten.cli.main import Cli
from corten.cli.table import Listing, Row, joined_labels, label_of

HEADERS = {
    "Name": "VOLUME NAME", "Driver": "DRIVER", "Scope": "SCOPE", "Mountpoint": "MOUNTPOINT", "Labels": "LABELS",
    "Links": "LINKS", "Size": "SIZE", "Availability": "AVAILABILITY", "Group": "GROUP", "Status": "STATUS",
}
_CLUSTER = ("availability", "group", "limit-bytes", "required-bytes", "scope", "secret", "sharing",
            "topology-preferred", "topology-required", "type")


def row_of(volume: dict[str, object]) -> Row:
    """One volume of the API's list as a row of texts."""
    labels = volume.get("Labels") or {}
    assert isinstance(labels, dict)
    usage = volume.get("UsageData")
    links, size = "N/A", "N/A"
    if isinstance(usage, dict):
        from corten.base.human import human_size

        links, size = str(usage.get("RefCount", 0)), human_size(usage.get("Size") or 0)
    return {
        "Availability": "N/A", "Driver": str(volume.get("Driver", "")), "Group": "N/A", "Label": label_of(labels),
        "Labels": joined_labels(labels), "Links": links, "Mountpoint": str(volume.get("Mountpoint", "")),
        "Name": str(volume.get("Name", "")), "Scope": str(volume.get("Scope", "")), "Size": size, "Status": "N/A",
    }


def ls(cli: Cli, values: Values) -> None:
    """`corten volume ls`. GET /volumes."""
    form = values.text("format") or config_format(cli, "volumesFormat", values)
    found = cli.client.call("GET", "/volumes", filters.query(values.many("filter")))
    volumes = (found.get("Volumes") or []) if isinstance(found, dict) else []
    rows = [row_of(one) for one in sorted(volumes, key=lambda one: natural(str(one.get("Name", ""))))]
    Listing("*formatter.volumeContext", HEADERS, ("Driver", "Name"), "Name").show(rows, form, values.flag("quiet"))


def natural(text: str) -> list[tuple[int, int, str]]:
    """A key to sort names with numbers in them: `v2` before `v10`."""
    parts: list[tuple[int, int, str]] = []
    at = 0
    while at < len(text):
        end = at
        digits = text[at] in "0123456789"
        while end < len(text) and (text[end] in "0123456789") == digits:
            end += 1
        piece = text[at:end]
        parts.append((0, int(piece), piece) if digits and len(piece) < 20 else (1, 0, piece))
        at = end
    return parts


def create(cli: Cli, values: Values) -> None:
    """`corten volume create [NAME]`. POST /volumes/create."""
    for name in _CLUSTER:
        if values.has(name):
            raise Failure(f"--{name} is not supported: corten has no cluster volumes")
    body: dict[str, object] = {"Driver": values.text("driver")}
    for flag, key in (("opt", "DriverOpts"), ("label", "Labels")):
        if values.many(flag):
            body[key] = pairs(values.many(flag))
    given = values.rest[0] if values.rest else values.text("name")
    if given:
        body["Name"] = given
    found = cli.client.call("POST", "/volumes/create", None, body)
    cli.out(str(found["Name"]) if isinstance(found, dict) else "")


def rm(cli: Cli, values: Values) -> None:
    """`corten volume rm NAME…`. DELETE /volumes/{name}."""
    query = [("force", "1")] if values.flag("force") else []
    failures = []
    for name in values.rest:
        try:
            cli.client.call("DELETE", f"/volumes/{quote(name)}", query)
        except NotConnected:
            raise
        except ApiError as error:
            failures.append(error.text)
            continue
        cli.out(name)
    if failures:
        raise Failure("\n".join(failures))
