"""The build cache as docker buildx and the API show and prune it; what a front end answers besides building."""

import json
import subprocess

import pytest
from registry_server import running_registry

from corten.api.buildkit.control import _filters as filters_of

TEXT = "FROM busybox\nRUN dd if=/dev/zero of=/big bs=1k count=300\nRUN --mount=type=cache,target=/c echo kept >/c/f\nRUN echo small >/s\n"


def buildx(client, *words):
    done = subprocess.run([client.plugin, *words], env=client.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=280)
    return done.stdout + done.stderr


def records(client):
    return {one["Description"]: one for one in client.engine.api("GET", "/system/df?type=build-cache").json["BuildCache"]}


def find(found, part):
    return next(one for text, one in found.items() if part in text)


def test_what_it_holds_and_what_of_it_goes(client):
    client.engine.api("POST", "/build/prune?all=1")
    client.build(TEXT, "-t", "named:1")
    client.build(TEXT, "-t", "named:1")
    found = records(client)
    big = find(found, "of=/big")
    assert big["Size"] >= 300 << 10 and big["UsageCount"] == 1 and big["Shared"] and not big["InUse"]
    assert find(found, "cached mount")["Type"] == "exec.cachemount"
    told = buildx(client, "du", "--verbose")
    assert "of=/big" in told and "exec.cachemount" in told
    buildx(client, "prune", "--force", "--filter", "type=exec.cachemount")
    assert not [text for text in records(client) if "cached mount" in text]
    buildx(client, "prune", "--force")  # what an image with a name stands on stays
    assert find(records(client), "of=/big")
    client.engine.docker("rmi", "named:1")
    buildx(client, "prune", "--force", "--all")
    assert records(client) == {}


def test_the_least_recently_used_goes_first(client):
    client.engine.api("POST", "/build/prune?all=1")
    one, two = ("FROM busybox\nRUN dd if=/dev/zero of=/" + name + " bs=1k count=300\n" for name in ("one", "two"))
    client.build(one)
    client.build(two)
    client.build(one)
    client.engine.api("POST", f"/build/prune?reserved-space={400 << 10}")
    found = records(client)
    assert [text for text in found if "of=/one" in text] and not [text for text in found if "of=/two" in text]
    assert client.engine.api("POST", '/build/prune?filters={"colour":["blue"]}').status == 400


def test_checks_outline_and_targets(client):
    client.write(Dockerfile="FROM busybox AS Base\n# VERSION of it\nARG VERSION=1\nRUN true\nFROM Base AS app\nRUN true\n")
    told = buildx(client, "build", "--check", str(client.context))
    assert "StageNameCasing" in told
    outline = json.JSONDecoder().raw_decode(buildx(client, "build", "--call=outline,format=json", "--target=base", str(client.context)))[0]
    assert outline["args"][0]["name"] == "VERSION"
    told = buildx(client, "build", "--call=targets", str(client.context))
    assert "app" in told and "base" in told.lower()


@pytest.mark.parametrize("kind", ["local", "registry", "inline"])
def test_the_cache_goes_elsewhere_and_comes_back(client, tmp_path, kind):
    text = "FROM busybox AS one\nRUN cat /proc/sys/kernel/random/uuid >/one\nFROM busybox\nCOPY --from=one /one /\nRUN cat /proc/sys/kernel/random/uuid >/two\n"
    if kind == "inline":  # has the steps of the image itself
        text = text.partition("FROM busybox\nCOPY")[0] + "RUN cp /one /two\n"
    with running_registry() as registry:
        name = f"{registry.host}/team/cache:1"
        flags = {"local": (f"type=local,dest={tmp_path}/c,mode=max", f"type=local,src={tmp_path}/c"),
                 "registry": (f"type=registry,ref={name},mode=max", f"type=registry,ref={name}"),
                 "inline": ("type=inline", f"type=registry,ref={registry.host}/team/app:1")}[kind]
        client.build(text, "-t", f"{registry.host}/team/app:1", "--push", "--cache-to", flags[0])
        made = client.run(f"{registry.host}/team/app:1", "cat", "/two")
        client.engine.docker("rmi", f"{registry.host}/team/app:1")
        client.engine.docker("image", "prune", "-f")
        client.engine.api("POST", "/build/prune?all=1")
        told = client.build(text, "-t", "back:1", "--cache-from", flags[1])
        assert client.run("back:1", "cat", "/two") == made
        assert told.count("CACHED") == (3 if kind != "inline" else 2)


def test_other_caches_are_refused_by_name(client):
    assert "cache exporter azblob is not there" in client.build("FROM busybox\nRUN echo begun\n", "--cache-to", "type=azblob,name=x", code=1)


def test_filters_as_clients_write_them():
    assert filters_of(["", "id==a,inuse", "type~=b"]) == {"id": ["a"], "inuse": ["true"], "type": ["b"]}
