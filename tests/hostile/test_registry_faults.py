"""Registries that cut, lie, stall and pry: what a pull or push does then. Real docker-registry behind a proxy of ours."""

import asyncio
import base64
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from distribution_fixture import built, own_distribution, statuses, told
from fault_proxy import Fault, fault_proxy
from registry_server import (
    MANIFEST_LIST,
    MANIFEST_V2,
    OCI_INDEX,
    OCI_MANIFEST,
    digest_of,
    layer,
    needs_registry,
    running_registry,
)

from corten.base.errors import InvalidArgument, NotFound, Unauthorized, Unsupported
from corten.registry.auth import Credentials
from corten.registry.errors import TooSlow, Unreachable

pytestmark = [needs_registry, pytest.mark.skipif(os.geteuid() != 0, reason="unpacking needs root")]

BIG = layer({"big": os.urandom(5_000_000)})
TEXT = layer({"text": os.urandom(4_000_000).hex().encode()})
SMALL = layer({"bin": None, "bin/hello": b"hello"})


@pytest.fixture(scope="module")
def registry():
    with running_registry() as server:
        server.put_image("t/x", "v1", [SMALL, BIG], {"Cmd": ["hello"], "Labels": {"a": "b"}}, compress=False)
        yield server


@pytest.fixture
def local():
    with own_distribution() as found:
        yield found
        assert not [name for name in found.left_behind() if name.startswith("new-")]


def big_blob(path):
    return path.endswith(digest_of(BIG))


def once(fault, matches=big_blob):
    """A rule that applies `fault` to the first matching request."""
    left = [fault]

    def rule(request):
        return left.pop() if left and matches(request.path) and request.command == "GET" else None

    return rule


def files_of(image, local):
    return {name for at in image.layers for name in os.listdir(local.store.snapshots.path(at))}


def pulled(local, host, name="t/x", tag="v1"):
    messages, error = local.pull(f"{host}/{name}", tag)
    assert error is None, error
    image = local.store.by_name(f"{host}/{name}:{tag}")
    assert image is not None
    return messages, image


def test_a_cut_blob_goes_on_where_it_stopped(registry, local):
    with fault_proxy(registry.host, once(Fault(cut_after=3_000_000))) as proxy:
        _, image = pulled(local, proxy.host)
        ranges = [headers.get("range") for path, headers in proxy.blob_requests() if big_blob(path)]
    assert ranges[0] is None and len(ranges) == 2
    assert 0 < int(ranges[1].removeprefix("bytes=").rstrip("-")) <= 3_000_000
    assert files_of(image, local) == {"big", "bin"}


def test_a_registry_without_ranges_starts_over(registry, local):
    faults = [Fault(no_range=True), Fault(cut_after=2_000_000)]
    with fault_proxy(registry.host, lambda r: faults.pop() if faults and big_blob(r.path) else None) as proxy:
        _, image = pulled(local, proxy.host)
    assert files_of(image, local) == {"big", "bin"}


def test_a_changed_byte_is_noticed_and_nothing_is_registered(registry, local):
    rule = lambda request: Fault(flip=True) if big_blob(request.path) else None  # noqa: E731
    with fault_proxy(registry.host, rule) as proxy:
        messages, error = local.pull(f"{proxy.host}/t/x", "v1")
    assert isinstance(error, InvalidArgument)
    assert str(error) == f"filesystem layer verification failed for digest {digest_of(BIG)}"
    assert "Verifying Checksum" in statuses(messages)
    assert not local.store.images and not local.store.names
    assert digest_of(BIG)[7:] not in local.left_behind()


def test_a_bad_beginning_left_by_an_earlier_try_is_fetched_anew(registry, local):
    with local.store.content.writer(digest_of(BIG), len(BIG), resume=True) as writer:
        writer.write(b"not what it should be")
    with fault_proxy(registry.host) as proxy:
        _, image = pulled(local, proxy.host)
        assert [headers.get("range") for path, headers in proxy.blob_requests() if big_blob(path)] == ["bytes=21-", None]
    assert files_of(image, local) == {"big", "bin"}


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_an_overloaded_registry_is_asked_again(registry, local, status):
    left = {"manifests": 1, "blobs": 2}

    def rule(request):
        for part in left:
            if f"/{part}/" in request.path and left[part]:
                left[part] -= 1
                return Fault(status=status, headers={"Retry-After": "0"})
        return None

    with fault_proxy(registry.host, rule) as proxy:
        pulled(local, proxy.host)
    assert not any(left.values())


