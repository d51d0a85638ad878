"""What attests to a build's images: provenance, out of what the build was asked for, took and did."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from corten.base.errors import Error
from corten.build.provenance import VERSIONS, Asked, Facts, package_url, predicate
from corten.engine.build_manifest import Attestation
from corten.engine.builds import BuiltImage
from corten.oci import reference
from corten.oci.platform import Platform

if TYPE_CHECKING:
    from corten.engine.engine import Engine


class Record:
    """What the front end knows of a build: its attributes, times (ns since 1970), Dockerfile, local folders."""

    def __init__(self, invocation: str, attributes: Mapping[str, str]) -> None:
        self.invocation, self.attributes = invocation, dict(attributes)
        self.started_ns = self.finished_ns = 0
        self.dockerfile: tuple[str, bytes] = ("Dockerfile", b"")
        self.locals: list[str] = []


def provenance(engine: "Engine", asked: Asked, record: Record, built: BuiltImage) -> Attestation:
    """The provenance of one image."""
    facts = Facts(record.attributes, built.platform, record.invocation)
    facts.started_ns, facts.finished_ns = record.started_ns, record.finished_ns
    facts.dockerfile, facts.locals, facts.steps = record.dockerfile, record.locals, built.steps
    for (name, platform), (image_id, elsewhere) in sorted(built.bases.items(), key=lambda item: str(item[0])):
        digest = elsewhere or _digest(engine, name, image_id)
        facts.materials.append((_url(name, platform), digest))
        facts.sources[image_id] = f"docker-image://{_full(name)}@{digest}"
    facts.materials += sorted(built.fetched.items())
    return Attestation(VERSIONS[asked.version], predicate(asked, facts))


def subjects(names: list[str], platforms: Mapping[Platform, str]) -> dict[Platform, list[str]]:
    """The package URLs of images under full names, by platform."""
    return {platform: [package_url(name, platform) for name in names] for platform in platforms}


def _digest(engine: "Engine", name: str, image_id: str) -> str:
    """What a name's image is known by elsewhere; its id for one that is known nowhere else."""
    image = engine.images.store.get(image_id)
    if image is None:
        return image_id
    repository = _full(name).partition("@")[0].rpartition(":")[0]
    for known in image.digests:
        found = reference.parse(known)
        if found.name == repository:
            return found.digest
    return image.record.manifest or image_id


def _full(name: str) -> str:
    try:
        return reference.parse(name).with_default_tag().full()
    except Error:
        return name


def _url(name: str, platform: Platform) -> str:
    try:
        return package_url(name, platform)
    except Error:
        return f"docker-image://{name}"
