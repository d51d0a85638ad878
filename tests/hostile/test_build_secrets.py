"""A secret that a step was lent is nowhere afterwards: not in caches sent elsewhere, archives, history, logs, metadata."""

import base64
import gzip
import os
import zlib

import pytest
import zstandard
from build_command import Builder
from registry_server import running_registry

TEXT = """FROM busybox AS one
RUN --mount=type=secret,id=token --mount=type=secret,id=token,env=TOKEN --mount=type=secret,id=word,env=WORD \
    test -n "$TOKEN" && test -n "$WORD" && md5sum /run/secrets/token >/sum
FROM busybox
COPY --from=one /sum /sum
RUN --mount=type=secret,id=token,target=/etc/token,mode=0444 test -s /etc/token && echo done >/done
"""


@pytest.fixture
def builder(engine, tmp_path):
    return Builder(engine, tmp_path)


def unpacked(data):
    """The bytes, and what they are when they are compressed."""
    yield data
    try:
        if data[:2] == b"\x1f\x8b":
            yield gzip.decompress(data)
        elif data[:4] == b"\x28\xb5\x2f\xfd":
            yield zstandard.ZstdDecompressor().decompressobj().decompress(data)
    except (OSError, EOFError, zlib.error, zstandard.ZstdError):
        pass


def spellings(secret):
    """As it is, and in base64 wherever it may begin."""
    yield secret
    for shift in range(3):
        yield base64.b64encode(b"x" * shift + secret)[4:-4]


def places_of(secret, *folders):
    """Files below the folders that hold it, in whatever spelling."""
    found = []
    for top in folders:
        for folder, _, names in os.walk(top):
            for name in names:
                path = f"{folder}/{name}"
                if not os.path.isfile(path) or os.path.islink(path):
                    continue
                try:
                    with open(path, "rb") as file:
                        data = file.read()
                except OSError:
                    continue
                if any(spelled in text for text in unpacked(data) for spelled in spellings(secret)):
                    found.append(path)
    return found


def test_the_search_finds_what_is_there(tmp_path):
    secret = b"a-secret-of-some-length"
    (tmp_path / "a").write_bytes(gzip.compress(b"x" + base64.b64encode(b"ab" + secret)))
    (tmp_path / "b").write_bytes(b"other")
    (tmp_path / "c").write_bytes(zstandard.compress(b"k" + secret))
    assert sorted(places_of(secret, tmp_path)) == [f"{tmp_path}/a", f"{tmp_path}/c"]


def test_it_is_nowhere(builder, tmp_path, monkeypatch):
    token, word = (os.urandom(16).hex().encode() for _ in range(2))
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/token").write_bytes(token)
    builder.environment["WORD_HERE"] = word.decode()
    secrets = ("--secret", f"id=token,src={tmp_path}/outside/token", "--secret", "id=word,env=WORD_HERE")
    out = tmp_path / "out"
    out.mkdir()
    with running_registry() as registry:
        name = f"{registry.host}/team/app:1"
        told = builder.build(TEXT, "-t", name, "--push", *secrets, "--provenance", "mode=max", "--cache-to", "type=inline",
                             "--cache-to", f"type=registry,ref={registry.host}/team/cache:1,mode=max",
                             "--cache-to", f"type=local,dest={out}/cache,mode=max", "--metadata-file", out / "metadata",
                             "-o", f"type=oci,dest={out}/oci.tar", "-o", f"type=oci,dest={out}/layout,tar=false",
                             "-o", f"type=local,dest={out}/tree")
        assert (out / "tree/done").read_text() == "done\n" and len(list((out / "cache/blobs/sha256").iterdir())) >= 3
        builder.build(TEXT, "--progress=rawjson", *secrets, "--no-cache")
        image = builder.engine.api("GET", f"/images/{name}/json").body
        history = builder.engine.api("GET", f"/images/{name}/history").body
        usage = builder.engine.api("GET", "/system/df").body
        for secret in (token, word):
            for text in (told.encode(), image, history, usage, builder.engine.output().encode()):
                assert secret not in text
            assert places_of(secret, out, registry.folder, builder.engine.folder) == []
        builder.engine.api("DELETE", f"/images/{name}?force=1")


def test_an_empty_place_is_all_that_a_target_leaves(builder, tmp_path):
    """No file of a mount's target, and no folder of it either, is in the layers."""
    (tmp_path / "token").write_text("s3cret")
    builder.build("FROM busybox\nRUN --mount=type=secret,id=t,target=/deep/er/token cat /deep/er/token >/dev/null && touch /made\n",
                  "-o", f"type=local,dest={tmp_path}/tree", "--secret", f"id=t,src={tmp_path}/token")
    assert (tmp_path / "tree/made").exists() and not (tmp_path / "tree/deep/er/token").exists()
    assert not (tmp_path / "tree/run/secrets").exists()


def test_two_secrets_are_one_step_of_the_cache(builder, tmp_path):
    """What a secret says decides nothing: else the cache's keys would tell of it."""
    text = "FROM busybox\nRUN --mount=type=secret,id=t cat /proc/sys/kernel/random/uuid >/id\n"
    found = []
    for word in ("one", "two"):
        (tmp_path / "token").write_text(word)
        builder.build(text, "-o", f"type=local,dest={tmp_path}/{word}", "--secret", f"id=t,src={tmp_path}/token")
        found.append((tmp_path / word / "id").read_text())
    assert found[0] == found[1]
