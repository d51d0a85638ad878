"""What strangers write, mutated: readers answer with a result or with an error of ours, whatever comes."""

import copy
import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import corten
from corten.base.errors import Error, InvalidArgument
from corten.image.inflate import MapSource, StreamSource
from corten.image.tar_reader import BLOCK, HEADER_LIMIT, REGULAR, Reader, parse_pax
from corten.oci.distribution_spec import parse_challenges, parse_content_range, parse_errors, parse_upload_range
from corten.oci.image_spec import chain_ids, parse_config, parse_index, parse_manifest
from corten.oci.reference import parse
from corten.registry.auth import credentials_from, parse_header

DIGEST = "sha256:" + "0123456789abcdef" * 4


# --- tar


def seeds():
    """Sound archives of every dialect; all members are small."""
    found = []
    for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=form) as tar:
            for name, kind, data in (
                ("plain", tarfile.REGTYPE, b"x" * 700), ("d/", tarfile.DIRTYPE, b""), ("l", tarfile.SYMTYPE, b""),
                ("h", tarfile.LNKTYPE, b""), ("c", tarfile.CHRTYPE, b""),
                *((("n/" * 60 + "long", tarfile.REGTYPE, b"y" * 512),) if form != tarfile.USTAR_FORMAT else ()),
            ):
                info = tarfile.TarInfo(name)
                info.type, info.size, info.linkname, info.mtime = kind, len(data), "plain" if kind in (b"1", b"2") else "", 7
                if form == tarfile.PAX_FORMAT:
                    info.pax_headers = {"SCHILY.xattr.user.k": "v", "comment": "c" * 100}
                tar.addfile(info, io.BytesIO(data))
        found.append(out.getvalue())
    return found


SEEDS = seeds()


def chunks_of(data, size):
    return (data[at:at + size] for at in range(0, len(data), size))


def read_all(source):
    """Members with their bytes, or the error that ended it."""
    found = []
    try:
        reader = Reader(source)
        for entry in reader:
            data = bytes(reader.read(entry.size)) if entry.kind == REGULAR and entry.size < 1 << 20 else b""
            found.append((entry.name, entry.kind, entry.link, entry.mode, entry.uid, entry.size, entry.mtime_ns, data))
        source.finish()
    except Error as error:
        found.append(str(error))
    return found


def both_ways(data):
    streamed = read_all(StreamSource(chunks_of(data, 700), 1 << 30, hashed=False))
    descriptor = os.memfd_create("tar")
    try:
        os.write(descriptor, data)
        mapped = read_all(MapSource(descriptor))
    finally:
        os.close(descriptor)
    assert streamed == mapped
    assert sum(len(member[-1]) for member in streamed if isinstance(member, tuple)) <= len(data)
    return streamed


def with_sums(data):
    """The checksum of every block that calls itself a header made right, so that a mutation gets past it."""
    data = bytearray(data)
    for at in range(0, len(data) - BLOCK + 1, BLOCK):
        if data[at + 257:at + 262] == b"ustar":
            data[at + 148:at + 156] = b" " * 8
            data[at + 148:at + 156] = b"%06o\0 " % sum(data[at:at + BLOCK])
    return bytes(data)


def test_seeds_are_read_as_tarfile_reads_them():
    for data in SEEDS:
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            theirs = [(info.name.rstrip("/"), info.size if info.isreg() else 0) for info in tar]
        assert [(name.decode().rstrip("/"), size) for name, _, _, _, _, size, _, _ in both_ways(data)] == theirs


@settings(max_examples=300)
@given(st.sampled_from(SEEDS), st.lists(st.tuples(st.integers(0, 1 << 14), st.integers(0, 255)), max_size=6),
       st.booleans(), st.integers(0, 1 << 14))
def test_mutated_tars(data, edits, right_sums, end):
    changed = bytearray(data)
    for at, value in edits:
        changed[at % len(changed)] = value
    changed = bytes(changed[:end] if end < len(changed) and end % 3 == 0 else changed)
    both_ways(with_sums(changed) if right_sums else changed)


@settings(max_examples=300)
@given(st.sampled_from(SEEDS), st.integers(0, 20), st.sampled_from(
    [(0, 100), (100, 8), (108, 8), (116, 8), (124, 12), (136, 12), (156, 1), (157, 100), (257, 8), (329, 8), (345, 155)]),
    st.binary(max_size=12))
def test_mutated_fields(data, block, field, value):
    """One field of one header replaced: sizes that lie, kinds nobody knows, numbers of every base."""
    offset, length = field
    at = block * BLOCK % len(data) + offset
    changed = bytearray(data)
    changed[at:at + length] = value[:length].ljust(length, b"\0")
    both_ways(with_sums(changed[:len(data)]))


@given(st.binary(max_size=3000))
def test_any_bytes_as_a_tar(data):
    both_ways(data)


@given(st.one_of(st.binary(max_size=200), st.lists(st.binary(max_size=20), max_size=6).map(
    lambda parts: b"".join(b"%d %s=%s\n" % (len(part) + 7, b"key", part) for part in parts))))
def test_pax_records(data):
    try:
        assert all(b"=" not in key and key for key in parse_pax(data))
    except InvalidArgument:
        pass


