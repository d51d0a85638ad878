"""Images to and from registries: what `docker pull`, `push`, `login`, `search` and `manifest inspect` ask for.

It decides where to ask, with whose login and in which order, and tells the events; moving and checking content is
image.pull and image.push. Answers are streams of docker's progress messages; what fails before the first message is
raised, what fails later is raised out of the stream.
"""

from contextlib import suppress
from typing import Any

from corten.base.errors import Error, Forbidden, InvalidArgument, NotFound, Unsupported
from corten.engine.events import Events
from corten.engine.messages import Messages, Stream
from corten.engine.registry_search import search
from corten.engine.settings import DaemonConfig
from corten.image.host import refuse
from corten.image.progress import Emit, plain
from corten.image.pull import Puller, mismatch, translate
from corten.image.push import Pusher
from corten.image.records import Image
from corten.image.store import ImageStore
from corten.oci.image_spec import (
    CONFIG_LIMIT,
    INDEXES,
    OCI_INDEX,
    Descriptor,
    parse_config,
    parse_index,
    parse_manifest,
)
from corten.oci.platform import Platform, parse_platform, platform_of
from corten.oci.reference import DEFAULT_DOMAIN, Reference, parse, parse_with_tag
from corten.registry.auth import Credentials, credentials_from
from corten.registry.client import Client, Registries
from corten.registry.errors import RegistryNotFound, RegistryUnauthorized, Unreachable
from corten.registry.settings import HUB, Settings, registry_host


def settings_of(config: DaemonConfig) -> Settings:
    """What the daemon's flags say about registries. Raises InvalidArgument."""
    mirrors: dict[str, list[str]] = {}
    for text in config.registry_mirrors:
        domain, separator, url = text.partition("=")
        if not separator or "://" in domain:
            domain, url = DEFAULT_DOMAIN, text
        mirrors.setdefault(domain, []).append(url)
    for domain in mirrors:
        if parse(f"{domain}/x").domain != domain:
            raise InvalidArgument(f"invalid --registry-mirror: {domain!r} is not a registry's name")
    settings = Settings(mirrors, config.insecure_registries)
    settings.certificate_folders = (*config.registry_certs, *settings.certificate_folders)
    settings.search_url = config.search_url or settings.search_url
    settings.parallel_downloads = config.max_concurrent_downloads
    settings.parallel_uploads = config.max_concurrent_uploads
    settings.attempts = config.max_download_attempts
    return settings