def test_a_registry_that_stays_away_ends_in_an_error(registry, local):
    with fault_proxy(registry.host, lambda r: Fault(status=503) if "/blobs/" in r.path else None) as proxy:
        _, error = local.pull(f"{proxy.host}/t/x", "v1")
    assert "received unexpected HTTP status: 503 Service Unavailable" in str(error)


def test_the_rate_limit_text_reaches_the_user(registry, local):
    body = json.dumps({"errors": [{"code": "TOOMANYREQUESTS", "message": "You have reached your pull rate limit."}]}).encode()
    with fault_proxy(registry.host, lambda r: Fault(status=429, body=body) if "/manifests/" in r.path else None) as proxy:
        messages, error = local.pull(f"{proxy.host}/t/x", "v1")
    assert not messages
    assert str(error) == "toomanyrequests: You have reached your pull rate limit."


def test_a_dripping_blob_is_given_up(registry):
    with own_distribution(rate_window_s=0.5) as local:
        rule = lambda request: Fault(drip_s=0.05) if big_blob(request.path) else None  # noqa: E731
        with fault_proxy(registry.host, rule) as proxy:
            _, error = local.pull(f"{proxy.host}/t/x", "v1")
    assert isinstance(error, TooSlow)
    assert "under the minimum of 1024 B/s: given up" in str(error)


def test_a_manifest_over_the_limit_is_refused(registry, local):
    body = json.dumps({"schemaVersion": 2, "fill": "x" * (4 << 20)}).encode()
    rule = lambda r: Fault(status=200, headers={"Content-Type": MANIFEST_V2}, body=body) if "/manifests/" in r.path else None  # noqa: E731
    with fault_proxy(registry.host, rule) as proxy:
        _, error = local.pull(f"{proxy.host}/t/x", "v1")
    assert isinstance(error, InvalidArgument)
    assert "longer than 4194304 bytes" in str(error)


def manifest(**changes):
    config = {"mediaType": "application/vnd.docker.container.image.v1+json", "size": 2, "digest": digest_of(b"{}")}
    return {"schemaVersion": 2, "mediaType": MANIFEST_V2, "config": config, "layers": [], **changes}


def a_layer(**changes):
    kind = "application/vnd.docker.image.rootfs.diff.tar.gzip"
    return {"mediaType": kind, "size": 10, "digest": "sha256:" + "a" * 64, **changes}


BAD_MANIFESTS = [
    (manifest(layers=[a_layer(digest="sha256:../../../../etc/passwd")]), MANIFEST_V2, InvalidArgument),
    (manifest(layers=[a_layer(digest="sha256:" + "A" * 64)]), MANIFEST_V2, InvalidArgument),
    (manifest(layers=[a_layer(size=-1)]), MANIFEST_V2, InvalidArgument),
    (manifest(layers=[a_layer(size="10")]), MANIFEST_V2, InvalidArgument),
    (manifest(layers=[a_layer(size=1 << 60)]), MANIFEST_V2, InvalidArgument),
    (manifest(layers=[a_layer(urls=["https://x/"])]), MANIFEST_V2, Unsupported),
    (manifest(layers=[a_layer(mediaType="application/vnd.docker.image.rootfs.foreign.diff.tar.gzip")]), MANIFEST_V2, Unsupported),
    (manifest(layers=[a_layer(mediaType="application/vnd.oci.image.layer.nondistributable.v1.tar+gzip")]), MANIFEST_V2, Unsupported),
    (manifest(layers=[a_layer(mediaType="application/x-evil")]), MANIFEST_V2, Unsupported),
    (manifest(manifests=[]), MANIFEST_V2, InvalidArgument),
    (manifest(), MANIFEST_LIST, InvalidArgument),
    (manifest(mediaType=OCI_INDEX), OCI_INDEX, InvalidArgument),
    (manifest(config={"mediaType": "application/vnd.cncf.helm.config.v1+json", "size": 2, "digest": digest_of(b"{}")},
              mediaType=OCI_MANIFEST), OCI_MANIFEST, Unsupported),
    ({"schemaVersion": 1, "name": "x", "tag": "y", "fsLayers": [], "history": [], "signatures": []},
     "application/vnd.docker.distribution.manifest.v1+prettyjws", Unsupported),
    ({"schemaVersion": 2, "mediaType": MANIFEST_LIST, "manifests": [
        {"mediaType": MANIFEST_V2, "size": 2, "digest": digest_of(b"{}"), "platform": {"os": "linux", "architecture": "s390x"}}
    ]}, MANIFEST_LIST, NotFound),
    ([], MANIFEST_V2, InvalidArgument),
    (b'{"schemaVersion":2,"schemaVersion":1}', MANIFEST_V2, InvalidArgument),
    (b"[" * 100_000, MANIFEST_V2, InvalidArgument),
]


