"""An image store and its dealings with registries without a daemon around them, for tests of pull and push.

    with own_distribution() as local:
        messages, error = local.pull("127.0.0.1:5000/a/b", "v1")
"""

import asyncio
import contextlib
import json
import os
import shutil
import tempfile

from registry_server import digest_of

from corten.base.errors import Error
from corten.base.paths import Layout
from corten.engine.db import Database
from corten.engine.distribution import Distribution
from corten.engine.events import Events
from corten.image.store import ImageStore
from corten.oci.image_spec import DOCKER_LAYER, Descriptor
from corten.registry.auth import Credentials
from corten.registry.settings import Settings


class Local:
    """One store. Each call runs a loop of its own, so connections are not kept between calls."""

    def __init__(self, folder, settings):
        self.folder = folder
        self.settings = settings
        layout = Layout(f"{folder}/data", f"{folder}/run")
        layout.make()
        self.events = Events()
        self.database = Database(layout.database)
        self.store = ImageStore(layout, self.database)
        self.store.start()

    def run(self, operation):
        """`operation(distribution)` to its end."""

        async def whole():
            distribution = Distribution(self.store, self.events, self.settings)
            try:
                return await operation(distribution)
            finally:
                await distribution.close()

        return asyncio.run(whole())

    def pull(self, name, tag="", platform="", credentials=None):
        return self.run(lambda d: told(d.pull(name, tag, platform, credentials or Credentials())))

    def push(self, name, tag="", credentials=None, platform=None):
        return self.run(lambda d: told(d.push(name, tag, credentials or Credentials(), platform)))

    def left_behind(self):
        """Half-made things: ingest files, staging folders."""
        return os.listdir(f"{self.store.content.root}/ingest") + [
            name for name in os.listdir(self.store.snapshots.root) if name.startswith("new-")
        ]


async def told(beginning):
    """(messages, the error that ended them or None)."""
    messages = []
    try:
        async for message in await beginning:
            messages.append(message)
    except (Error, OSError) as error:
        return messages, error
    return messages, None


def statuses(messages):
    return [message["status"] for message in messages if "status" in message]


def built(local, name, *tars):
    """An image as a build leaves it: layers uncompressed, no manifest."""
    content = local.store.content
    config = {"architecture": "amd64", "os": "linux", "config": {"Cmd": ["x"]},
              "rootfs": {"type": "layers", "diff_ids": [digest_of(tar) for tar in tars]}}
    layers = [Descriptor(DOCKER_LAYER, content.add(tar), len(tar)) for tar in tars]
    return asyncio.run(local.store.register_image(b"", content.add(json.dumps(config).encode()), layers, [name]))


@contextlib.contextmanager
def own_distribution(**settings):
    """A `Local` in a folder of its own; keywords set attributes of Settings."""
    folder = tempfile.mkdtemp(prefix="corten-distribution-", dir="/var/tmp")
    mirrors = settings.pop("mirrors", None)
    chosen = Settings(mirrors)
    chosen.backoff_s = 0.01
    for name, value in settings.items():
        setattr(chosen, name, value)
    try:
        local = Local(folder, chosen)
        try:
            yield local
        finally:
            local.store.snapshots.flush()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
