"""Where registries are looked for and how they are let in: mirrors, proxies, certificates, tokens, search, referrers."""

import json
import os
import shutil
import subprocess
import urllib.parse

import pytest
from distribution_fixture import own_distribution, statuses
from fault_proxy import Fault, fault_proxy
from registry_server import MANIFEST_V2, OCI_INDEX, OCI_MANIFEST, digest_of, layer, needs_registry, running_registry

from corten.base.errors import Internal, InvalidArgument, NotFound, Unsupported
from corten.daemon.config import parse
from corten.engine.distribution import settings_of
from corten.engine.settings import DaemonConfig
from corten.oci.platform import Platform
from corten.registry.auth import Credentials
from corten.registry.errors import Unreachable

pytestmark = [needs_registry, pytest.mark.skipif(os.geteuid() != 0, reason="machine: unpacking needs root")]

ONE = layer({"one": b"1"})
ELSEWHERE = "registry.invalid"  # a name that never resolves (RFC 6761)


@pytest.fixture(scope="module")
def registry():
    with running_registry() as server:
        server.put_image("t/x", "v1", [ONE], {"Cmd": ["one"]})
        yield server


@pytest.fixture
def local():
    with own_distribution() as found:
        yield found


# --- settings


def test_flags_become_settings():
    config = DaemonConfig()
    config.registry_mirrors = ["https://a", "ghcr.io=https://b/", "ghcr.io=http://c:5000", "docker.io=https://d", "httpd.example=https://e/=f"]
    config.registry_certs, config.search_url, config.max_concurrent_downloads = ["/certs"], "http://s/search", 9
    settings = settings_of(config)
    assert settings.bases("docker.io") == ["https://a", "https://d", "registry-1.docker.io"]
    assert settings.bases("ghcr.io") == ["https://b", "http://c:5000", "ghcr.io"]
    assert settings.bases("httpd.example") == ["https://e/=f", "httpd.example"]
    assert settings.certificate_folders[0] == "/certs" and "/etc/docker/certs.d" in settings.certificate_folders
    assert (settings.search_url, settings.parallel_downloads) == ("http://s/search", 9)


def test_flags_are_read():
    config = parse(["--registry-mirror", "https://a", "--registry-mirror", "x.io=https://b", "--max-concurrent-uploads", "7"])
    assert (config.registry_mirrors, config.max_concurrent_uploads) == (["https://a", "x.io=https://b"], 7)
    with pytest.raises(InvalidArgument, match="invalid --max-download-attempts: 0: must be positive"):
        parse(["--max-download-attempts", "0"])


@pytest.mark.parametrize("mirror", ["ghcr.io", "ghcr.io=ftp://x", "no/name=https://x", "=https://x", "https://u:p@x", "https://x?y"])
def test_mirrors_that_are_none(mirror):
    config = DaemonConfig()
    config.registry_mirrors = [mirror]
    with pytest.raises(InvalidArgument):
        settings_of(config)


# --- mirrors and proxies


@pytest.mark.parametrize("domain", ["docker.io", ELSEWHERE])
def test_a_mirror_of_any_registry(registry, domain):
    with own_distribution(mirrors={domain: ["http://127.0.0.1:1", f"http://{registry.host}"]}) as local:
        _, error = local.pull(f"{domain}/t/x", "v1")
        assert error is None, error
        assert list(local.store.names) and all(name.startswith(f"{domain}/t/x") for name in local.store.names)
        assert local.run(lambda d: d.inspect(f"{domain}/t/x:v1", Credentials()))["Platforms"]


