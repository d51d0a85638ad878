"""`corten build` for tests: a context, the command on an engine, what the engine keeps on the disk."""

import os
import subprocess
import sys
import time


class Builder:
    """Builds in `folder`/context by our own command."""

    def __init__(self, engine, folder):
        self.engine, self.context = engine, folder / "context"
        self.context.mkdir(exist_ok=True)
        self.environment = {**os.environ, "DOCKER_CONFIG": str(folder / "config"), "DOCKER_BUILDKIT": "1"}

    def _command(self, flags):
        return [sys.executable, "-m", "corten.cli", "-H", f"unix://{self.engine.socket}", "build", "--progress=plain", *map(str, flags),
                str(self.context)]

    def build(self, dockerfile, *flags, code=0):
        """What it says."""
        (self.context / "Dockerfile").write_text(dockerfile)
        done = subprocess.run(self._command(flags), env=self.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=280)
        assert done.returncode == code, done.stderr + done.stdout
        return done.stderr

    def start(self, dockerfile, *flags):
        """The same in the background; its stderr is a pipe."""
        (self.context / "Dockerfile").write_text(dockerfile)
        return subprocess.Popen(self._command(flags), env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                stderr=subprocess.PIPE, text=True)

    def run(self, image, *command):
        container = self.engine.run(*command, Image=image)
        self.engine.wait(container)
        text = self.engine.logs(container)
        self.engine.api("DELETE", f"/containers/{container}?force=1")
        return text

    def forget(self, *images):
        """Everything that can be made free, but these images."""
        for row in self.engine.api("GET", "/images/json").json:
            for name in row["RepoTags"] or [row["Id"]]:
                if name not in images:
                    self.engine.api("DELETE", f"/images/{name}?force=1")
        self.engine.api("POST", "/build/prune?all=1")
        self.engine.api("POST", '/images/prune?filters={"dangling":["true"]}')


def kept(engine):
    """What the engine keeps on the disk of images and builds: blobs, layers, folders, whatever is half there."""
    found = set()
    for below in ("content/blobs/sha256", "content/ingest", "snapshots", "build", "build/folders", "build-caches", "containers", "tmp"):
        path = f"{engine.folder}/data/{below}"
        if os.path.isdir(path):
            found |= {f"{below}/{name}" for name in os.listdir(path) if not name.startswith(("host-", "regions", "empty", "folders"))}
    return found


def until(condition, what, seconds=60):
    """Wait until it is true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what() if callable(what) else what
        time.sleep(0.05)
