"""Every filter that the Engine API's texts name is taken, and chooses; any other is refused by name."""

import json
from urllib.parse import quote

import pytest

NAMED = {
    "/containers/json": {
        "ancestor": "busybox", "before": "one", "expose": "81/tcp", "exited": "3", "health": "none", "id": "{id}",
        "isolation": "default", "is-task": "false", "label": "filtered=1", "name": "one", "network": "bridge", "publish": "81",
        "since": "zero", "status": "exited", "volume": "filtered-volume",
    },
    "/images/json": {"before": "busybox", "dangling": "true", "label": "a=b", "reference": "busy*", "since": "busybox", "until": "1h"},
    "/networks": {"dangling": "false", "driver": "bridge", "id": "x", "label": "a=b", "name": "bridge", "scope": "local",
                  "type": "builtin"},
    "/volumes": {"dangling": "false", "driver": "local", "label": "a=b", "name": "filtered-volume"},
    "/events?until=1": {
        "config": "x", "container": "one", "daemon": "x", "event": "die", "image": "busybox", "label": "a=b", "network": "bridge",
        "node": "x", "plugin": "x", "scope": "local", "secret": "x", "service": "x", "type": "container", "volume": "x",
    },
}
PRUNES = {"/containers/prune": ("until", "label", "label!"), "/images/prune": ("dangling", "until", "label", "label!"),
          "/networks/prune": ("until", "label", "label!"), "/volumes/prune": ("all", "label", "label!"),
          "/build/prune": ("until", "unused-for", "id")}
VALUES = {"until": "24h", "unused-for": "24h", "dangling": "true", "all": "false"}


def ask(engine, method, url, **filters):
    mark = "&" if "?" in url else "?"
    return engine.api(method, f"{url}{mark}all=1&filters={quote(json.dumps({key: [value] for key, value in filters.items()}))}")


@pytest.mark.parametrize(("url", "name"), [(url, name) for url, names in NAMED.items() for name in names])
def test_a_filter_is_known(engine, url, name):
    for each in ("zero", "one"):
        engine.create("true", name=each)
    value = NAMED[url][name].replace("{id}", engine.inspect("one")["Id"][:12])
    answer = ask(engine, "GET", url, **{name: value})
    assert answer.status == 200, answer.body


@pytest.mark.parametrize("url", [*NAMED])
def test_another_is_refused(engine, url):
    answer = ask(engine, "GET", url, nonsense="x")
    assert answer.status == 400 and "nonsense" in answer.message


@pytest.mark.parametrize(("url", "name"), [(url, name) for url, names in PRUNES.items() for name in names])
def test_a_prune_filter_is_known(engine, url, name):
    assert ask(engine, "POST", url, **{"label": "no.such.label", name: VALUES.get(name, "no.such.label")}).status == 200
    answer = ask(engine, "POST", url, nonsense="x")
    assert answer.status in (400, 501) and "nonsense" in answer.message


def test_each_chooses_the_one_it_means(engine):
    engine.create("true", name="other")
    one = engine.create("sh", "-c", "exit 3", name="one", Labels={"filtered": "1"}, ExposedPorts={"81/tcp": {}}, HostConfig={
        "Binds": ["filtered-volume:/v"], "PortBindings": {"81/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}]}})
    engine.api("POST", f"/containers/{one}/start")
    engine.wait(one)
    for name, value in (("id", one[:20]), ("name", "^one$"), ("label", "filtered=1"), ("exited", "3"), ("status", "exited"),
                        ("volume", "filtered-volume"), ("expose", "81/tcp"), ("publish", "81/tcp"), ("since", "other")):
        found = ask(engine, "GET", "/containers/json", **{name: value}).json
        assert [row["Id"] for row in found] == [one], name
    for name, value in (("before", "other"), ("status", "paused"), ("health", "healthy"), ("is-task", "true"),
                        ("ancestor", "nothing"), ("network", "nothing")):
        assert ask(engine, "GET", "/containers/json", **{name: value}).json == [], name