@pytest.fixture
def environment(monkeypatch):
    """No proxies but those that a test sets."""
    for name in ("http_proxy", "https_proxy", "no_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return monkeypatch.setenv


def test_plain_http_through_a_proxy(registry, environment):
    with fault_proxy(registry.host) as proxy, own_distribution(insecure=[ELSEWHERE]) as local:
        environment("HTTP_PROXY", f"http://{proxy.host}")
        _, error = local.pull(f"{ELSEWHERE}/t/x", "v1")
        assert error is None, error
        assert {urllib.parse.urlsplit(path).netloc for _, path, _ in proxy.seen} == {ELSEWHERE}


def test_tls_through_a_proxy(environment):
    with running_registry(tls=True) as registry, fault_proxy(registry.host) as proxy:
        registry.put_image("t/x", "v1", [ONE])
        with own_distribution(insecure=[ELSEWHERE]) as local:
            environment("HTTPS_PROXY", f"http://{proxy.host}")
            _, error = local.pull(f"{ELSEWHERE}/t/x", "v1")
            assert error is None, error
        assert {(method, path) for method, path, _ in proxy.seen} == {("CONNECT", f"{ELSEWHERE}:443")}


def test_no_proxy_is_heeded_and_loopback_never_goes_through_one(registry, environment):
    with fault_proxy(registry.host) as proxy, own_distribution(insecure=[ELSEWHERE]) as local:
        environment("HTTP_PROXY", f"http://{proxy.host}")
        environment("NO_PROXY", f"other.example,{ELSEWHERE}")
        _, error = local.pull(f"{ELSEWHERE}/t/x", "v1")
        assert isinstance(error, Unreachable) and "no such host" in str(error)
        _, error = local.pull(f"{registry.host}/t/x", "v1")
        assert error is None, error
        assert not proxy.seen


# --- certificates


def test_a_client_certificate_from_the_registrys_folder(tmp_path):
    with running_registry(tls=True) as registry:
        registry.put_image("t/x", "v1", [ONE])
        registry.stop()
        config = json.loads((registry.folder / "config.yml").read_text())
        config["http"]["tls"]["clientcas"] = [registry.ca_file]
        (registry.folder / "config.yml").write_text(json.dumps(config))
        registry.start()
        with own_distribution(trust_loopback=False, certificate_folders=(str(tmp_path),)) as local:
            folder = tmp_path / registry.host
            folder.mkdir()
            shutil.copy(registry.ca_file, folder / "ca.crt")
            _, error = local.pull(f"{registry.host}/t/x", "v1")
            assert isinstance(error, Unreachable), error  # its alert may be lost with the connection
            shutil.copy(registry.ca_file, folder / "client.cert")
            shutil.copy(registry.folder / "key.pem", folder / "client.key")
            _, error = local.pull(f"{registry.host}/t/x", "v1")
            assert error is None, error


def test_a_client_certificate_without_its_key_is_told_of(tmp_path):
    with running_registry(tls=True) as registry:
        (tmp_path / registry.host).mkdir()
        shutil.copy(registry.ca_file, tmp_path / registry.host / "client.cert")
        with own_distribution(certificate_folders=(str(tmp_path),)) as local:
            _, error = local.pull(f"{registry.host}/t/x", "v1")
        assert str(error) == "missing key client.key for client certificate client.cert. CA certificates must use the extension .crt"


# --- tokens


def test_an_identity_token_is_shown_to_the_token_server_alone(registry, local):
    asked = []

    def rule(request):
        if request.path.startswith("/token"):
            length = int(request.headers["Content-Length"])
            asked.append((request.command, dict(urllib.parse.parse_qsl(request.rfile.read(length).decode()))))
            request.headers.replace_header("Content-Length", "0")
            return Fault(status=200, body=b'{"access_token":"good","expires_in":300}')
        if request.headers.get("Authorization") == "Bearer good":
            return None
        challenge = f'Bearer realm="http://{proxy.host}/token",service="s"'
        return Fault(status=401, headers={"WWW-Authenticate": challenge}, body=b'{"errors":[{"code":"UNAUTHORIZED","message":"no"}]}')

    with fault_proxy(registry.host, rule) as proxy:
        _, error = local.pull(f"{proxy.host}/t/x", "v1", credentials=Credentials(identity_token="refresh"))
        assert error is None, error
        assert not [path for _, path, headers in proxy.seen if "refresh" in f"{path}{headers}"]
    assert asked == [("POST", {
        "service": "s", "client_id": "corten", "grant_type": "refresh_token", "refresh_token": "refresh", "scope": "repository:t/x:pull",
    })]


def test_a_registry_token_is_sent_as_it_is(registry, local):
    challenge = {"WWW-Authenticate": 'Bearer realm="http://127.0.0.1:1/token"'}
    rule = lambda r: None if r.headers.get("Authorization") == "Bearer given" else Fault(status=401, headers=challenge)  # noqa: E731
    with fault_proxy(registry.host, rule) as proxy:
        _, error = local.pull(f"{proxy.host}/t/x", "v1", credentials=Credentials(registry_token="given"))
    assert error is None, error


def test_a_mount_asks_for_both_scopes(registry, local):
    """The token for a push that mounts must cover the repository it mounts from."""
    scopes = []

    def rule(request):
        if request.path.startswith("/token"):
            scopes.append(urllib.parse.parse_qs(urllib.parse.urlsplit(request.path).query)["scope"])
            return Fault(status=200, body=b'{"token":"good","expires_in":300}')
        if request.headers.get("Authorization") == "Bearer good":
            return None
        return Fault(status=401, headers={"WWW-Authenticate": f'Bearer realm="http://{proxy.host}/token",service="s"'})

    with fault_proxy(registry.host, rule) as proxy:
        _, error = local.pull(f"{proxy.host}/t/x", "v1")
        assert error is None, error
        local.store.tag(local.store.by_name(f"{proxy.host}/t/x:v1").id, f"{proxy.host}/t/y:v1")
        messages, error = local.push(f"{proxy.host}/t/y", "v1")
        assert error is None, error
    assert "Mounted from t/x" in statuses(messages)
    assert ["repository:t/y:pull,push", "repository:t/x:pull"] in scopes


# --- search


HUB_ANSWER = {"num_results": 3, "results": [
    {"name": "busybox", "description": "Busybox base image.", "star_count": 3000, "is_official": True, "is_automated": False},
    {"name": "ann/busybox", "description": None, "star_count": 7, "is_official": False, "is_automated": True},
    {"name": "odd", "star_count": "many"}, "no object",
]}


def test_search(registry):
    seen = []

    def rule(request):
        seen.append(request.path)
        return Fault(status=200, body=json.dumps(HUB_ANSWER).encode())

    with fault_proxy(registry.host, rule) as hub, own_distribution(search_url=f"http://{hub.host}/v1/search") as local:
        found = local.run(lambda d: d.search("busy box", 0, {}))
        assert [item["name"] for item in found] == ["busybox", "ann/busybox", "odd"]
        assert found[0] == {
            "name": "busybox", "description": "Busybox base image.", "star_count": 3000, "is_official": True, "is_automated": False
        }
        assert [item["name"] for item in local.run(lambda d: d.search("docker.io/x", 2, {"is-official": ["false"]}))] == ["ann/busybox", "odd"]
        assert [item["name"] for item in local.run(lambda d: d.search("x", 1, {"stars": ["5"]}))] == ["busybox"]
        for term, limit, filters, kind in (
            ("x", 101, {}, InvalidArgument), ("x", 5, {"color": ["red"]}, InvalidArgument), ("ghcr.io/x", 5, {}, Unsupported),
        ):
            with pytest.raises(kind):
                local.run(lambda d, t=term, n=limit, f=filters: d.search(t, n, f))
    assert seen[:2] == ["/v1/search?q=busy+box&n=25", "/v1/search?q=x&n=2"]
    with fault_proxy(registry.host, lambda _r: Fault(status=500)) as hub, own_distribution(search_url=f"http://{hub.host}/v1/search") as local:
        with pytest.raises(Internal, match="Unexpected status code 500"):
            local.run(lambda d: d.search("x", 5, {}))


# --- referrers, artifacts, platforms


def signature(of, kind):
    empty = {"mediaType": "application/vnd.oci.empty.v1+json", "digest": digest_of(b"{}"), "size": 2}
    return json.dumps({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "artifactType": kind, "config": empty, "layers": [empty], "subject": of}).encode()


def test_referrers_by_the_fallback_tag_and_by_the_api(registry, local):
    name = f"{registry.host}/t/x:v1"
    top = local.run(lambda d: d.inspect(name, Credentials()))["Descriptor"]
    assert local.run(lambda d: d.referrers(name, "", Credentials()))["manifests"] == []
    registry.put_blob("t/x", b"{}")
    entries = []
    for kind in ("application/a", "application/b"):
        data = signature(top, kind)
        registry.put_manifest("t/x", digest_of(data), data, OCI_MANIFEST)
        entries.append({"mediaType": OCI_MANIFEST, "digest": digest_of(data), "size": len(data), "artifactType": kind})
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}
    registry.put_manifest("t/x", top["digest"].replace(":", "-"), index, OCI_INDEX)
    assert local.run(lambda d: d.referrers(name, "", Credentials()))["manifests"] == entries
    assert local.run(lambda d: d.referrers(name, "application/b", Credentials()))["manifests"] == entries[1:]

    def api(request):
        if "/referrers/" not in request.path:
            return None
        second = "page" in request.path
        link = {} if second else {"Link": f"</v2/t/x/referrers/{top['digest']}?page=2>; rel=\"next\""}
        page = {**index, "manifests": entries[1:] if second else entries[:1]}
        return Fault(status=200, headers={"Content-Type": OCI_INDEX, **link}, body=json.dumps(page).encode())

    with fault_proxy(registry.host, api) as proxy:
        assert local.run(lambda d: d.referrers(f"{proxy.host}/t/x:v1", "", Credentials()))["manifests"] == entries
        assert "/v2/t/x/manifests/sha256-" not in str(proxy.seen)


