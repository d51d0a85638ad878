"""Joining and leaving the gateway: by labels, by command, by documents; what is wrong is told to who registers."""

from collections import Counter

import pytest
from daemon_process import DOCKER
from gateway_world import wait_until


def api(name, path="/", **more):
    return {"kind": "Api", "name": name, "routes": [{"path": path}], **more}


def test_a_container_joins_by_labels_and_leaves_by_stopping(world):
    shop = world.echo("orders", {"corten.gateway.path": "/orders"})
    answer = world.until(200, "/orders/5?a=b")
    assert answer.echo["name"] == "orders"
    assert answer.echo["line"] == "GET /orders/5?a=b HTTP/1.1"
    nothing = world.curl("/ordersx")
    assert nothing.status == 404 and "no Api is registered" in nothing.text
    world.api("POST", f"/containers/{shop}/stop?t=0")
    assert world.status()["Routes"] == 0
    assert not world.status()["Running"]


@pytest.mark.skipif(DOCKER is None, reason="needs the docker CLI")
def test_docker_run_with_labels_and_two_replicas(world):
    for number in (1, 2):
        world.echo(f"r{number}", {"corten.gateway.path": "/r", "corten.gateway.name": "r"})
    answers = set()
    wait_until(lambda: answers.add(world.until(200, "/r").echo["name"]) or answers == {"r1", "r2"}, 90)  # both serve by then
    done = world.docker("run", "-d", "--label", "corten.gateway.path=/r", "--name", "other", "--expose", "8080", "busybox", "sleep", "1000")
    assert done.returncode != 0
    assert "is taken by labels of container r1" in done.stderr
    done = world.docker("run", "-d", "--label", "corten.gateway.path=/q", "--label", "corten.gateway.name=r", "--expose", "8080",
                        "--name", "differs", "busybox", "sleep", "1000")
    assert "its label corten.gateway.path is not that of container r1, which is of the same Api r" in done.stderr
    assert set(Counter(world.until(200, "/r").echo["name"] for _ in range(20))) == {"r1", "r2"}


@pytest.mark.parametrize(("labels", "text"), [
    ({"corten.gateway.pth": "/x"}, "the gateway knows no 'pth'"),
    ({"corten.gateway.path": "x"}, "Expected an absolute path - at `path`"),
    ({"corten.gateway.retry.attempts": "many"}, "label corten.gateway.retry.attempts: 'many' is not a number"),
])
def test_wrong_labels_are_an_error_of_create(world, labels, text):
    answer = world.api("POST", "/containers/create?name=wrong", {"Image": "busybox", "Labels": labels})
    assert answer.status == 400 and text in answer.message


def test_no_port_and_no_network_are_errors_of_start(world):
    for body, text in (({}, "exposes no port"), ({"ExposedPorts": {"1/tcp": {}, "2/tcp": {}}}, "exposes 1, 2"),
                       ({"HostConfig": {"NetworkMode": "none"}, "ExposedPorts": {"1/tcp": {}}}, "it has no network")):
        made = world.create("sleep", "1000", Labels={"corten.gateway.path": "/x"}, **body)
        answer = world.api("POST", f"/containers/{made}/start")
        assert answer.status == 400 and text in answer.message, answer.body
        assert world.inspect(made)["State"]["Status"] == "created"


def test_labels_of_an_image_register_nothing(world):
    made = world.create("true")
    world.api("POST", f"/commit?container={made}&repo=steering&changes=LABEL%20corten.gateway.path=/steered")
    started = world.create("sleep", "1000", Image="steering", ExposedPorts={"80/tcp": {}})
    assert "corten.gateway.path" not in world.inspect(started)["Config"]["Labels"]
    world.api("POST", f"/containers/{started}/start")
    assert world.status()["Routes"] == 0


def test_documents_are_all_or_none_and_conflicts_name_both(world):
    world.echo("one")
    said = world.applied(api("a", "/a", backends=[{"container": "one"}]), api("b", "/b", backends=[{"service": "one"}]))
    assert said == [{"Key": "Api/a", "Result": "created"}, {"Key": "Api/b", "Result": "created"}]
    world.until(200, "/a")
    refused = world.apply(api("c", "/c", backends=[{"container": "one"}]), api("d", "/b/", backends=[{"container": "one"}]))
    assert refused.status == 409
    assert "document Api/d: */b/ is taken by document Api/b" in refused.message
    assert world.curl("/c").status == 404
    assert world.apply(api("a", "/a", backends=[{"container": "one"}])).json[0]["Result"] == "unchanged"
    assert world.apply(api("e", "/e", backends=[{"container": "one"}], policies=["no"])).status == 404
    world.forget({"kind": "Api", "name": "a"})
    assert world.curl("/a").status == 404
    assert world.api("DELETE", "/corten/v1/gateway/documents/Api/a").status == 404


def test_an_api_without_a_running_backend_answers_503_and_comes_back(world):
    world.applied(api("late", "/late", backends=[{"container": "late"}]))
    assert world.curl("/late").status == 503
    late = world.echo("late")
    world.until(200, "/late")
    world.api("POST", f"/containers/{late}/kill")
    world.until(503, "/late")


