"""docker buildx, or what stands in its place, on one engine and in a folder with a context."""

import os
import subprocess


class Client:
    """buildx on one engine, in a folder with a context."""

    def __init__(self, plugin, engine, folder):
        self.plugin, self.engine, self.context = plugin, engine, folder / "context"
        self.context.mkdir()
        self.environment = {**os.environ, "DOCKER_HOST": f"unix://{engine.socket}", "DOCKER_CONFIG": str(folder / "config"),
                            "BUILDX_CONFIG": str(folder / "buildx"), "TOKEN": "from the environment"}

    def write(self, **files):
        for name, text in files.items():
            (self.context / name).write_text(text)

    def build(self, dockerfile, *flags, code=0):
        """Its progress, as plain text."""
        (self.context / "Dockerfile").write_text(dockerfile)
        done = subprocess.run([self.plugin, "build", "--progress=plain", *flags, self.context], env=self.environment,
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=280)
        assert done.returncode == code, done.stderr
        return done.stderr

    def bake(self, *flags):
        """Its progress, as plain text."""
        done = subprocess.run([self.plugin, "bake", "--progress=plain", *flags], env=self.environment, cwd=self.context,
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=280)
        assert done.returncode == 0, done.stderr
        return done.stderr

    def run(self, image, *command):
        return self.engine.docker("run", "--rm", image, *command).stdout
