"""The router, docker's operations, version negotiation and what older versions see."""

import pytest

from corten.api.request import Query
from corten.api.router import Route, Router
from corten.api.routes import OPERATIONS, SWARM_OPERATIONS, all_routes, build_router
from corten.api.versions import check_version, for_version, split_version
from corten.base.errors import InvalidArgument


async def nothing(request, engine):
    raise AssertionError


def router(*patterns):
    return Router(Route(*pattern.split(), nothing) for pattern in patterns)


@pytest.mark.parametrize(("method", "path", "pattern", "params"), [
    ("GET", "/images/json", "/images/json", {}),
    ("GET", "/images/a/json", "/images/{name:path}/json", {"name": "a"}),
    ("GET", "/images/localhost:5000/a/b:1/json", "/images/{name:path}/json", {"name": "localhost:5000/a/b:1"}),
    ("GET", "/images/json/json", "/images/{name:path}/json", {"name": "json"}),
    ("DELETE", "/images/a/b", "/images/{name:path}", {"name": "a/b"}),
    ("GET", "/containers/%2Fx/json", "/containers/{id}/json", {"id": "/x"}),
    ("POST", "/containers/create", "/containers/create", {}),
])
def test_match(method, path, pattern, params):
    found = router(
        "GET /images/json", "GET /images/{name:path}/json", "DELETE /images/{name:path}", "GET /containers/{id}/json",
        "POST /containers/create", "POST /containers/{id}/start",
    ).match(method, path)
    assert found is not None and (found[0].pattern, found[1]) == (pattern, params)


@pytest.mark.parametrize("path", [
    "", "x", "/", "//images/json", "/images/json/", "/images//json", "/images/", "/containers//json", "/containers/a",
    "/images/a//json", "/images/a//b/json",
])
def test_no_match(path):
    assert router("GET /images/json", "GET /images/{name:path}/json", "GET /containers/{id}/json").match("GET", path) is None


def test_every_operation_of_docker_is_routed():
    routes = build_router()
    lines = [line for line in (OPERATIONS + SWARM_OPERATIONS).split("\n") if line]
    assert len(lines) >= 108
    for line in lines:
        method, pattern = line.split()
        assert routes.match(method, pattern.replace("{", "").replace(":path}", "").replace("}", "")), line


def test_every_field_filter_names_a_route():
    from corten.api.versions import CHANGES

    keys = {route.key for route in all_routes()}
    assert {change.route for change in CHANGES} <= keys


@pytest.mark.parametrize(("path", "expected"), [
    ("/v1.43/info", ((1, 43), "/info")), ("/info", (None, "/info")), ("/volumes", (None, "/volumes")),
    ("/v1.43", (None, "/v1.43")), ("/v1/info", ((0, 0), "/info")), ("/v1.4.3/info", ((0, 0), "/info")),
])
def test_split_version(path, expected):
    assert split_version(path) == expected


@pytest.mark.parametrize(("version", "text"), [
    ((1, 60), "client version 1.60 is too new. Maximum supported API version is 1.51"),
    ((1, 23), "client version 1.23 is too old. Minimum supported API version is 1.24, please upgrade your client to "
              "a newer version"),
])
def test_versions_out_of_range(version, text):
    with pytest.raises(InvalidArgument) as failure:
        check_version(version)
    assert str(failure.value) == text


def test_older_clients_see_older_fields():
    inspect = {"NetworkSettings": {"Networks": {"bridge": {"DNSNames": ["a"], "GwPriority": 0, "IPAddress": "1.2.3.4"}}}}
    key = "GET /containers/{}/json"
    assert for_version(key, (1, 51), inspect) is inspect
    assert for_version(key, (1, 45), inspect)["NetworkSettings"]["Networks"]["bridge"] == {
        "DNSNames": ["a"], "IPAddress": "1.2.3.4"}
    assert for_version(key, (1, 43), inspect)["NetworkSettings"]["Networks"]["bridge"] == {"IPAddress": "1.2.3.4"}
    assert inspect["NetworkSettings"]["Networks"]["bridge"]["DNSNames"] == ["a"]
    assert for_version("GET /images/json", (1, 50), [{"Id": "x", "Containers": 2}]) == [{"Id": "x", "Containers": -1}]


@pytest.mark.parametrize(("text", "flag"), [
    ("a=1", True), ("a=true", True), ("a=False", False), ("a=0", False), ("a=none", False), ("a=", False), ("", False),
    ("a=x", True),
])
def test_flags(text, flag):
    assert Query(text).flag("a") is flag


def test_query_values():
    query = Query("t=a%20b&t=c+d&n=-5&e=")
    assert (query.all("t"), query.get("t"), query.number("n"), query.number("e", 7)) == (["a b", "c d"], "a b", -5, 7)
    with pytest.raises(InvalidArgument):
        Query("n=1_0").number("n")
    with pytest.raises(InvalidArgument):
        Query("&".join(["a=1"] * 2000))


@pytest.mark.parametrize("text", ['{"a":"b"}', '{"a":[1]}', "[]", "x", '{"a":{"b":1}}', '{"a":["x"],"a":["y"]}'])
def test_bad_filters(text):
    from urllib.parse import quote

    with pytest.raises(InvalidArgument, match="invalid filter"):
        Query("filters=" + quote(text)).filters()