@pytest.mark.parametrize("at", range(len(BAD_MANIFESTS)))
def test_manifests_that_are_refused(registry, local, at):
    document, kind, expected = BAD_MANIFESTS[at]
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    rule = lambda r: Fault(status=200, headers={"Content-Type": kind}, body=body) if "/manifests/" in r.path else None  # noqa: E731
    with fault_proxy(registry.host, rule) as proxy:
        _, error = local.pull(f"{proxy.host}/t/x", "v1")
        assert not [path for path, _ in proxy.blob_requests() if "etc" in path]
    assert isinstance(error, expected), error
    assert not local.store.images


def test_a_digest_asked_for_is_the_digest_checked(registry, local):
    other = json.dumps(manifest()).encode()
    rule = lambda r: Fault(status=200, headers={"Content-Type": MANIFEST_V2}, body=other) if "/manifests/" in r.path else None  # noqa: E731
    wanted = "sha256:" + "b" * 64
    with fault_proxy(registry.host, rule) as proxy:
        _, error = local.pull(f"{proxy.host}/t/x@{wanted}")
    assert str(error) == f"manifest verification failed for digest {wanted}"


# --- many at once, and none to the end


def test_many_pulls_of_one_image_fetch_each_blob_once(registry, local):
    async def storm(distribution):
        pulls = [told(distribution.pull(f"{proxy.host}/t/x", "v1", "", Credentials())) for _ in range(32)]
        return await asyncio.gather(*pulls)

    with fault_proxy(registry.host) as proxy:
        outcomes = local.run(storm)
        fetched = [path for path, _ in proxy.blob_requests()]
    assert [error for _, error in outcomes if error] == []
    assert len(fetched) == len(set(fetched)) == 3
    assert all(any(text.startswith("Status: ") for text in statuses(messages)) for messages, _ in outcomes)
    assert len(local.store.images) == 1


def test_a_pull_broken_off_leaves_no_image_and_is_gone_on_with(registry, local):
    async def broken_off(distribution):
        messages = await distribution.pull(f"{proxy.host}/t/x", "v1", "", Credentials())
        async for message in messages:
            if message["status"] == "Downloading" and message["progressDetail"]["current"] > 1_000_000:
                break
        await messages.aclose()

    with fault_proxy(registry.host, lambda r: Fault(drip_s=0) if False else None) as proxy:
        local.run(broken_off)
        assert not local.store.images
        proxy.seen.clear()
        _, image = pulled(local, proxy.host)
        ranges = [headers.get("range") for path, headers in proxy.blob_requests() if big_blob(path)]
    assert not ranges or ranges[0] is not None
    assert files_of(image, local) == {"big", "bin"}


# --- credentials


def basic(name, word):
    return "Basic " + base64.b64encode(f"{name}:{word}".encode()).decode()


def test_a_redirect_to_another_origin_gets_no_credentials(local):
    with running_registry(users={"ann": "secret"}) as registry:
        registry.put_image("t/x", "v1", [BIG], compress=False)

        def serve(_request):
            return Fault(status=200, body=BIG)

        with fault_proxy(registry.host, serve) as elsewhere:
            def send_away(request):
                if big_blob(request.path):
                    return Fault(status=307, headers={"Location": f"http://{elsewhere.host}/blob/{digest_of(BIG)}?signature=x%2Fy"})
                return None

            with fault_proxy(registry.host, send_away) as proxy:
                _, error = local.pull(f"{proxy.host}/t/x", "v1", credentials=Credentials("ann", "secret"))
                sent = [headers.get("authorization") for path, headers in proxy.blob_requests() if big_blob(path)]
    assert error is None, error
    assert sent == [basic("ann", "secret")]
    assert [(path, "authorization" in headers) for _, path, headers in elsewhere.seen] == [
        (f"/blob/{digest_of(BIG)}?signature=x%2Fy", False)
    ]


