"""The OCI image spec and Docker's schema 2 as data: media types, descriptors, manifests, configs, layout. Pure.

What comes in is untrusted: sizes, kinds and digests are checked here once, and nothing downstream sees raw JSON.
Source: opencontainers/image-spec 1.1; Docker image manifest v2 schema 2.
"""

import hashlib
from typing import Any

from corten.base.errors import InvalidArgument, Unsupported
from corten.base.files import parse_json
from corten.oci.digest import PREFIX, hex_of

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
OCI_LAYER_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
OCI_LAYER_ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
DOCKER_LAYER_GZIP = "application/vnd.docker.image.rootfs.diff.tar.gzip"

INDEXES = frozenset((OCI_INDEX, DOCKER_INDEX))
MANIFESTS = frozenset((OCI_MANIFEST, DOCKER_MANIFEST))
CONFIGS = frozenset((OCI_CONFIG, DOCKER_CONFIG))
LAYER_COMPRESSION = {
    OCI_LAYER: "", OCI_LAYER_GZIP: "gzip", OCI_LAYER_ZSTD: "zstd", DOCKER_LAYER: "", DOCKER_LAYER_GZIP: "gzip",
}
LAYOUT_FILE = b'{"imageLayoutVersion":"1.0.0"}'
ANNOTATION_REF_NAME = "org.opencontainers.image.ref.name"
ANNOTATION_FULL_NAME = "io.containerd.image.name"

MANIFEST_LIMIT = 4 << 20  # bytes; the distribution spec's own bound
CONFIG_LIMIT = 8 << 20
LAYERS_LIMIT = 500  # overlayfs stacks at most 500
_MAX_SIZE = 1 << 50


class Descriptor:
    """A pointer to content: media type, digest, size in bytes, and what the pointer says besides."""

    __slots__ = ("annotations", "digest", "media_type", "platform", "size")

    def __init__(self, media_type: str, digest: str, size: int, annotations: dict[str, str] | None = None,
                 platform: dict[str, Any] | None = None) -> None:
        self.media_type = media_type
        self.digest = digest
        self.size = size
        self.annotations = annotations or {}
        self.platform = platform

    def json(self) -> dict[str, Any]:
        """The descriptor as the spec writes it."""
        found: dict[str, Any] = {"mediaType": self.media_type, "digest": self.digest, "size": self.size}
        if self.annotations:
            found["annotations"] = self.annotations
        if self.platform:
            found["platform"] = self.platform
        return found


class Manifest:
    """One image manifest: its own media type, the config and the layers, bottom first."""

    __slots__ = ("config", "layers", "media_type")

    def __init__(self, media_type: str, config: Descriptor, layers: list[Descriptor]) -> None:
        self.media_type = media_type
        self.config = config
        self.layers = layers

    def json(self) -> dict[str, Any]:
        """The manifest as the spec writes it."""
        return {
            "schemaVersion": 2, "mediaType": self.media_type, "config": self.config.json(),
            "layers": [layer.json() for layer in self.layers],
        }