def test_endless_headers_end():
    """Extended headers one after the other are bounded together, whichever dialect they are of."""
    for kind in (b"x", b"g", b"L", b"K"):
        info = tarfile.TarInfo("h")
        info.type, info.size = kind, 59_999
        body = (b"59999 k=" + b"v" * 59_990 + b"\n").ljust(60_416, b"\0")
        data = (info.tobuf() + body) * (HEADER_LIMIT // 60_000 + 2)
        assert "extended headers above" in both_ways(data)[-1]


# --- documents

DIGESTS = st.sampled_from([DIGEST, "sha256:../../etc/passwd", "sha512:" + "0" * 128, "sha256:" + "0" * 63, "", "md5:1", "sha256:" + "G" * 64])
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(-(1 << 70), 1 << 70), st.floats(allow_nan=False), st.text(max_size=8), DIGESTS)
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3), max_leaves=6)
DESCRIPTOR = {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": DIGEST, "size": 5, "annotations": {"a": "b"},
              "platform": {"os": "linux", "architecture": "arm64", "variant": "v8", "os.features": ["x"]}}
MANIFEST = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {**DESCRIPTOR, "mediaType": "application/vnd.oci.image.config.v1+json"}, "layers": [DESCRIPTOR, DESCRIPTOR]}
INDEX = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [DESCRIPTOR]}
CONFIG = {"architecture": "amd64", "os": "linux", "created": "2024-01-01T00:00:00Z", "author": "a", "comment": "c",
          "config": {"Env": ["A=b"], "Cmd": ["x"], "Entrypoint": ["e"], "Labels": {"l": "m"}, "User": "5", "WorkingDir": "/w",
                     "Volumes": {"/v": {}}, "ExposedPorts": {"80/tcp": {}}, "Healthcheck": {"Test": ["NONE"]}, "OnBuild": ["RUN x"]},
          "history": [{"created": "2024-01-01T00:00:00Z", "created_by": "x", "empty_layer": True}],
          "rootfs": {"type": "layers", "diff_ids": [DIGEST]}}


@st.composite
def mutated(draw, document):
    """A document with a few of its values replaced or dropped, wherever they are."""
    document = copy.deepcopy(document)
    for _ in range(draw(st.integers(0, 3))):
        place = document
        while True:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            if isinstance(place[key], dict | list) and place[key] and draw(st.booleans()):
                place = place[key]
                continue
            if draw(st.integers(0, 4)) == 0:
                del place[key]
            else:
                place[key] = draw(JSON)
            break
    return json.dumps(document).encode()


def is_ours(action):
    """The result of an action, None when it ended with an error of ours."""
    try:
        return action()
    except Error:
        return None


@given(mutated(MANIFEST))
def test_mutated_manifests(data):
    manifest = is_ours(lambda: parse_manifest(data))
    for descriptor in [manifest.config, *manifest.layers] if manifest else ():
        assert descriptor.digest.startswith("sha256:") and len(descriptor.digest) == 71 and descriptor.size >= 0


@given(mutated(INDEX))
def test_mutated_indexes(data):
    assert all("/" not in entry.digest for entry in is_ours(lambda: parse_index(data)) or ())


@given(mutated(CONFIG))
def test_mutated_configs(data):
    config = is_ours(lambda: parse_config(data))
    if config is not None:
        assert all(len(chain) == 71 for chain in chain_ids(config["rootfs"]["diff_ids"]))


@given(st.binary(max_size=400))
def test_any_bytes_as_a_document(data):
    for read in (parse_manifest, parse_index, parse_config):
        assert is_ours(lambda read=read: read(data)) is None


def test_a_document_that_says_two_things_is_refused():
    """Parsers differ in which of two equal keys counts, and in what may follow; ours takes neither."""
    for text in ('{"schemaVersion":2,"schemaVersion":2,', '{"schemaVersion":2} {'):
        data = text.encode() + json.dumps(MANIFEST).encode()[1:]
        assert is_ours(lambda data=data: parse_manifest(data)) is None
    assert is_ours(lambda: parse_manifest(json.dumps({**MANIFEST, "manifests": [DESCRIPTOR]}).encode())) is None


# --- texts


@given(st.one_of(st.text(max_size=60), st.text("abcA0:./@-_[]é ", max_size=40), st.tuples(
    st.text("ab.-:0", max_size=8), st.text("ab/._-", max_size=12), st.text("ab:@.", max_size=8), DIGESTS).map("/".join)))
def test_references_mean_one_thing(text):
    found = is_ours(lambda: parse(text))
    if found is not None:
        again = parse(found.full())
        assert again.full() == found.full() and parse(found.familiar()).full() == found.full()
        assert ".." not in found.path.split("/") and "\n" not in found.full()


@given(st.one_of(st.text(max_size=80), st.lists(st.sampled_from(
    ["Bearer ", "Basic ", "realm=", '"https://a/b"', "service=", '"', "\\", ",", " ", "scope=", "=", "é", "\x00"]), max_size=14).map("".join)))
def test_challenges(header):
    for challenge in parse_challenges(header):
        assert challenge is not None
    parse_content_range(header)
    is_ours(lambda: parse_upload_range(header))
    parse_errors(header.encode())


@given(st.one_of(st.text(max_size=60), st.binary(max_size=60).map(lambda data: data.decode("latin-1"))), JSON)
def test_logins(header, fields):
    parse_header(header)
    is_ours(lambda: credentials_from(fields))


@pytest.mark.parametrize("text", ['"#', '{"a": "\\x"}', "{1: 2}", '["\x01"]', "[1,]", "{", '"\\ud800'])
def test_bad_json_is_an_error_of_ours_where_json_is_not_imported(text):
    """The C scanner raises `json.decoder.JSONDecodeError`, and nothing at all when that module is not there."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\nfrom corten.base.errors import InvalidArgument\n"
        "from corten.base.files import parse_json\nassert 'json' not in sys.modules\n"
        "try:\n    parse_json(sys.argv[2].encode())\nexcept InvalidArgument:\n    print('refused')\n")
    done = subprocess.run([sys.executable, "-IS", "-c", code, str(Path(corten.__file__).parents[1]), text],
                          capture_output=True, text=True, timeout=60)
    assert done.stdout == "refused\n", done.stderr
