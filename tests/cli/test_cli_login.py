"""`corten login`, `logout` and the logins that pull and push send: config.json and credential helpers."""

import base64
import json
import os
import stat
import subprocess

import pytest
from corten_command import COMMAND
from daemon_process import DOCKER
from registry_server import layer, needs_registry, running_registry

pytestmark = needs_registry

HELPER = """#!/bin/sh
cd "$(dirname "$0")"
echo "$1" >>calls
case $1 in
store) cat >secret ;;
get) read key; [ "$key" = "$(cat for)" ] && [ -e secret ] && exec cat secret; echo "credentials not found in native keychain"; exit 1 ;;
erase) rm -f secret ;;
esac
"""


@pytest.fixture(scope="module")
def registry():
    with running_registry(users={"ann": "secret"}) as server:
        server.put_image("t/x", "v1", [layer({"a": b"1"})], {"Cmd": ["true"]})
        yield server


@pytest.fixture
def corten(engine, tmp_path):
    """Our command with a configuration folder of its own; `helper(name)` puts a credential helper on its path."""
    folder, programs = tmp_path / "config", tmp_path / "bin"
    folder.mkdir()
    programs.mkdir()

    def run(*words, stdin=""):
        environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "DOCKER_CONFIG": str(folder)}
        return subprocess.run(
            [*COMMAND, "-H", f"unix://{engine.socket}", *words], input=stdin, capture_output=True, text=True, timeout=180, env=environment
        )

    def helper(name, host):
        program = programs / f"docker-credential-{name}"
        program.write_text(HELPER)
        program.chmod(0o755)
        (programs / "for").write_text(host)
        return programs

    run.file, run.helper = folder / "config.json", helper
    yield run
    for row in engine.api("GET", "/images/json").json:
        for name in row["RepoTags"]:
            if "/t/x" in name:
                engine.api("DELETE", f"/images/{name}")


def login(corten, registry, password="secret"):
    return corten("login", "-u", "ann", "--password-stdin", registry.host, stdin=password + "\n")


def test_login_pull_logout(corten, registry):
    name = f"{registry.host}/t/x:v1"
    refused = corten("pull", name)
    assert refused.returncode == 1 and "no basic auth credentials" in refused.stderr
    done = login(corten, registry)
    assert (done.returncode, done.stdout) == (0, "Login Succeeded\n"), done.stderr
    kept = json.loads(corten.file.read_text())
    assert kept == {"auths": {registry.host: {"auth": base64.b64encode(b"ann:secret").decode()}}}
    assert stat.S_IMODE(corten.file.stat().st_mode) == 0o600
    assert corten("pull", name).returncode == 0
    assert corten("tag", name, f"{registry.host}/t/x:v2").returncode == 0
    refused = corten("push", "--platform", "linux/arm64", f"{registry.host}/t/x:v2")
    assert refused.returncode == 1 and "does not match the specified platform" in refused.stderr
    pushed = corten("push", "--platform", "linux/amd64", f"{registry.host}/t/x:v2")
    assert pushed.returncode == 0, pushed.stderr
    done = corten("logout", registry.host)
    assert (done.returncode, done.stdout) == (0, f"Removing login credentials for {registry.host}\n")
    assert json.loads(corten.file.read_text())["auths"] == {}
    assert corten("pull", name).returncode == 1


def test_a_login_refused_keeps_nothing(corten, registry):
    done = login(corten, registry, "wrong")
    assert done.returncode == 1 and "401 Unauthorized" in done.stderr
    assert not corten.file.exists()


@pytest.mark.parametrize("setting", ["credsStore", "credHelpers"])
def test_a_credential_helper_keeps_the_secret(corten, registry, setting):
    corten.file.write_text(json.dumps({setting: "fake" if setting == "credsStore" else {registry.host: "fake"}}))
    place = corten.helper("fake", registry.host)
    assert corten("pull", f"{registry.host}/t/x:v1").returncode == 1  # it has none, which is no complaint
    done = login(corten, registry)
    assert done.returncode == 0, done.stderr
    assert json.loads((place / "secret").read_text()) == {"ServerURL": registry.host, "Username": "ann", "Secret": "secret"}
    assert json.loads(corten.file.read_text())["auths"] == {registry.host: {}}
    pulled = corten("pull", f"{registry.host}/t/x:v1")
    assert pulled.returncode == 0, pulled.stderr
    assert corten("logout", registry.host).returncode == 0
    assert not (place / "secret").exists()


def test_a_helper_that_is_not_there_is_told_of(corten, registry):
    corten.file.write_text('{"credsStore": "missing"}')
    fault = 'err: exec: "docker-credential-missing": executable file not found in $PATH, out: ``'
    done = login(corten, registry)
    assert done.returncode == 1
    assert f"Error saving credentials: error storing credentials - {fault}" in done.stderr
    done = corten("pull", f"{registry.host}/t/x:v1")
    assert f"WARNING: error getting credentials - {fault}" in done.stderr


@pytest.mark.skipif(DOCKER is None, reason="needs the docker CLI")
def test_the_docker_cli_uses_what_we_keep(corten, registry, engine):
    assert login(corten, registry).returncode == 0
    environment = {**os.environ, "DOCKER_CONFIG": str(corten.file.parent)}
    done = subprocess.run(
        [DOCKER, "-H", f"unix://{engine.socket}", "pull", f"{registry.host}/t/x:v1"], capture_output=True, text=True, env=environment, timeout=180
    )
    assert done.returncode == 0, done.stderr
    done = subprocess.run(
        [DOCKER, "-H", f"unix://{engine.socket}", "login", "-u", "ann", "--password-stdin", registry.host], input="secret",
        capture_output=True, text=True, env=environment, timeout=180,
    )
    assert done.returncode == 0, done.stderr
    assert corten("pull", f"{registry.host}/t/x:v1").returncode == 0