def test_routes_by_host_path_header_method_query_and_weight(world):
    for name in ("v1", "v2", "beta", "writer", "shop"):
        world.echo(name)
    old, new = {"container": "v1", "weight": 80, "version": "1"}, {"container": "v2", "weight": 20, "version": "2"}
    world.applied(
        {"kind": "Api", "name": "items", "backends": [old, new], "routes": [
            {"path": "/items"},
            {"path": "/items", "headers": {"X-Beta": "yes"}, "backends": [{"container": "beta"}]},
            {"path": "/items", "query": {"beta": "*"}, "backends": [{"container": "beta"}]},
            {"path": "/items", "methods": ["POST", "PUT"], "backends": [{"container": "writer"}]},
            {"exact": "/items/top", "backends": [{"container": "beta"}]},
            {"regex": "/items/[0-9]+/photo", "backends": [{"container": "shop"}]},
            {"path": "/moved", "redirect": {"path": "/items", "code": 301}},
            {"path": "/hello", "respond": {"status": 200, "body": "hello"}},
        ]},
        api("shop", "/items", hosts=["shop.example", "*.shop.example"], backends=[{"container": "shop"}]),
    )
    seen = set()
    wait_until(lambda: seen.add(world.until(200, "/items").echo["name"]) or seen == {"v1", "v2"}, 90)  # both serve by then
    counts = Counter(world.until(200, "/items").echo["name"] for _ in range(60))
    assert counts["v1"] > counts["v2"] > 0
    for words, name in ((("/items", "-H", "X-Beta: yes"), "beta"), (("/items?beta=1",), "beta"), (("/items", "-XPUT"), "writer"),
                        (("/items/top",), "beta"), (("/items/77/photo",), "shop")):
        assert world.until(200, *words).echo["name"] == name, words
    assert world.until(200, "/items", host="shop.example").echo["name"] == "shop"
    assert world.until(200, "/items", host="eu.shop.example:8000").echo["name"] == "shop"
    assert world.curl("/hello", host="shop.example").text.strip() == "hello"  # routes of any host hold there too
    moved = world.curl("/moved?x=1")
    assert moved.status == 301 and moved.headers["location"].endswith("/items?x=1")


def test_yaml_by_apply_register_show_explain_and_unregister(world):
    world.echo("orders")
    text = """
kind: Policy
name: quick
timeout: 5s
---
kind: Api
name: orders
routes:
- path: /orders
  policies: [quick]
backends:
- container: orders
"""
    done = world.cli("apply", "-f", "-", "--dry-run", stdin=text)
    assert done.stdout == "Policy/quick created (dry run)\nApi/orders created (dry run)\n", done.stderr
    assert world.status()["Routes"] == 0
    assert world.cli("apply", "-f", "-", stdin=text).returncode == 0
    assert world.cli("apply", "-f", "-", stdin=text).stdout == "Policy/quick unchanged\nApi/orders unchanged\n"
    assert "orders#0   */orders   " in world.cli("gateway", "ls").stdout
    assert 'timeout: "5s"' in world.cli("gateway", "show", "orders").stdout
    said = world.cli("gateway", "explain", "http://any.example/orders/3").stdout
    assert "orders#0 (*/orders) takes it: document Api/orders" in said and "policies, later ones win: quick" in said
    assert "no route takes it: 404" in world.cli("gateway", "explain", "http://any.example/x").stdout
    done = world.cli("gateway", "unregister", "Policy/quick")
    assert done.returncode == 1 and "Policy/quick is in use by orders" in done.stderr
    done = world.cli("gateway", "register", "users", "--path", "/users", "--container", "orders", "--set", "rewrite.path=/")
    assert done.stdout == "Api/users created\n", done.stderr
    assert world.until(200, "/users/1").echo["line"] == "GET /1 HTTP/1.1"
    done = world.cli("gateway", "test", "http://any.example/users/7")
    assert done.returncode == 0 and done.stdout.startswith("200\n") and "route: users#0" in done.stdout, done.stdout + done.stderr
    assert world.cli("gateway", "unregister", "users").stdout == "users\n"
    assert world.curl("/users").status == 404
    assert "no such Api: users" in world.cli("gateway", "show", "users").stderr


@pytest.mark.parametrize(("text", "said"), [
    ("kind: Api\nname: x\nname: y\n", "invalid YAML: line 3: a name that is there twice"),
    ("kind: &a Api\nname: *a\n", "anchors and aliases are not used here"),
    ("kind: Api\nname: !!python/object:os.system x\n", "invalid YAML"),
    ("kind: Apy\nname: x\n", "kind is 'Apy': must be one of Api, Policy, Version"),
    ("kind: Api\nname: x\nrouts: []\n", "Api x: Object contains unknown field `routs`"),
    ('{"kind":"Api","name":"x","name":"y"}', "duplicate key"),
    ("", "there is no document"),
])
def test_documents_that_make_no_sense(world, text, said):
    done = world.cli("apply", "-f", "-", stdin=text)
    assert done.returncode == 1 and said in done.stderr


def test_what_envoy_refuses_is_told_and_nothing_changes(world):
    world.echo("one")
    world.applied(api("good", "/good", backends=[{"container": "one"}]))
    world.until(200, "/good")
    bad = {"kind": "Api", "name": "bad", "routes": [{"regex": "/(", "backends": [{"container": "one"}]}]}
    answer = world.apply(bad)
    assert answer.status == 400 and "Envoy refuses this: missing ): /(" in answer.message, answer.body
    assert world.curl("/good").status == 200
    assert [one["name"] for one in world.api("GET", "/corten/v1/gateway/documents").json] == ["good"]
    world.applied(api("more", "/more", backends=[{"container": "one"}]))
    assert world.until(200, "/more").status == 200
