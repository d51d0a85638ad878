"""Searching the hub: what `docker search` asks for. Source: GET /v1/search of docker.io's index."""

import urllib.parse
from typing import Any

from corten.base.errors import Internal, InvalidArgument, Unsupported
from corten.base.files import parse_json
from corten.oci.reference import DEFAULT_DOMAIN
from corten.registry.transport import Transport

_LIMIT_BYTES = 4 << 20
_FILTERS = ("is-automated", "is-official", "stars")

Found = dict[str, Any]


async def search(transport: Transport, term: str, limit: int, filters: dict[str, list[str]]) -> list[Found]:
    """The answer to GET /images/search. Raises InvalidArgument, Unsupported (not the hub), Internal."""
    if limit == 0:
        limit = 25
    if not 1 <= limit <= 100:
        raise InvalidArgument(f"limit {limit} is outside the range of [1, 100]")
    for key in filters:
        if key not in _FILTERS:
            raise InvalidArgument(f"invalid filter '{key}'")
    first = term.partition("/")[0]
    if "/" in term and ("." in first or ":" in first or first == "localhost") and first != DEFAULT_DOMAIN:
        raise Unsupported(f"search at {first} is not supported: only docker.io can be searched")
    query = urllib.parse.urlencode({"q": term.removeprefix(f"{DEFAULT_DOMAIN}/"), "n": limit})
    url = f"{transport.settings.search_url}?{query}"
    status, _, body = await transport.small("GET", url, {"X-Docker-Token": "true"}, None, _LIMIT_BYTES)
    if status != 200:
        raise Internal(f"Unexpected status code {status}")
    return [item for item in _results(body) if _passes(item, filters)][:limit]


def _results(body: bytes) -> list[Found]:
    found = parse_json(body, limit_bytes=_LIMIT_BYTES)
    items = found.get("results") if isinstance(found, dict) else None
    return [_result(item) for item in (items if isinstance(items, list) else ()) if isinstance(item, dict)]


def _result(item: Found) -> Found:
    stars, name, text = item.get("star_count"), item.get("name"), item.get("description")
    return {
        "star_count": stars if isinstance(stars, int) else 0, "is_official": item.get("is_official") is True,
        "name": name if isinstance(name, str) else "", "is_automated": False,
        "description": text if isinstance(text, str) else "",
    }


def _passes(item: Found, filters: dict[str, list[str]]) -> bool:
    for value in filters.get("is-official", ()):
        if value.lower() in ("true", "1") and not item["is_official"]:
            return False
        if value.lower() in ("false", "0") and item["is_official"]:
            return False
    if any(value.lower() in ("true", "1") for value in filters.get("is-automated", ())):
        return False
    stars = [int(value) for value in filters.get("stars", ()) if value.isascii() and value.isdigit()]
    return all(item["star_count"] >= least for least in stars)
