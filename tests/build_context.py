"""Contexts of builds as tars, and the classic stream read back."""

import glob
import io
import json
import os
import re
import socket
import tarfile
import urllib.parse

FILES = {"a.txt": b"hi\n", "d/y": b"y\n", "d/sub/x": b"x\n"}


def archive(members, compression="", owner=0):
    """A tar of {name: bytes | None for a folder | ("link", target) | tarfile.TarInfo}."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode=f"w:{compression}") as tar:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.mtime, entry.mode, entry.uid, entry.gid = 1_000_000_000, 0o644, owner, owner
            if content is None:
                entry.type, entry.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(entry)
            elif isinstance(content, tarfile.TarInfo):
                content.name = name
                tar.addfile(content)
            elif isinstance(content, tuple):
                entry.type, entry.linkname = tarfile.SYMTYPE, content[1]
                tar.addfile(entry)
            else:
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
    return data.getvalue()


class Outcome:
    """One build: HTTP status, the messages, the text of the stream, the error, the last image's id."""

    def __init__(self, answer):
        self.status = answer.status
        self.messages = [json.loads(line) for line in answer.body.split(b"\r\n") if line] if answer.status == 200 else []
        self.refusal = answer.json["message"] if answer.status != 200 else ""
        self.text = "".join(message.get("stream", "") for message in self.messages)
        self.errors = [message for message in self.messages if "error" in message]
        self.error = self.errors[0]["error"] if self.errors else ""
        ids = [message["aux"]["ID"] for message in self.messages if "aux" in message]
        self.image = ids[-1] if ids else ""

    @property
    def shape(self):
        """The stream with ids replaced, as one compares it."""
        return re.sub(r"\b[0-9a-f]{12}\b", "<id>", self.text)


def build(engine, text, files=None, compression="", **query):
    """POST /build; query values that are dicts become JSON."""
    members = {"d": None, "d/sub": None, **FILES} if files is None else files
    data = archive({**members, "Dockerfile": text.encode()}, compression)
    pairs = [(key, json.dumps(value) if isinstance(value, dict) else value) for key, value in query.items()]
    url = "/build?" + urllib.parse.urlencode(pairs, doseq=True)
    return Outcome(engine.api("POST", url, data, headers={"Content-Type": "application/x-tar"}))


def begin(engine, text, query=""):
    """Send a build and leave its answer unread: the socket."""
    data = archive({"Dockerfile": text.encode()})
    client = socket.socket(socket.AF_UNIX)
    client.connect(engine.socket)
    head = f"POST /build?rm=1&nocache=1&{query} HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-tar\r\n"
    client.sendall(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
    return client


def build_folders(engine):
    """What builds have on the disk at this moment."""
    regions = glob.glob(f"{engine.folder}/data/snapshots/regions/*/*")
    here = set(os.listdir(f"{engine.folder}/data/build")) - {"folders"}  # those stay from build to build
    return [*here, *map(os.path.basename, regions)]