def test_an_upload_sent_elsewhere_gets_no_credentials(local):
    """The registry says where to upload: the blob goes there, the login stays at home."""
    with running_registry(users={"ann": "secret"}) as registry:
        built(local, "127.0.0.1:1/t/x:v1", SMALL)
        taken = lambda request: Fault(status=201)  # noqa: E731
        with fault_proxy(registry.host, taken) as elsewhere:
            def send_away(request):
                if request.command == "POST":
                    return Fault(status=202, headers={"Location": f"http://{elsewhere.host}/upload?state=1"})
                return Fault(status=201) if "/manifests/" in request.path and request.command == "PUT" else None

            with fault_proxy(registry.host, send_away) as proxy:
                local.store.tag(local.store.names["127.0.0.1:1/t/x:v1"], f"{proxy.host}/t/x:v1")
                _, error = local.push(f"{proxy.host}/t/x", "v1", Credentials("ann", "secret"))
                home = [headers.get("authorization") for method, _, headers in proxy.seen if method == "POST"]
    assert error is None, error
    assert home == [basic("ann", "secret")] * 2
    assert [(method, "authorization" in headers) for method, _, headers in elsewhere.seen] == [("PUT", False)] * 2


def test_a_registrys_text_does_not_steer_the_terminal(registry, local):
    body = json.dumps({"errors": [{"code": "DENIED", "message": "\x1b]0;owned\x07\x1b[2Jno\u202eyes" + "x" * 9000}]}).encode()
    with fault_proxy(registry.host, lambda r: Fault(status=403, body=body) if "/manifests/" in r.path else None) as proxy:
        _, error = local.pull(f"{proxy.host}/t/x", "v1")
    assert "no" in str(error) and str(error).isprintable() and len(str(error)) < 3000


def token_rules(token_host):
    """(rule of a registry that wants a bearer token from `token_host`, rule of the token server)."""

    def registry_rule(request):
        if request.headers.get("Authorization") == "Bearer good":
            return None
        challenge = f'Bearer realm="http://{token_host()}/token",service="s"'
        return Fault(status=401, headers={"WWW-Authenticate": challenge}, body=b'{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}')

    def token_rule(request):
        return Fault(status=200, body=b'{"token":"good","expires_in":300}') if request.path.startswith("/token") else registry_rule(request)

    return registry_rule, token_rule


def test_a_token_server_elsewhere_is_asked_without_credentials(registry, local):
    registry_rule, token_rule = token_rules(lambda: tokens.host)
    with fault_proxy(registry.host, token_rule) as tokens, fault_proxy(registry.host, registry_rule) as proxy:
        _, error = local.pull(f"{proxy.host}/t/x", "v1", credentials=Credentials("ann", "secret"))
    assert error is None, error
    assert tokens.seen
    for _, path, headers in tokens.seen:
        assert "authorization" not in headers and "ann" not in path
    assert not [headers for _, _, headers in proxy.seen if "Basic" in headers.get("authorization", "")]


def test_a_token_server_elsewhere_that_wants_a_login_is_told_of_by_name(registry, local):
    registry_rule, _ = token_rules(lambda: tokens.host)
    with fault_proxy(registry.host, lambda _r: Fault(status=401)) as tokens, fault_proxy(registry.host, registry_rule) as proxy:
        _, error = local.pull(f"{proxy.host}/t/x", "v1", credentials=Credentials("ann", "secret"))
    assert isinstance(error, Unauthorized)
    assert f"http://{tokens.host}/token" in str(error) and "not sent" in str(error)


def test_the_registrys_own_token_server_gets_the_login_and_the_scope(registry, local):
    _, token_rule = token_rules(lambda: proxy.host)
    with fault_proxy(registry.host, token_rule) as proxy:
        _, error = local.pull(f"{proxy.host}/t/x", "v1", credentials=Credentials("ann", "secret"))
        asked = [(path, headers.get("authorization")) for _, path, headers in proxy.seen if path.startswith("/token")]
    assert error is None, error
    assert asked == [("/token?service=s&scope=repository%3At%2Fx%3Apull&account=ann", basic("ann", "secret"))]