def test_a_listing_never_leads_to_another_origin(registry, local):
    link = {"Link": '<http://127.0.0.1:1/v2/t/x/tags/list?n=2>; rel="next"'}
    rule = lambda r: Fault(status=200, headers=link, body=b'{"tags":["v1"]}') if "/tags/" in r.path else None  # noqa: E731
    with fault_proxy(registry.host, rule) as proxy:
        _, error = local.pull(f"{proxy.host}/t/x")
    assert isinstance(error, InvalidArgument) and "another origin" in str(error)


def test_an_artifact_is_inspected_and_not_pulled(registry, local):
    registry.put_blob("t/art", b"{}")
    data = signature({"mediaType": MANIFEST_V2, "digest": digest_of(b"x"), "size": 1}, "application/a")
    digest = registry.put_manifest("t/art", "v1", data, OCI_MANIFEST)
    found = local.run(lambda d: d.inspect(f"{registry.host}/t/art:v1", Credentials()))
    assert (found["Descriptor"]["digest"], found["Platforms"]) == (digest, [])
    _, error = local.pull(f"{registry.host}/t/art", "v1")
    assert isinstance(error, Unsupported), error
    assert not local.store.images


def test_an_index_with_variants_attestations_and_unknown_entries(registry, local):
    entries = []
    for architecture, variant in (("arm", "v6"), ("arm", "v7"), ("amd64", "v3"), ("amd64", ""), ("amd64", "v2")):
        digest = registry.put_image("t/v", f"{architecture}{variant}", [layer({f"{architecture}{variant}": b""})], architecture=architecture)
        platform = {"os": "linux", "architecture": architecture, **({"variant": variant} if variant else {})}
        size = len(registry.get_manifest("t/v", digest)[1])
        entries.append({"mediaType": MANIFEST_V2, "digest": digest, "size": size, "platform": platform})
    unknown = {"os": "unknown", "architecture": "unknown"}
    attestation = {**entries[0], "platform": unknown, "annotations": {"vnd.docker.reference.type": "attestation-manifest"}}
    odd = {**entries[0], "mediaType": "application/x-future", "platform": {"os": "linux", "architecture": "amd64"}}
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [attestation, odd, *entries]}
    with fault_proxy(registry.host, lambda r: Fault(
        status=200, headers={"Content-Type": OCI_INDEX}, body=json.dumps(index).encode()
    ) if r.path.endswith("/manifests/all") else None) as proxy:
        for wanted, expected in (
            ("linux/arm/v7", "armv7"), ("linux/arm/v6", "armv6"), ("linux/arm", "armv7"), ("linux/amd64", "amd64"),
            ("linux/amd64/v2", "amd64v2"), ("linux/amd64/v4", "amd64v3"),
        ):
            _, error = local.pull(f"{proxy.host}/t/v", "all", wanted)
            assert error is None, (wanted, error)
            image = local.store.by_name(f"{proxy.host}/t/v:all")
            assert os.listdir(local.store.snapshots.path(image.layers[0])) == [expected], wanted
        _, error = local.pull(f"{proxy.host}/t/v", "all", "linux/arm/v5")
        assert isinstance(error, NotFound)


