"""Old clients of a rewritten service: their paths, queries, headers and JSON still work, and are counted."""

import json

from gateway_world import Backend


def shop(world, **more):
    backend = Backend(lambda asked: (200, {"Content-Type": "application/json"}, json.dumps({
        "line": asked.line, "headers": asked.headers, "customerId": 7, "lines": [{"unitPrice": 3, "title": "a \"customer\": x"}],
        "got": asked.body and json.loads(asked.body)}).encode()))
    world.applied({"kind": "Api", "name": "orders", "routes": [{"path": "/orders"}], "backends": [{"address": backend.address}]}, *more.get("documents", ()))
    return backend


def test_an_old_api_is_translated_told_and_counted(world):
    old = {"kind": "Version", "name": "v1", "api": "orders", "path": "/v1", "renameQuery": {"cust": "customer"},
           "renameHeaders": {"X-Client": "X-App"}, "deprecated": "2026-01-01", "sunset": "2027-06-30", "link": "https://docs.example/v2",
           "fields": {"request": {"client": "customerId", "items[].price": "unitPrice"},
                      "response": {"customerId": "client", "lines": "items", "lines[].unitPrice": "price"}}}
    with shop(world, documents=[old]):
        body = json.dumps({"client": 5, "items": [{"price": 1, "client": "not this"}, {"price": 2}], "note": "{\"client\": [}"})
        answer = world.until(200, "/v1/orders/9?cust=5&x=cust", "-H", "X-Client: app/1", "-H", "Content-Type: application/json", "-d", body)
        seen = json.loads(answer.text)
        assert seen["line"] == "POST /orders/9?customer=5&x=cust"
        assert seen["headers"]["x-app"] == "app/1" and "x-client" not in seen["headers"]
        assert seen["got"] == {"customerId": 5, "items": [{"unitPrice": 1, "client": "not this"}, {"unitPrice": 2}], "note": "{\"client\": [}"}
        assert seen["client"] == 7 and seen["items"] == [{"price": 3, "title": "a \"customer\": x"}] and "customerId" not in seen
        assert answer.headers["deprecation"] == "@1767225600" and answer.headers["sunset"] == "Wed, 30 Jun 2027 00:00:00 GMT"
        assert answer.headers["link"] == '<https://docs.example/v2>; rel="deprecation"'
        new = world.curl("/orders/9")
        assert "deprecation" not in new.headers and json.loads(new.text)["customerId"] == 7
        assert [world.curl("/v1/orders", "-d", text, "-H", "Content-Type: application/json").status
                for text in ("", "{", '"', "[" * 500)][:1] == [200]
        assert world.curl("/v1/ordersx").status == 404
        wait = world.cli("gateway", "test", "http://any/v1/orders")  # its audit line is there when it returns
        assert wait.returncode == 0
        listed = world.cli("gateway", "versions", "--format", "json").stdout
        found = json.loads(listed)
        assert (found["Name"], found["Api"], found["State"]) == ("v1", "orders", "deprecated") and found["Requests"] >= 2
        assert "127.0.0.1" in found["Callers"]
        world.applied({**old, "off": True})
        gone = world.until(410, "/v1/orders")
        assert "switched off; see https://docs.example/v2" in gone.text and "sunset" in gone.headers
        assert world.curl("/orders").status == 200


def test_versions_by_header_query_and_old_paths(world):
    documents = [
        {"kind": "Version", "name": "accept", "api": "orders", "headers": {"Accept": "application/vnd.shop.v1+json"},
         "fields": {"response": {"customerId": "by-accept"}}},
        {"kind": "Version", "name": "query", "api": "orders", "query": {"version": "1"}, "fields": {"response": {"customerId": "by-query"}}},
        {"kind": "Version", "name": "old", "api": "orders", "exact": "/getOrders.do", "toPath": "/orders/all"},
        {"kind": "Version", "name": "tree", "api": "orders", "path": "/legacy", "toPath": "/orders/archive"},
    ]
    with shop(world, documents=documents):
        assert "by-accept" in world.until(200, "/orders", "-H", "Accept: application/vnd.shop.v1+json").text
        assert "by-query" in world.until(200, "/orders?version=1").text
        assert "customerId" in world.until(200, "/orders?version=2").text
        assert json.loads(world.until(200, "/getOrders.do?a=b").text)["line"] == "GET /orders/all?a=b"
        assert json.loads(world.until(200, "/legacy/2020/3").text)["line"] == "GET /orders/archive/2020/3"
        assert "old" in world.cli("gateway", "explain", "http://any/getOrders.do").stdout
    assert world.apply({"kind": "Version", "name": "x", "api": "nobody", "path": "/v"}).status == 404
    for wrong, text in (({}, "nothing tells it from the Api"), ({"exact": "/a"}, "exact needs toPath"), ({"path": "/a", "toPath": "/nowhere"}, "no route of orders takes"),
                        ({"path": "/a", "sunset": "2027-02-31"}, "is no day")):
        answer = world.apply({"kind": "Version", "name": "x", "api": "orders", **wrong})
        assert answer.status == 400 and text in answer.message, answer.body
    answer = world.api("DELETE", "/corten/v1/gateway/documents/Api/orders")
    assert answer.status == 409 and "in use by Version/accept, Version/old" in answer.message