class Distribution:
    """One daemon's dealings with registries. Make it inside the running loop's life; `close` at the end."""

    def __init__(self, store: ImageStore, events: Events, settings: Settings) -> None:
        self.registries = Registries(settings)
        self._store = store
        self._events = events
        self._puller = Puller(store)
        self._pusher = Pusher(store)

    async def close(self) -> None:
        """Close all connections."""
        await self.registries.close()

    # --- pull

    async def pull(self, name: str, tag: str, platform: str, credentials: Credentials) -> Messages:
        """Messages of a pull; `tag` may be a digest, and "" without one in `name` means every tag there is.

        Raises InvalidArgument (name, platform), Forbidden (scratch), NotFound, Unauthorized, Internal (no connection).
        """
        reference = parse_with_tag(name, tag)
        if reference.domain == DEFAULT_DOMAIN and reference.path == "library/scratch":
            raise Forbidden("'scratch' is a reserved name")
        wanted = parse_platform(platform) if platform else None

        async def work(emit: Emit) -> None:
            await self._pull(reference, wanted, credentials, emit)

        return await Stream(work).begin()

    async def _pull(
        self, reference: Reference, platform: Platform | None, credentials: Credentials, emit: Emit
    ) -> None:
        here = self._store.by_name(reference.with_default_tag().full())
        if here is not None and here.is_host:
            emit(plain(f"Status: Image is up to date for {reference.familiar()}"))
            return
        bases = self.registries.settings.bases(reference.domain)
        lacking = False  # a mirror knows no such image
        for at, base in enumerate(bases):
            try:
                client = await self.registries.client(base, reference.path, credentials)
                fresh = await self._pull_from(client, reference, platform, emit)
                break
            except Error as error:
                if at < len(bases) - 1:
                    lacking = lacking or isinstance(error, RegistryNotFound)
                elif lacking and isinstance(error, Unreachable):
                    raise NotFound(f"manifest for {reference.familiar()} not found: does not exist or no pull access: "
                                   f"{error}") from error
                else:
                    raise translate(error, reference) from error
        status = "Downloaded newer image" if fresh else "Image is up to date"
        emit(plain(f"Status: {status} for {reference.familiar()}"))

    async def _pull_from(
        self, client: Client, reference: Reference, platform: Platform | None, emit: Emit
    ) -> bool:
        """Whether anything was new; every tag when the reference names none."""
        if reference.tag or reference.digest:
            wanted = [reference]
        else:
            wanted = [reference.with_tag(tag) for tag in await client.tags()]
            if not wanted:
                raise NotFound(f"manifest for {reference.familiar()} not found: no tags")
        fresh = False
        for one in wanted:
            image, new = await self._puller.pull(client, one, platform, emit)
            fresh = fresh or new
            self._events.publish("image", "pull", one.familiar(), _attributes(image, one))
            if platform and (warning := mismatch(image, one, platform)):
                emit(plain(f"WARNING: {warning}"))
        return fresh

    async def bring(self, name: str, logins: dict[str, dict[str, str]], platform: str = "") -> None:
        """Pull to the end, shown to nobody: what a build's FROM needs. `logins`: address -> AuthConfig.

        Raises as `pull` and its stream.
        """
        reference = parse(name).with_default_tag()
        credentials = _login_of(logins, reference)
        async for _ in await self.pull(reference.full(), "", platform, credentials):
            pass

    async def fetch(self, name: str, logins: dict[str, dict[str, str]], platform: Platform) -> tuple[Image, str]:
        """(the image of a platform, the digest its name has at the registry), pulled without giving it a name here.

        Raises as `pull` and its stream.
        """
        reference = parse(name).with_default_tag()
        credentials = _login_of(logins, reference)
        bases = self.registries.settings.bases(reference.domain)
        for at, base in enumerate(bases):
            try:
                client = await self.registries.client(base, reference.path, credentials)
                image, _ = await self._puller.pull(client, reference, platform, _silent, named=False)
                top = await client.head_manifest(reference.digest or reference.tag)
                break
            except Error as error:
                if at == len(bases) - 1:
                    raise translate(error, reference) from error
        if text := mismatch(image, reference, platform):
            raise NotFound(text)
        return image, top.digest if top else ""

    # --- push

    async def push(
        self, name: str, tag: str, credentials: Credentials, platform: Platform | None = None
    ) -> Messages:
        """Messages of a push; `tag` "" means every tag of that name here; `platform` picks one of several.

        Raises InvalidArgument (name), Forbidden (the host image), NotFound (another platform).
        """
        reference = parse_with_tag(name, tag)
        if reference.digest:
            raise InvalidArgument("cannot import digest reference")
        for one, image in self._tagged(reference):
            refuse(image, "pushed")
            if platform and not image.record.kept and (text := mismatch(image, one, platform)):
                raise NotFound(text)  # of several platforms it is told later, as docker does

        async def work(emit: Emit) -> None:
            emit(plain(f"The push refers to repository [{reference.name}]"))
            await self._push(reference, credentials, platform, emit)

        return await Stream(work).begin()

    async def push_content(self, reference: Reference, top: Descriptor, credentials: Credentials) -> Messages:
        """Messages of a push of a manifest or an index in the store, whatever names it has here.

        A reference without a tag means: by its digest alone.
        """
        async def work(emit: Emit) -> None:
            client = await self.registries.client(
                registry_host(reference.domain), reference.path, credentials, "pull,push")
            await self._pusher.push_content(client, reference.tag or top.digest, top, emit)

        return await Stream(work).begin()

    def _tagged(self, reference: Reference) -> list[tuple[Reference, Image]]:
        """The tags here under the reference's name, or the one it has."""
        found = []
        for full, image_id in sorted(self._store.names.items()):
            if full.startswith(f"{reference.name}:") and "@" not in full:
                one = parse(full)
                if one.path == reference.path and reference.tag in ("", one.tag):
                    found.append((one, self._store.images[image_id]))
        return found

    async def _push(
        self, reference: Reference, credentials: Credentials, platform: Platform | None, emit: Emit
    ) -> None:
        found = self._tagged(reference)
        if not found:
            if reference.tag and self._tagged(reference.without_tag()):
                raise NotFound(f"tag does not exist: {reference.familiar()}")
            raise NotFound(f"An image does not exist locally with the tag: {reference.familiar_name()}")
        client = await self.registries.client(registry_host(reference.domain), reference.path, credentials, "pull,push")
        for one, image in found:
            digest, size = await self._pusher.push(client, one, image, emit, platform)
            emit(plain(f"{one.tag}: digest: {digest} size: {size}"))
            emit({"progressDetail": {}, "aux": {"Tag": one.tag, "Digest": digest, "Size": size}})
        self._events.publish("image", "push", reference.familiar(), _attributes(found[-1][1], reference))

    # --- the rest

    async def login(self, server_address: str, credentials: Credentials) -> dict[str, str]:
        """The answer to POST /auth. Raises Unauthorized, Internal, InvalidArgument."""
        client = await self.registries.client(_login_host(server_address), "", credentials)
        try:
            await client.login()
        except RegistryUnauthorized as error:
            raise RegistryUnauthorized(f'Get "{client.base}/v2/": {error}', error.status, error.code) from None
        return {"IdentityToken": "", "Status": "Login Succeeded"}

    async def inspect(self, name: str, credentials: Credentials) -> dict[str, Any]:
        """The answer to GET /distribution/{name}/json: what the registry has under a name, without pulling it.

        Raises InvalidArgument, NotFound, Unauthorized, Internal.
        """
        reference = parse(name).with_default_tag()
        bases = self.registries.settings.bases(reference.domain)
        for base in bases[:-1]:
            try:
                return await self._inspect(base, reference, credentials)
            except Error:
                continue
        return await self._inspect(bases[-1], reference, credentials)

    async def _inspect(self, base: str, reference: Reference, credentials: Credentials) -> dict[str, Any]:
        client = await self.registries.client(base, reference.path, credentials)
        wanted = reference.digest or reference.tag
        await client.head_manifest(wanted)  # asks for the login in docker's words
        data, described = await client.manifest(wanted)
        platforms: list[dict[str, Any]] = []
        if described.media_type in INDEXES:
            platforms = [entry.platform for entry in parse_index(data, described.media_type) if entry.platform]
        else:
            with suppress(Unsupported):  # an artifact, of no platform
                manifest = parse_manifest(data, described.media_type)
                described.media_type = described.media_type or manifest.media_type
                own = platform_of(parse_config(await client.small_blob(manifest.config, CONFIG_LIMIT)))
                platforms = [own.json()] if own else []
        return {"Descriptor": described.json(), "Platforms": platforms}

    async def referrers(self, name: str, artifact_type: str, credentials: Credentials) -> dict[str, Any]:
        """The answer to GET /distribution/{name}/referrers: an index of what refers to the manifest under a name.

        `artifact_type` "" means all. Raises InvalidArgument, NotFound, Unauthorized, Internal.
        """
        reference = parse(name).with_default_tag()
        client = await self.registries.client(registry_host(reference.domain), reference.path, credentials)
        digest = reference.digest
        if not digest:
            _, described = await client.manifest(reference.tag)
            digest = described.digest
        found = await client.referrers(digest)
        wanted = [entry for entry in found if artifact_type in ("", entry.get("artifactType", ""))]
        return {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": wanted}

    async def search(self, term: str, limit: int, filters: dict[str, list[str]]) -> list[dict[str, Any]]:
        """The answer to GET /images/search, asked of the hub. Raises InvalidArgument, Unsupported, Internal."""
        return await search(self.registries.transport, term, limit, filters)


def _attributes(image: Image, reference: Reference) -> dict[str, str]:
    labels = image.container_config.get("Labels") or {}
    return {**{key: str(value) for key, value in labels.items()}, "name": reference.familiar_name()}


def _silent(_message: dict[str, Any]) -> None:
    """For what nobody is shown."""


def _login_of(logins: dict[str, dict[str, str]], reference: Reference) -> Credentials:
    """The login (of address -> AuthConfig) for a reference's registry."""
    host = registry_host(reference.domain)
    found = [fields for address, fields in logins.items() if _login_host(address) == host]
    return credentials_from(found[0]) if found else Credentials()


def _login_host(address: str) -> str:
    """`https://index.docker.io/v1/` -> the hub's host; `127.0.0.1:5000` stays."""
    host = address.removeprefix("https://").removeprefix("http://").partition("/")[0]
    if host in ("", DEFAULT_DOMAIN, "index.docker.io", HUB):
        return HUB
    parse(f"{host}/x")
    return host
