"""`corten images`, `history`, `tag`, `rmi`: what images there are. Moving them is `transfer`'s work."""

from corten.base.human import human_size
from corten.cli import clock, filters
from corten.cli.args import Values
from corten.cli.client import quote
from corten.cli.containers import config_format
from corten.cli.errors import ApiError, Failure, NotConnected
from corten.cli.main import Cli
from corten.cli.reference import check, familiar, full_name, short_id, split_name
from corten.cli.table import Listing, Row, ellipsis

NONE = "<none>"

HEADERS = {
    "ID": "IMAGE ID", "Repository": "REPOSITORY", "Tag": "TAG", "Digest": "DIGEST", "CreatedSince": "CREATED",
    "CreatedAt": "CREATED AT", "Size": "SIZE", "Containers": "CONTAINERS", "VirtualSize": "SIZE",
    "SharedSize": "SHARED SIZE", "UniqueSize": "UNIQUE SIZE",
}


def _names(image: dict[str, object], digests: bool) -> list[tuple[str, str, str]]:
    """(repository, tag, digest) of each line that an image takes."""
    tags = [str(one) for one in image.get("RepoTags") or [] if one != f"{NONE}:{NONE}"]  # type: ignore[attr-defined]
    by_digest = [str(one) for one in image.get("RepoDigests") or [] if one != f"{NONE}@{NONE}"]  # type: ignore[attr-defined]
    rows: list[tuple[str, str, str]] = []
    if not tags and not by_digest:
        return [(NONE, NONE, NONE)]
    known: dict[str, list[str]] = {}
    for text in by_digest:
        name, _, digest = split_name(text)
        known.setdefault(familiar(name), []).append(digest)
    tagged = set()
    for text in tags:
        name, tag, _ = split_name(text)
        name = familiar(name)
        tagged.add(name)
        found = known.get(name) if digests else None
        rows += [(name, tag, digest) for digest in found] if found else [(name, tag, NONE)]
    for name, found in known.items():
        if name not in tagged:
            rows += [(name, NONE, digest) for digest in (found if digests else found[:1])]
    return rows


def _size(image: dict[str, object], name: str, digits: int = 3) -> str:
    value = image.get(name)
    return human_size(value, digits) if isinstance(value, int) and value >= 0 else "N/A"


def rows_of(image: dict[str, object], trunc: bool, digests: bool) -> list[Row]:
    """The lines that an image of the API's list takes."""
    created = image.get("Created")
    created = created if isinstance(created, int) else 0
    image_id = str(image.get("Id", ""))
    containers = image.get("Containers", -1)
    return [{
        "Containers": "N/A" if containers == -1 else str(containers),
        "CreatedAt": clock.go_time(created),
        "CreatedSince": clock.ago(created) if created > 0 else "N/A",
        "Digest": digest,
        "ID": short_id(image_id) if trunc else image_id,
        "Repository": name,
        "SharedSize": _size(image, "SharedSize"),
        "Size": _size(image, "Size"),
        "Tag": tag,
        "UniqueSize": "N/A",
        "VirtualSize": _size(image, "Size", 4),
    } for name, tag, digest in _names(image, digests)]