def _object(value: object, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidArgument(f"invalid {what}: not a JSON object")
    return value


def _is_schema_2(value: dict[str, Any]) -> bool:
    """Whether schemaVersion is the integer 2: other parsers take neither true nor 2.0 for it."""
    version = value.get("schemaVersion")
    return isinstance(version, int) and not isinstance(version, bool) and version == 2


def _strings(value: object, what: str) -> dict[str, str]:
    found = _object(value if value is not None else {}, what)
    if not all(isinstance(text, str) for text in found.values()):
        raise InvalidArgument(f"invalid {what}: a value is not a string")
    return found


def parse_descriptor(value: object, what: str = "descriptor") -> Descriptor:
    """A descriptor out of parsed JSON. Raises InvalidArgument; Unsupported for layers kept elsewhere (`urls`)."""
    found = _object(value, what)
    media_type, digest, size = found.get("mediaType", ""), found.get("digest"), found.get("size")
    hex_of(digest)
    if not isinstance(media_type, str) or len(media_type) > 255:
        raise InvalidArgument(f"invalid {what}: bad mediaType")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= _MAX_SIZE:
        raise InvalidArgument(f"invalid {what}: bad size")
    if found.get("urls") or ".foreign." in media_type or "nondistributable" in media_type:
        raise Unsupported(f"{what} {digest} is a foreign layer: its content is not in the registry")
    platform = found.get("platform")
    return Descriptor(media_type, str(digest), size, _strings(found.get("annotations"), f"{what} annotations"),
                      None if platform is None else _object(platform, f"{what} platform"))


def is_unversioned(value: dict[str, Any]) -> bool:
    """Whether a document states what it is, but its `schemaVersion` is left out or 0, as some writers of layouts do."""
    version = value.get("schemaVersion", 0)
    return isinstance(version, int) and not isinstance(version, bool) and version == 0 and (
        value.get("mediaType") in MANIFESTS | INDEXES)


def states_no_version(data: bytes) -> bool:
    """is_unversioned of a document's exact bytes. Raises InvalidArgument."""
    value = parse_json(data, MANIFEST_LIMIT)
    return isinstance(value, dict) and is_unversioned(value)


def parse_manifest(data: bytes, media_type: str = "", *, unversioned: bool = False) -> Manifest:
    """An image manifest from its exact bytes; `media_type` is what the transport said, "" for unknown.

    `unversioned`: it may leave its schemaVersion out, see is_unversioned.
    Raises InvalidArgument (also when the bytes could be read as an index too: one meaning only), Unsupported for
    schema 1 and for artifacts that are not images.
    """
    value = _object(parse_json(data, MANIFEST_LIMIT), "manifest")
    if value.get("schemaVersion") == 1 or "fsLayers" in value:
        raise Unsupported("schema 1 image manifests are no longer supported: rebuild or re-push the image as schema 2")
    if not _is_schema_2(value) and not (unversioned and is_unversioned(value)):
        raise InvalidArgument("invalid manifest: schemaVersion is not 2")
    if "manifests" in value:
        raise InvalidArgument("invalid manifest: it is an index, or both at once")
    own = value.get("mediaType") or media_type or OCI_MANIFEST
    if not isinstance(own, str) or own not in MANIFESTS or (media_type and media_type != own):
        raise InvalidArgument(f"invalid manifest: media type {own!r}, served as {media_type!r}")
    config = parse_descriptor(value.get("config"), "config")
    if config.media_type not in CONFIGS:
        raise Unsupported(f"this is not an image: its config is {config.media_type or 'without a media type'}")
    layers = value.get("layers")
    if not isinstance(layers, list) or len(layers) > LAYERS_LIMIT:
        raise InvalidArgument("invalid manifest: bad layers")
    parsed = [parse_descriptor(layer, "layer") for layer in layers]
    for layer in parsed:
        if layer.media_type not in LAYER_COMPRESSION:
            raise Unsupported(f"unsupported layer media type {layer.media_type!r}")
    return Manifest(own, config, parsed)


def parse_index(data: bytes, media_type: str = "") -> list[Descriptor]:
    """The descriptors of an image index (manifest list) from its exact bytes. Raises InvalidArgument, Unsupported."""
    value = _object(parse_json(data, MANIFEST_LIMIT), "index")
    own = value.get("mediaType") or media_type or OCI_INDEX
    manifests = value.get("manifests")
    if not isinstance(own, str) or own not in INDEXES or not _is_schema_2(value):
        raise InvalidArgument("invalid index: not an image index")
    if "layers" in value or "config" in value:
        raise InvalidArgument("invalid index: it is a manifest, or both at once")
    if media_type and media_type != own:
        raise InvalidArgument(f"invalid index: media type {own!r}, served as {media_type!r}")
    if not isinstance(manifests, list) or len(manifests) > 1000:
        raise InvalidArgument("invalid index: bad manifests")
    return [parse_descriptor(item, "manifest") for item in manifests]


def raw_entries(data: bytes) -> list[dict[str, Any]]:
    """The entries of an index as they are written, artifact types and all, each checked. Raises InvalidArgument."""
    parse_index(data, OCI_INDEX)
    entries: list[dict[str, Any]] = _object(parse_json(data, MANIFEST_LIMIT), "index")["manifests"]
    return entries


def parse_config(data: bytes) -> dict[str, Any]:
    """An image config from its exact bytes, with `rootfs.diff_ids` and `config` checked. Raises InvalidArgument."""
    value = _object(parse_json(data, CONFIG_LIMIT), "image config")
    rootfs = _object(value.get("rootfs"), "image config: rootfs")
    diff_ids = rootfs.get("diff_ids") or []
    if rootfs.get("type", "layers") != "layers" or not isinstance(diff_ids, list) or len(diff_ids) > LAYERS_LIMIT:
        raise InvalidArgument("invalid image config: bad rootfs")
    for diff_id in diff_ids:
        hex_of(diff_id)
    rootfs["diff_ids"] = diff_ids
    if value.get("config") is None:
        value["config"] = {}
    _check_config(_object(value["config"], "image config: config"))
    history = value.get("history") or []
    if not isinstance(history, list) or not all(isinstance(item, dict) for item in history):
        raise InvalidArgument("invalid image config: bad history")
    value["history"] = history
    return value


_LISTS = ("Env", "Cmd", "Entrypoint", "OnBuild", "Shell")
_TEXTS = ("User", "WorkingDir", "StopSignal", "Hostname", "Domainname")
_MAPS = ("ExposedPorts", "Volumes", "Labels")


def _check_config(config: dict[str, Any]) -> None:
    """The types the engine relies on; a malformed image is refused when it comes in, not when it runs."""
    for name in _LISTS:
        value = config.get(name)
        if isinstance(value, str) and name in ("Cmd", "Entrypoint"):
            config[name] = value = [value]
        if value is not None and not (isinstance(value, list) and all(isinstance(item, str) for item in value)):
            raise InvalidArgument(f"invalid image config: {name} is not a list of strings")
        if value is not None and any("\0" in item for item in value):
            raise InvalidArgument(f"invalid image config: {name} holds a NUL byte")
    for name in _TEXTS:
        if not isinstance(config.get(name) or "", str):
            raise InvalidArgument(f"invalid image config: {name} is not a string")
    for name in _MAPS:
        value = config.get(name)
        _object({} if value is None else value, f"image config: {name}")


def chain_ids(diff_ids: list[str]) -> list[str]:
    """The chain id after each layer: the layer together with all below it. image-spec config.md "Layer ChainID"."""
    chain: list[str] = []
    for diff_id in diff_ids:
        hex_of(diff_id)
        joined = f"{chain[-1]} {diff_id}" if chain else diff_id
        chain.append(PREFIX + hashlib.sha256(joined.encode()).hexdigest() if chain else joined)
    return chain


def machine_architecture(machine: str) -> str:
    """`x86_64` -> `amd64`: Go's name of a uname machine."""
    return {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}.get(machine, machine)