def test_a_push_of_another_platform_is_refused(registry, local):
    name = f"{registry.host}/t/x"
    local.pull(name, "v1")

    async def push(distribution, platform):
        async for _ in await distribution.push(name, "v1", Credentials(), platform):
            pass

    local.run(lambda d: push(d, Platform("linux", "amd64")))
    with pytest.raises(NotFound, match="does not match the specified platform"):
        local.run(lambda d: push(d, Platform("linux", "arm64")))


@pytest.mark.skipif("DOCKERD_SOCKET" not in os.environ, reason="machine: DOCKERD_SOCKET names no dockerd to compare with")
def test_dockerd_pulls_what_we_push(registry, local):
    local.pull(f"{registry.host}/t/x", "v1")
    local.store.tag(local.store.by_name(f"{registry.host}/t/x:v1").id, f"{registry.host}/t/again:v1")
    _, error = local.push(f"{registry.host}/t/again", "v1")
    assert error is None, error
    done = subprocess.run(
        ["docker", "-H", f"unix://{os.environ['DOCKERD_SOCKET']}", "pull", f"{registry.host}/t/again:v1"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    subprocess.run(["docker", "-H", f"unix://{os.environ['DOCKERD_SOCKET']}", "rmi", f"{registry.host}/t/again:v1"], check=True, capture_output=True)