def test_a_mirror_never_sees_credentials_and_a_dead_one_is_passed_over(registry):
    with fault_proxy(registry.host) as mirror:
        domain = registry.host
        with own_distribution(mirrors={domain: ["http://127.0.0.1:1", f"http://{mirror.host}"]}) as local:
            _, error = local.pull(f"{domain}/t/x", "v1", credentials=Credentials("ann", "secret"))
            assert error is None, error
            assert mirror.blob_requests()
            assert not [headers for _, _, headers in mirror.seen if "authorization" in headers]
            assert local.store.by_name(f"{domain}/t/x:v1")


def test_a_lying_mirror_is_corrected_by_the_registry(registry):
    with fault_proxy(registry.host, lambda r: Fault(flip=True) if big_blob(r.path) else None) as mirror:
        with own_distribution(mirrors={registry.host: [f"http://{mirror.host}"]}) as local:
            _, image = pulled(local, registry.host)
            assert files_of(image, local) == {"big", "bin"}


# --- up


def test_an_upload_cut_off_goes_on_in_pieces(registry, local):
    _, image = pulled(local, registry.host)
    with running_registry() as target:
        faults = [Fault(cut_upload=1_000_000) for _ in range(2)]  # aiohttp itself tries a PUT once more

        def rule(request):
            long = int(request.headers.get("Content-Length") or 0) > 1_000_000
            return faults.pop() if request.command == "PUT" and long and faults else None

        with fault_proxy(target.host, rule) as proxy:
            local.store.tag(image.id, f"{proxy.host}/t/x:v2")
            messages, error = local.push(f"{proxy.host}/t/x", "v2")
            assert error is None, error
            assert "PATCH" in [method for method, _, _ in proxy.seen]
        assert "Pushed" in statuses(messages)
        assert hashlib.sha256(target.get_blob("t/x", digest_of(BIG))).hexdigest() == digest_of(BIG)[7:]
        assert target.get_manifest("t/x", "v2")[1] == registry.get_manifest("t/x", "v1")[1]


@pytest.mark.parametrize("cut", [0, 1, 9])
def test_a_layer_sent_while_it_is_compressed(local, monkeypatch, cut):
    monkeypatch.setattr("corten.image.push._STREAMED_BYTES", 1 << 20)
    monkeypatch.setattr("corten.registry.blobs._PIECE_BYTES", 2 << 20)
    with running_registry() as target:
        faults = [Fault(cut_upload=100_000) for _ in range(cut)]
        rule = lambda r: faults.pop() if r.command == "PATCH" and faults else None  # noqa: E731
        with fault_proxy(target.host, rule) as proxy:
            built(local, f"{proxy.host}/t/made:v1", TEXT)
            messages, error = local.push(f"{proxy.host}/t/made", "v1")
            assert error is None, error
            methods = [method for method, _, _ in proxy.seen]
        assert "PATCH" in methods
        assert [text for text in statuses(messages) if text in ("Pushed", "Layer already exists")] == ["Pushed"]
        document, _ = target.get_manifest("t/made", "v1")
        blob = document["layers"][0]["digest"]
        assert digest_of(target.get_blob("t/made", blob)) == blob
        assert digest_of(local.store.content.read(blob, 1 << 30)) == blob
        assert not local.left_behind()


def test_a_registry_that_forgets_every_upload_is_given_up(local, monkeypatch):
    monkeypatch.setattr("corten.image.push._STREAMED_BYTES", 1 << 20)
    monkeypatch.setattr("corten.registry.blobs._PIECE_BYTES", 1 << 20)

    def rule(request):
        first = request.headers.get("Content-Range", "0-").startswith("0-")
        if (request.command == "PATCH" and not first) or (request.command == "GET" and "uploads" in request.path):
            return Fault(status=404, body=b'{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN","message":"forgotten"}]}')
        return Fault(cut_upload=0) if request.command == "PUT" and "uploads" in request.path else None

    with running_registry() as target, fault_proxy(target.host, rule) as proxy:
        built(local, f"{proxy.host}/t/made:v1", TEXT)
        _, error = local.push(f"{proxy.host}/t/made", "v1")
    assert "forgotten" in str(error)


