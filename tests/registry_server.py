"""Debian's docker-registry on a free loopback port, for tests; ends with the `with` block.

    with running_registry() as registry:
        registry.host            # "127.0.0.1:34567"
        registry.put_image("a/b", "v1", [layer_tar, ...], {"Cmd": ["true"]})
    with running_registry(users={"ann": "secret"}) as registry: ...   # htpasswd, basic
    with running_registry(tls=True) as registry: registry.ca_file ...

It will not fake anything: skip the test when `docker-registry` is not installed (`needs_registry`).
"""

import base64
import contextlib
import gzip
import hashlib
import http.client
import io
import json
import os
import shutil
import socket
import ssl
import subprocess
import tarfile
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

needs_registry = pytest.mark.skipif(shutil.which("docker-registry") is None, reason="docker-registry is not installed")

MANIFEST_V2 = "application/vnd.docker.distribution.manifest.v2+json"
MANIFEST_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
ACCEPT = ", ".join((MANIFEST_V2, MANIFEST_LIST, OCI_MANIFEST, OCI_INDEX))


def digest_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def layer(files: Mapping[str, bytes | None]) -> bytes:
    """A tar of the given files (None is a folder), the same bytes each time."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.mtime = 1_700_000_000
            if content is None:
                member.type, member.mode = tarfile.DIRTYPE, 0o755
                archive.addfile(member)
            else:
                member.size, member.mode = len(content), 0o755
                archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


class Registry:
    """A running registry. `root` is its storage folder."""

    def __init__(self, port: int, folder: Path, users: Mapping[str, str], tls: bool) -> None:
        self.port = port
        self.host = f"127.0.0.1:{port}"
        self.folder = folder
        self.root = folder / "storage"
        self.users = dict(users)
        self.tls = tls
        self.ca_file = str(folder / "ca.pem") if tls else ""
        self.log = folder / "log"
        self.process: subprocess.Popen[bytes] | None = None

    # --- life

    def start(self) -> None:
        arguments = ["docker-registry", "serve", str(self.folder / "config.yml")]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(arguments, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            if self.process.poll() is not None:
                break
            time.sleep(0.02)
        raise RuntimeError(f"docker-registry does not start: {self.log.read_text()[-2000:]}")

    def stop(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None

    # --- what a test asks

    def request(self, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, dict[str, str], bytes]:
        """One request with the first user's credentials; header names are written with `_` for `-`."""
        wanted = {name.replace("_", "-"): value for name, value in headers.items()}
        for name, password in list(self.users.items())[:1]:
            wanted["Authorization"] = "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()
        if self.tls:
            context = ssl.create_default_context(cafile=self.ca_file)
            connection: http.client.HTTPConnection = http.client.HTTPSConnection("127.0.0.1", self.port, context=context)
        else:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body or None, wanted)
            response = connection.getresponse()
            return response.status, {k.lower(): v for k, v in response.getheaders()}, response.read()
        finally:
            connection.close()

    def put_blob(self, name: str, data: bytes) -> str:
        status, headers, body = self.request("POST", f"/v2/{name}/blobs/uploads/")
        assert status == 202, (status, body)
        location = headers["location"].split(self.host, 1)[-1]
        digest = digest_of(data)
        status, _, body = self.request(
            "PUT", f"{location}{'&' if '?' in location else '?'}digest={digest}", data,
            Content_Type="application/octet-stream", Content_Length=str(len(data)),
        )
        assert status == 201, (status, body)
        return digest

    def put_manifest(self, name: str, tag: str, manifest: object, media_type: str = MANIFEST_V2) -> str:
        data = manifest if isinstance(manifest, bytes) else json.dumps(manifest, separators=(",", ":")).encode()
        status, _, body = self.request("PUT", f"/v2/{name}/manifests/{tag}", data, Content_Type=media_type)
        assert status == 201, (status, body)
        return digest_of(data)

    def put_image(
        self, name: str, tag: str, layers: Sequence[bytes], config: Mapping[str, object] | None = None, *,
        compress: bool = True, oci: bool = False, architecture: str = "amd64",
    ) -> str:
        """Push an image of these layer tars; returns its manifest's digest."""
        kind = "application/vnd.oci.image" if oci else "application/vnd.docker"
        layer_type = f"{kind}.layer.v1.tar" if oci else f"{kind}.image.rootfs.diff.tar"
        described = []
        for tar in layers:
            blob = gzip.compress(tar, 1, mtime=0) if compress else tar
            suffix = ("+gzip" if oci else ".gzip") if compress else ""
            described.append({"mediaType": layer_type + suffix, "size": len(blob), "digest": self.put_blob(name, blob)})
        image = json.dumps({
            "architecture": architecture, "os": "linux", "config": dict(config or {}), "created": "2024-01-02T03:04:05Z",
            "history": [{"created": "2024-01-02T03:04:05Z", "created_by": f"layer {i}"} for i, _ in enumerate(layers)],
            "rootfs": {"type": "layers", "diff_ids": [digest_of(tar) for tar in layers]},
        }).encode()
        config_type = "application/vnd.oci.image.config.v1+json" if oci else "application/vnd.docker.container.image.v1+json"
        media_type = OCI_MANIFEST if oci else MANIFEST_V2
        return self.put_manifest(name, tag, {
            "schemaVersion": 2, "mediaType": media_type,
            "config": {"mediaType": config_type, "size": len(image), "digest": self.put_blob(name, image)},
            "layers": described,
        }, media_type)

    def get_manifest(self, name: str, reference: str) -> tuple[dict[str, object], bytes]:
        status, _, body = self.request("GET", f"/v2/{name}/manifests/{reference}", Accept=ACCEPT)
        assert status == 200, (status, body)
        return json.loads(body), body

    def get_blob(self, name: str, digest: str) -> bytes:
        status, _, body = self.request("GET", f"/v2/{name}/blobs/{digest}")
        assert status == 200, (status, body)
        return body


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def bcrypt(password: str) -> str:
    """The only hash docker-registry's htpasswd takes, made by libcrypt."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        import crypt
    return crypt.crypt(password, "$2y$05$" + base64.b32encode(os.urandom(15)).decode()[:22])


def _make_certificate(folder: Path) -> None:
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost",
         "-keyout", str(folder / "key.pem"), "-out", str(folder / "ca.pem")],
        check=True, capture_output=True,
    )


def _config(port: int, folder: Path, users: Mapping[str, str], tls: bool, extra: Mapping[str, object]) -> str:
    settings: dict[str, object] = {
        "version": "0.1", "log": {"level": "warn", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(folder / "storage")}, "delete": {"enabled": True}},
        "http": {"addr": f"127.0.0.1:{port}", "secret": "of no worth"},
    }
    if tls:
        settings["http"]["tls"] = {"certificate": str(folder / "ca.pem"), "key": str(folder / "key.pem")}  # type: ignore[index]
    if users:
        (folder / "htpasswd").write_text("".join(f"{name}:{bcrypt(word)}\n" for name, word in users.items()))
        settings["auth"] = {"htpasswd": {"realm": "tests", "path": str(folder / "htpasswd")}}
    settings.update(extra)
    return json.dumps(settings)  # YAML reads JSON


@contextlib.contextmanager
def running_registry(
    users: Mapping[str, str] | None = None, tls: bool = False, extra: Mapping[str, object] | None = None
) -> Iterator[Registry]:
    """A registry for the length of the block. `extra` is merged into its configuration file."""
    folder = Path(tempfile.mkdtemp(prefix="corten-registry-"))
    port = free_port()
    registry = Registry(port, folder, users or {}, tls)
    try:
        if tls:
            _make_certificate(folder)
        (folder / "config.yml").write_text(_config(port, folder, users or {}, tls, extra or {}))
        registry.start()
        yield registry
    finally:
        registry.stop()
        shutil.rmtree(folder, ignore_errors=True)
