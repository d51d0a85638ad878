"""Attributes of exporters, read and judged before anything is built: what is known and not done is refused by name.

Source: docs.docker.com/build/exporters; moby/buildkit exporter/containerimage/exptypes, exporter/local.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from corten.base.errors import InvalidArgument, Unsupported
from corten.image.recompress import Compression

KINDS = ("image", "docker", "oci", "local", "tar")
_TRUE, _FALSE = ("true", "1", "t"), ("", "false", "0", "f")
_FLAGS = {
    "image": ("load",  # into the engine, which is where it is made; compose's own builder says so
              "push", "registry.insecure", "store", "unpack", "push-by-digest", "name-canonical",
              "danging-name-empty-only", "oci-mediatypes", "force-compression", "rewrite-timestamp",
              "attestation-inline", "prefer-nondist-layers"),
    "docker": ("tar", "oci-mediatypes", "force-compression", "rewrite-timestamp", "prefer-nondist-layers"),
    "oci": ("tar", "oci-mediatypes", "force-compression", "rewrite-timestamp", "attestation-inline",
            "prefer-nondist-layers"),
    "local": ("platform-split",), "tar": ("platform-split",),
}
_TEXTS = {
    "image": ("dangling-name-prefix", "compression", "compression-level"),
    "docker": ("compression", "compression-level"), "oci": ("compression", "compression-level"),
    "local": ("mode",), "tar": (),
}
# of no effect on what is made here, or done by the client itself
_IDLE = frozenset(("name", "dest", "context", "prefer-image-digest", "buildinfo-attrs", "buildinfo"))


def kind_of(exporter: Any) -> str:
    """Of an exporter the client asks for. Raises Unsupported."""
    kind = "image" if exporter.Type == "moby" else str(exporter.Type)
    if kind not in KINDS:
        raise Unsupported(f"the exporter {exporter.Type} is not there: --output type={exporter.Type}")
    return kind


def flag(attributes: Mapping[str, str], name: str, default: bool = False) -> bool:
    """A boolean attribute. Raises InvalidArgument."""
    text = attributes.get(name, str(default)).lower()
    if text not in (*_TRUE, *_FALSE):
        raise InvalidArgument(f"non-bool value specified for {name}: {text}")
    return text in _TRUE


def compression(kind: str, attributes: Mapping[str, str], oci: bool) -> Compression:
    """How an image exporter's layers shall be; unless it says so, an archive's stay as they are kept.

    Raises InvalidArgument, Unsupported.
    """
    usual = "gzip" if kind == "image" else ""
    return Compression(attributes.get("compression") or usual, attributes.get("compression-level", ""),
                       force=flag(attributes, "force-compression"), oci=oci)


def check(exporters: Iterable[Any], platforms: int, epoch: int | None, attested: str) -> None:
    """Refuse what cannot be done before anything is built. Raises Unsupported, InvalidArgument.

    `platforms`: how many are built for; `attested`: "inline", "always" or "" for how provenance is wanted.
    """
    for exporter in exporters:
        kind, attributes = kind_of(exporter), dict(exporter.Attrs)
        for name, value in attributes.items():
            _check_one(kind, name, value, attributes, epoch)
        if kind in ("image", "docker", "oci"):
            oci = flag(attributes, "oci-mediatypes", True)
            compression(kind, attributes, oci)
            inline = any(flag(attributes, name) for name in ("push", "push-by-digest", "attestation-inline"))
            index = platforms > 1 or attested == "always" or (attested == "inline" and inline and oci)
            if not index and any(name.startswith("annotation-index") for name in attributes):
                raise InvalidArgument("index annotations not supported for single platform export")
        if kind == "docker" and platforms > 1:
            raise InvalidArgument("docker exporter does not support exporting manifest lists, use the oci exporter "
                                  "instead")
        if kind in ("local", "tar") and platforms > 1 and not flag(attributes, "platform-split", True):
            raise Unsupported(f"platform-split=false of the exporter {kind} is not done for several platforms")


def _check_one(kind: str, name: str, value: str, attributes: Mapping[str, str], epoch: int | None) -> None:
    if name in _IDLE or name.startswith("annotation"):
        return
    if name in _FLAGS[kind]:
        flag(attributes, name)
    elif name == "source-date-epoch":
        if value and value != str(epoch):
            raise Unsupported(f"source-date-epoch={value} of an exporter is not done: SOURCE_DATE_EPOCH of the build "
                              "is the time of all that it makes")
    elif name == "mode" and kind == "local":
        if value not in ("", "copy"):
            raise Unsupported(f"mode={value} is not done yet by the exporter local")
    elif name not in _TEXTS[kind] and value.lower() not in _FALSE:
        raise Unsupported(f"the attribute {name}={value} of the exporter {kind} is not done yet")