def test_a_big_layer_that_does_not_shrink_is_pushed_as_it_is(local, monkeypatch):
    monkeypatch.setattr("corten.image.push._STREAMED_BYTES", 1 << 20)
    with running_registry() as target:
        image = built(local, f"{target.host}/t/made:v1", BIG, TEXT)
        _, error = local.push(f"{target.host}/t/made", "v1")
        assert error is None, error
        document, _ = target.get_manifest("t/made", "v1")
        assert [found["mediaType"].rpartition(".")[2] for found in document["layers"]] == ["tar", "gzip"]
        assert target.get_blob("t/made", digest_of(BIG)) == BIG
        with own_distribution() as other:
            _, error = other.pull(f"{target.host}/t/made", "v1")
            assert error is None, error
            assert list(other.store.images) == [image.id]


def test_a_push_that_is_denied_says_so(registry, local):
    _, image = pulled(local, registry.host)
    body = json.dumps({"errors": [{"code": "DENIED", "message": "requested access to the resource is denied"}]}).encode()
    with fault_proxy(registry.host, lambda r: Fault(status=403, body=body) if r.command == "POST" else None) as proxy:
        local.store.tag(image.id, f"{proxy.host}/t/new:v2")
        _, error = local.push(f"{proxy.host}/t/new", "v2")
    assert str(error) == "denied: requested access to the resource is denied"


def test_an_unreachable_registry_is_told_in_gos_words(local):
    _, error = local.pull("127.0.0.1:1/a", "b")
    assert isinstance(error, Unreachable)
    assert str(error) == 'Get "http://127.0.0.1:1/v2/": dial tcp 127.0.0.1:1: connect: connection refused'


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
def test_an_unproven_certificate_is_refused_and_no_plain_http_is_tried():
    with running_registry(tls=True) as server, own_distribution() as local:
        local.settings.trust_loopback = False
        _, error = local.pull(f"{server.host}/t/x", "v1")
        assert "x509: certificate signed by unknown authority" in str(error)
        assert str(error).startswith(f'Get "https://{server.host}/v2/"')


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
def test_a_registrys_own_authority_is_taken_from_its_folder(tmp_path):
    with running_registry(tls=True) as server, own_distribution() as local:
        server.put_image("t/x", "v1", [SMALL])
        local.settings.trust_loopback = False
        local.settings.certificate_folders = (str(tmp_path),)
        (tmp_path / server.host).mkdir()
        shutil.copy(server.ca_file, tmp_path / server.host / "ca.crt")
        pulled(local, server.host)


@pytest.mark.skipif(shutil.which("skopeo") is None, reason="needs skopeo")
def test_skopeo_reads_what_we_push(registry, local, tmp_path):
    _, image = pulled(local, registry.host)
    local.store.tag(image.id, f"{registry.host}/t/again:v3")
    _, error = local.push(f"{registry.host}/t/again", "v3")
    assert error is None, error
    subprocess.run(
        ["skopeo", "copy", "--src-tls-verify=false", f"docker://{registry.host}/t/again:v3", f"oci:{tmp_path}/out:v3"],
        check=True, capture_output=True, timeout=60,
    )


@pytest.mark.skipif(shutil.which("podman") is None, reason="needs podman")
@pytest.mark.parametrize("kind", ["pulled", "built", "big"])
def test_podman_pulls_what_we_push(registry, local, tmp_path, kind, monkeypatch):
    """An image as it came, one compressed for the push, and one pushed as a plain tar: podman unpacks each."""
    name = f"{registry.host}/t/{kind}"
    text = {"etc": None, "etc/hello": b"hello"}
    if kind == "pulled":
        _, image = pulled(local, registry.host)
        local.store.tag(image.id, f"{name}:v1")
    else:
        if kind == "big":
            monkeypatch.setattr("corten.image.push._STREAMED_BYTES", 1 << 16)
            text["etc/noise"] = os.urandom(1 << 20)
        image = built(local, f"{name}:v1", layer(text))
    _, error = local.push(name, "v1")
    assert error is None, error
    with tempfile.TemporaryDirectory(prefix="ct-podman-", dir="/var/tmp") as run:  # podman takes short names only
        podman = ["podman", "--root", f"{tmp_path}/root", "--runroot", run, "--storage-driver", "vfs", "--cgroup-manager", "cgroupfs"]
        done = subprocess.run([*podman, "pull", "--quiet", "--tls-verify=false", f"{name}:v1"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert f"sha256:{done.stdout.strip()}" == image.id
    if kind != "pulled":
        found = subprocess.run(["find", tmp_path / "root/vfs/dir", "-name", "hello"], capture_output=True, text=True).stdout.split()
        assert found and Path(found[0]).read_bytes() == b"hello"
