"""What the store writes down of layers and images, and the Image everybody else is handed. Data only."""

from typing import Any

import msgspec

from corten.oci.image_spec import Descriptor


class LayerRecord(msgspec.Struct):
    """One unpacked layer on its place in a chain; key of table `layer` is `chain_id`."""

    chain_id: str
    diff_id: str
    snapshot: str  # short name of its folder
    size: int  # bytes of its files
    blob: str  # digest of its tar as it came in
    disk: int = 0  # bytes its folder takes on the disk
    gzip: str = ""  # digest of its tar compressed for a push, once that was asked for


class Blob(msgspec.Struct):
    """A layer's blob as an image's manifest names it."""

    media_type: str
    digest: str
    size: int

    def descriptor(self) -> Descriptor:
        """As the spec has it."""
        return Descriptor(self.media_type, self.digest, self.size)


class ImageRecord(msgspec.Struct):
    """One image; key of table `image_record` is `id`, the digest of its config blob."""

    id: str
    chain_ids: list[str]
    blobs: list[Blob]
    manifest: str = ""  # digest of the manifest it was pulled with
    pushed: str = ""  # digest of the manifest made for pushing it, when it was not pulled
    parent: str = ""  # the image it was built or committed on, here
    added_ns: int = 0
    tagged_ns: int = 0
    part: bool = False  # one layer of a build alone, for images to be made with; shown to nobody
    kept: list[str] = []  # an index of several platforms that it came with, and all blobs below that (platforms.py)
    among: str = ""  # the image whose index it came in, when only a platform of that was asked for


class NameRecord(msgspec.Struct):
    """One name; key of table `image` is the full reference (`docker.io/library/busybox:latest`, or `…@sha256:…`)."""

    id: str


class Image:
    """An image on this machine. Treat as read-only; the store keeps it true while names come and go.

    `id`: "sha256:<digest of the config>". `config`: the whole OCI image config ("config", "rootfs", "history", …).
    `layers`: short snapshot names, bottom first. `names`: familiar tags (`busybox:latest`), in order of the full
    references; `digests`: familiar `name@sha256:…`. `size`: bytes of all files. `is_host`: this machine's own /usr
    (host.py).
    """

    __slots__ = ("config", "digests", "id", "is_host", "layers", "names", "record", "size")

    def __init__(self, record: ImageRecord, config: dict[str, Any], layers: list[str], size: int,
                 is_host: bool = False) -> None:
        self.id = record.id
        self.record = record
        self.config = config
        self.layers = layers
        self.size = size
        self.is_host = is_host
        self.names: list[str] = []
        self.digests: list[str] = []

    @property
    def container_config(self) -> dict[str, Any]:
        """What containers inherit: Env, Cmd, Entrypoint, …"""
        found = self.config.get("config")
        return found if isinstance(found, dict) else {}

    @property
    def diff_ids(self) -> list[str]:
        """Digests of the uncompressed layers, bottom first."""
        return list(self.config["rootfs"]["diff_ids"])
