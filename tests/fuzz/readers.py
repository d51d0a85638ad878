"""What strangers write, mutated with an eye on which branches it reaches: tar, names, manifests, configs, challenges.

    make fuzz SECONDS=60                    (needs atheris: pip install atheris)
    python tests/fuzz/readers.py -max_total_time=600 CORPUS_FOLDER

Each reader answers with a result or with an error of ours; anything else is a find, and libFuzzer keeps the input. The
first byte of an input chooses the reader. Hypothesis does the same without coverage in tests/unit/test_image_fuzz.py.
"""

import bz2
import gzip
import io
import json
import lzma
import os
import sys
import tarfile

import atheris

with atheris.instrument_imports(include=["corten"]):
    from corten.base.errors import Error
    from corten.image.inflate import StreamSource, chunks_of
    from corten.image.tar_reader import REGULAR, Reader, parse_pax
    from corten.oci.distribution_spec import parse_challenges, parse_content_range, parse_errors, parse_upload_range
    from corten.oci.image_spec import (
        OCI_CONFIG,
        OCI_INDEX,
        OCI_LAYER,
        OCI_MANIFEST,
        parse_config,
        parse_index,
        parse_manifest,
        raw_entries,
    )
    from corten.oci.platform import parse_platform
    from corten.oci.reference import parse
    from corten.registry.auth import parse_header

LIMIT = 1 << 20


def tar(data):
    """All members, their bytes read or passed over."""
    source = StreamSource((data[at:at + 777] for at in range(0, len(data), 777)), LIMIT)
    reader = Reader(source)
    for number, entry in enumerate(reader):
        assert entry.size >= 0 and b"\0" not in entry.name and entry.name, entry.name
        if entry.kind == REGULAR and number % 2 and entry.size <= LIMIT:
            assert len(reader.read(entry.size)) == entry.size
    source.finish()


def inflated(data):
    """A member compressed in one of the four ways; the second byte says which is believed."""
    kind = ("gzip", "zstd", "bzip2", "xz")[data[0] % 4] if data else "gzip"
    descriptor = os.memfd_create("fuzz")
    try:
        os.write(descriptor, data[1:])
        os.lseek(descriptor, 0, os.SEEK_SET)
        left = 8 << 20
        for chunk in chunks_of(descriptor, kind):
            left -= len(chunk)
            if left < 0:
                break
    finally:
        os.close(descriptor)


def name(data):
    """A reference means the same when it is read again in full."""
    found = parse(data.decode("utf-8", "surrogateescape"))
    assert parse(found.full()).full() == found.full()


def text_of(reader):
    return lambda data: reader(data.decode("utf-8", "surrogateescape"))


READERS = [
    tar, inflated, name, parse_pax, parse_manifest, parse_index, parse_config, raw_entries, text_of(parse_platform),
    text_of(parse_challenges), text_of(parse_content_range), text_of(parse_upload_range),
    parse_errors, text_of(parse_header),
]


def seeds():
    """A sound input for each reader, with the byte that chooses it."""
    for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=form) as archive:
            for member, kind in (("f", b"0"), ("d", b"5"), ("l", b"2"), ("h", b"1"), ("n/" * 40 + "long", b"0")):
                info = tarfile.TarInfo(member)
                info.type, info.linkname, info.size = kind, "f" if kind in b"12" else "", 700 if kind == b"0" else 0
                info.pax_headers = {"SCHILY.xattr.user.k": "v"} if form == tarfile.PAX_FORMAT else {}
                archive.addfile(info, io.BytesIO(bytes(info.size)))
        yield b"\0" + out.getvalue()
    for kind, data in enumerate((gzip.compress(b"x" * 99), b"", bz2.compress(b"x" * 99), lzma.compress(b"x" * 99))):
        yield bytes((1, kind)) + data
    digest = "sha256:" + "0" * 64
    part = {"mediaType": OCI_CONFIG, "digest": digest, "size": 9, "platform": {"os": "linux", "architecture": "arm64"}}
    manifest = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": part, "layers": [part | {"mediaType": OCI_LAYER}]}
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [part | {"mediaType": OCI_MANIFEST}]}
    config = {"architecture": "amd64", "os": "linux", "config": {"Env": ["A=b"], "Cmd": ["x"], "Labels": {"a": "b"}},
              "history": [{"created_by": "x"}], "rootfs": {"type": "layers", "diff_ids": [digest]}}
    for at, text in enumerate((
        f"ghcr.io:5000/a/b_c:v1@{digest}", "30 mtime=1350244992.023960108\n", json.dumps(manifest), json.dumps(index),
        json.dumps(config), json.dumps(index), "linux/arm/v7", 'Bearer realm="https://x/t",service="x",scope="a:b:pull"',
        "bytes 0-9/10", "0-9", '{"errors":[{"code":"DENIED","message":"no"}]}', "eyJ1c2VybmFtZSI6ImEifQ==",
    ), 2):
        yield bytes((at,)) + text.encode()


def one(data):
    """One input."""
    if not data:
        return
    try:
        READERS[data[0] % len(READERS)](data[1:])
    except Error:
        pass


def main():
    folder = sys.argv[-1]
    if len(sys.argv) > 1 and os.path.isdir(folder) and not os.listdir(folder):
        for number, data in enumerate(seeds()):
            with open(f"{folder}/seed-{number}", "wb") as out:
                out.write(data)
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
