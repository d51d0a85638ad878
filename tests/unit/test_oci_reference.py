"""References: docker's grammar, defaults and texts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corten.base.errors import InvalidArgument
from corten.oci.reference import Reference, parse, parse_with_tag

DIGEST = "sha256:" + "0123456789abcdef" * 4

KNOWN = [
    ("ubuntu", "docker.io/library/ubuntu", "ubuntu"),
    ("ubuntu:22.04", "docker.io/library/ubuntu:22.04", "ubuntu:22.04"),
    ("docker.io/ubuntu", "docker.io/library/ubuntu", "ubuntu"),
    ("index.docker.io/library/ubuntu", "docker.io/library/ubuntu", "ubuntu"),
    ("a/b", "docker.io/a/b", "a/b"),
    ("localhost/a", "localhost/a", "localhost/a"),
    ("localhost:5000/a/b:v1.0", "localhost:5000/a/b:v1.0", "localhost:5000/a/b:v1.0"),
    ("[::1]:5000/a", "[::1]:5000/a", "[::1]:5000/a"),
    ("Host/a", "Host/a", "Host/a"),
    (f"a@{DIGEST}", f"docker.io/library/a@{DIGEST}", f"a@{DIGEST}"),
    (f"a:t@{DIGEST}", f"docker.io/library/a:t@{DIGEST}", f"a:t@{DIGEST}"),
    ("a__b.c-d---e", "docker.io/library/a__b.c-d---e", "a__b.c-d---e"),
]

REFUSED = [
    ("", "invalid reference format"),
    ("FOO", "invalid reference format: repository name (library/FOO) must be lowercase"),
    ("a/Foo:X", "invalid reference format: repository name (a/Foo) must be lowercase"),
    ("a:", "invalid reference format"),
    ("-a", "invalid reference format"),
    ("a___b", "invalid reference format"),
    ("a..b", "invalid reference format"),
    ("a//b", "invalid reference format"),
    ("a/", "invalid reference format"),
    ("a\n", "invalid reference format"),
    ("a:b/c:d:e", "invalid reference format"),
    ("../../etc/passwd", "invalid reference format"),
    ("x.y/../z", "invalid reference format"),
    ("a@sha256:" + "g" * 64, "invalid reference format"),
    ("a@sha256:" + "a" * 63, "invalid checksum digest length"),
    ("a@sha256:" + "A" * 64, "invalid checksum digest format"),
    ("a@md5:" + "a" * 32, "unsupported digest algorithm"),
    ("a:" + "t" * 129, "invalid reference format"),
    ("a/" + "b" * 256, "repository name must not be more than 255 characters"),
    ("a" * 64, f"invalid repository name ({'a' * 64}), cannot specify 64-byte hexadecimal strings"),
    ("٣:٣", "invalid reference format"),
]


@pytest.mark.parametrize(("text", "full", "familiar"), KNOWN)
def test_full_and_familiar_forms(text, full, familiar):
    found = parse(text)
    assert found.full() == full
    assert found.familiar() == familiar


@pytest.mark.parametrize(("text", "message"), REFUSED)
def test_refused_in_dockers_words(text, message):
    with pytest.raises(InvalidArgument) as caught:
        parse(text)
    assert str(caught.value) == message


def test_the_default_tag_is_for_names_without_tag_and_digest():
    assert parse("a").with_default_tag().familiar() == "a:latest"
    assert parse("a:b").with_default_tag().familiar() == "a:b"
    assert parse(f"a@{DIGEST}").with_default_tag().familiar() == f"a@{DIGEST}"


def test_the_apis_pair_takes_a_digest_as_tag():
    assert parse_with_tag("a", DIGEST).familiar() == f"a@{DIGEST}"
    assert parse_with_tag("a", "b").familiar() == "a:b"
    with pytest.raises(InvalidArgument, match="invalid tag format"):
        parse_with_tag("a", "b/c")


word = st.from_regex(r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*", fullmatch=True).filter(lambda text: len(text) < 30)
domains = st.sampled_from(["docker.io", "localhost", "localhost:5000", "registry.example.org", "127.0.0.1:1", "[::1]:80"])
tags = st.one_of(st.just(""), st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", fullmatch=True))


@given(domains, st.lists(word, min_size=1, max_size=4), tags, st.sampled_from(["", DIGEST]))
def test_what_is_printed_reads_back(domain, words, tag, digest):
    path = "/".join(words)
    if domain == "docker.io" and len(words) == 1:
        path = "library/" + path
    reference = Reference(domain, path, tag, digest)
    assert parse(reference.full()) == reference
    assert parse(reference.familiar()) == reference


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused_and_never_becomes_a_path_upwards(text):
    try:
        found = parse(text)
    except InvalidArgument:
        return
    assert parse(found.full()) == found
    assert ".." not in found.path.split("/")
    assert found.path == found.path.lower()
    assert found.full().isascii()
    assert not set(found.full()) & set(" \n\t\0\\%?#")
