"""Builds that files describe: docker buildx bake and docker compose, with a registry, and all that their files can ask."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from registry_server import running_registry

FETCH = Path(__file__).with_name("fetch_plugin.sh")


@pytest.fixture(scope="module")
def compose(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compose")
    done = subprocess.run(["bash", FETCH, folder], capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    program = folder / "docker-compose"
    if done.returncode or subprocess.run([program, "version"], capture_output=True, check=False).returncode:
        pytest.skip(f"machine: Debian's docker-compose cannot be had or run here: {done.stderr[-300:]}")
    return program


def test_a_file_of_targets(client, tmp_path):
    (tmp_path / "more").mkdir()
    (tmp_path / "more/file").write_text("more\n")
    client.write(data="data\n")
    with running_registry() as registry:
        inline = ("FROM lower AS low\nFROM busybox\nARG A\nCOPY --from=low /low /low\nCOPY --from=more file /file\nCOPY --from=there /bin/true /tool\n"
                  "RUN --mount=type=secret,id=t cat /run/secrets/t | wc -c >/secret\n"
                  "RUN echo $A >/a; ulimit -n >/n; df -k /dev/shm | tail -1 | awk '{print $2}' >/shm; grep -c elsewhere /etc/hosts >/h\n")
        client.write(**{"bake.json": json.dumps({"group": {"default": {"targets": ["app", "many"]}}, "target": {
            "lower": {"dockerfile-inline": "FROM busybox AS first\nRUN echo low >/low\nFROM scratch\nCOPY --from=first /low /low\n",
                      "platforms": ["linux/amd64"]},
            "app": {"dockerfile-inline": inline, "contexts": {"lower": "target:lower", "more": str(tmp_path / "more"),
                                                              "there": "docker-image://busybox"},
                    "args": {"A": "given"}, "tags": [f"{registry.host}/team/app:1", f"{registry.host}/team/app:2"],
                    "secret": ["id=t,env=TOKEN"], "ulimits": ["nofile=321:654"], "shm-size": "3m", "extra-hosts": {"elsewhere": "192.0.2.7"},
                    "labels": {"l": "1"}, "annotations": ["manifest:a=b"], "attest": ["type=provenance,mode=max"],
                    "cache-to": [f"type=registry,ref={registry.host}/team/cache,mode=max"], "output": ["type=registry"]},
            "many": {"dockerfile-inline": "FROM scratch\nARG TARGETARCH\nCOPY data /$TARGETARCH\n", "platforms": ["linux/amd64", "linux/arm64"],
                     "tags": [f"{registry.host}/team/many:1"], "output": ["type=registry"]}}})})
        client.bake("-f", "bake.json", "--allow=fs.read=*", "--metadata-file", "meta.json")
        index, _ = registry.get_manifest("team/app", "2")
        assert [entry["platform"]["os"] for entry in index["manifests"]] == ["linux", "unknown"]
        assert registry.get_manifest("team/app", index["manifests"][0]["digest"])[0]["annotations"] == {"a": "b"}
        many, _ = registry.get_manifest("team/many", "1")
        assert [entry["platform"]["architecture"] for entry in many["manifests"]].count("arm64") == 1
        meta = json.loads((client.context / "meta.json").read_text())
        assert meta["app"]["containerimage.digest"] and meta["many"]["image.name"].endswith("team/many:1")
        client.engine.docker("rmi", f"{registry.host}/team/app:1", f"{registry.host}/team/app:2")
        client.engine.docker("builder", "prune", "-af")
        client.engine.docker("pull", f"{registry.host}/team/app:1")
        shown = client.run(f"{registry.host}/team/app:1", "cat", "/low", "/file", "/secret", "/a", "/n", "/shm", "/h").split()
        assert shown == ["low", "more", "20", "given", "321", "3072", "1"]


def test_targets_of_several_platforms_build_on_each_other(client):
    client.write(data="data\n", **{"bake.json": json.dumps({"target": {
        "base": {"dockerfile-inline": "FROM scratch\nARG TARGETARCH\nCOPY data /base-$TARGETARCH\n", "platforms": ["linux/amd64", "linux/arm64"]},
        "default": {"dockerfile-inline": "FROM base\nCOPY data /own\n", "contexts": {"base": "target:base"},
                    "platforms": ["linux/amd64", "linux/arm64"], "output": ["type=local,dest=out"]}}})})
    client.bake("-f", "bake.json", "--allow=fs.write=*")
    found = sorted(str(path.relative_to(client.context / "out")) for path in (client.context / "out").rglob("*-*"))
    assert found == ["linux_amd64/base-amd64", "linux_arm64/base-arm64"]


# compose's own builder does not tell the engine of shm_size, bake does
@pytest.mark.parametrize(("builder", "shm"), [("bake", "3072"), ("alone", "65536")])
def test_services_that_are_built(client, compose, tmp_path, builder, shm):
    (tmp_path / "more").mkdir()
    (tmp_path / "more/file").write_text("more\n")
    client.write(data="data\n", token="hidden\n")
    with running_registry() as registry:
        inline = ("FROM base\nARG A\nCOPY --from=more file /file\nRUN --mount=type=secret,id=tok wc -c </run/secrets/tok >/secret\n"
                  "RUN echo $A >/a; ulimit -n >/n; df -k /dev/shm | tail -1 | awk '{print $2}' >/shm; grep -c elsewhere /etc/hosts >/h\n").replace("$", "$$")
        client.write(**{"compose.json": json.dumps({"name": f"built{builder}", "services": {"app": {
            "image": f"{registry.host}/team/{builder}:1", "command": ["cat", "/file", "/secret", "/a", "/n", "/shm", "/h"],
            "build": {"context": ".", "dockerfile_inline": inline, "args": {"A": "given"}, "labels": {"l": "1"},
                      "additional_contexts": {"more": str(tmp_path / "more"), "base": "docker-image://busybox"},
                      "secrets": [{"source": "tok"}], "ulimits": {"nofile": {"soft": 321, "hard": 654}}, "shm_size": "3m",
                      "extra_hosts": ["elsewhere=192.0.2.7"], "tags": [f"{registry.host}/team/{builder}:2"], "network": "default",
                      "cache_from": [f"type=registry,ref={registry.host}/team/cache"], "platforms": ["linux/amd64"]}}},
            "secrets": {"tok": {"file": "./token"}}})})
        plugins = tmp_path / "config/cli-plugins"
        plugins.mkdir(parents=True)
        (plugins / "docker-buildx").symlink_to(client.plugin)
        environment = {**client.environment, "COMPOSE_BAKE": "true" if builder == "bake" else "false", "COMPOSE_PROGRESS": "plain"}

        def run(*words):
            done = subprocess.run([compose, "-f", "compose.json", *words], cwd=client.context, env=environment, capture_output=True,
                                  text=True, stdin=subprocess.DEVNULL, timeout=200, check=False)
            assert done.returncode == 0, done.stderr[-3000:]
            return done.stdout

        run("build")
        assert run("run", "--rm", "-T", "app").split() == ["more", "7", "given", "321", shm, "1"]
        run("build", "--push")
        pushed, _ = registry.get_manifest(f"team/{builder}", "2")
        assert pushed.get("manifests") or pushed["config"]
        run("down", "--rmi", "all")
    assert os.path.exists(client.context / "token")