def ls(cli: Cli, values: Values) -> None:
    """`corten images [REPOSITORY[:TAG]]`. GET /images/json."""
    form = values.text("format") or config_format(cli, "imagesFormat", values)
    if values.flag("tree"):
        from corten.cli.image_tree import show

        show(cli, values)
        return
    wanted = values.many("filter")
    if values.rest:
        wanted = [*wanted, f"reference={values.rest[0]}"]
    query = [("all", "1")] if values.flag("all") else []
    found = cli.client.call("GET", "/images/json", query + filters.query(wanted))
    digests = values.flag("digests")
    trunc = not values.flag("no-trunc")
    images = [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []
    images.sort(key=lambda one: -(one.get("Created") or 0))
    rows = [row for image in images for row in rows_of(image, trunc, digests or ".Digest" in form)]
    columns = ("Repository", "Tag", *(("Digest",) if digests else ()), "ID", "CreatedSince", "Size")
    if values.flag("quiet") and form in ("", "table"):
        rows = [row for image in images for row in rows_of(image, trunc, False)]
    Listing("*formatter.imageContext", HEADERS, columns).show(rows, form, values.flag("quiet"))


def history(cli: Cli, values: Values) -> None:
    """`corten history IMAGE`. GET /images/{name}/history."""
    query = _platform(values)
    found = cli.client.call("GET", f"/images/{quote(values.rest[0], b'/:@')}/history", query)
    trunc, human = not values.flag("no-trunc"), not values.has("human") or values.flag("human")
    rows: list[Row] = []
    for one in found if isinstance(found, list) else []:
        created = one.get("Created") or 0
        text = str(one.get("CreatedBy", "")).replace("\t", " ")
        if trunc:
            text = ellipsis(text, 45)
        rows.append({
            "Comment": str(one.get("Comment", "")),
            "CreatedAt": clock.go_time(created, False).replace(" ", "T") + "Z" if created else "",
            "CreatedBy": text,
            "CreatedSince": (clock.ago(created) if human else _rfc3339(created)) if created else "N/A",
            "ID": short_id(str(one.get("Id", ""))) if trunc else str(one.get("Id", "")),
            "Size": human_size(one.get("Size") or 0, 3) if human else str(one.get("Size") or 0),
        })
    headers = {"ID": "IMAGE", "CreatedSince": "CREATED" if human else "CREATED AT", "CreatedAt": "CREATED AT",
               "CreatedBy": "CREATED BY", "Size": "SIZE", "Comment": "COMMENT"}
    Listing("*formatter.historyContext", headers, ("ID", "CreatedSince", "CreatedBy", "Size", "Comment")).show(
        rows, values.text("format"), values.flag("quiet"))


def _rfc3339(seconds: float) -> str:
    import time

    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def _platform(values: Values) -> list[tuple[str, str]]:
    """`--platform os/arch` as the JSON that the image routes take."""
    text = values.text("platform")
    return [("platform", platform_json(text))] if text else []


def platform_json(text: str) -> str:
    """`linux/arm/v7` as the API's platform object."""
    from corten.base import jsonio

    system, _, rest = text.partition("/")
    architecture, _, variant = rest.partition("/")
    return jsonio.dumps({"architecture": architecture, "os": system, **({"variant": variant} if variant else {})})


def tag(cli: Cli, values: Values) -> None:
    """`corten tag SOURCE TARGET`. POST /images/{name}/tag."""
    source, target = values.rest
    for text in (source, target):
        try:
            check(text)
        except Failure as failure:
            raise Failure(f'Error parsing reference: "{text}" is not a valid repository/tag: {failure.text}') from None
    name, label, digest = split_name(target)
    if digest:
        raise Failure("refusing to create a tag with a digest reference")
    query = [("repo", full_name(name)), ("tag", label or "latest")]
    cli.client.call("POST", f"/images/{quote(source, b'/:@')}/tag", query)


def rm(cli: Cli, values: Values) -> int:
    """`corten rmi IMAGE…`. DELETE /images/{name}."""
    query = [("force", "1")] if values.flag("force") else []
    if values.flag("no-prune"):
        query.append(("noprune", "1"))
    query += [("platforms", platform_json(text)) for text in values.many("platform")]
    failures: list[str] = []
    fatal = False
    for name in values.rest:
        try:
            found = cli.client.call("DELETE", f"/images/{quote(name, b'/:@')}", query)
        except NotConnected:
            raise
        except ApiError as error:
            fatal = fatal or error.status != 404
            failures.append(error.text)
            continue
        for one in found if isinstance(found, list) else []:
            cli.out(f"Deleted: {one['Deleted']}" if one.get("Deleted") else f"Untagged: {one.get('Untagged', '')}")
    if failures:
        text = "\n".join(failures)
        if not values.flag("force") or fatal:
            raise Failure(text)
        cli.error(text)
    return 0


