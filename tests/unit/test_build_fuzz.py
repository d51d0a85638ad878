"""The grammars of a Dockerfile take any text: it is read, or refused as the caller's fault; nothing else is raised."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corten.base.errors import Error, InvalidArgument, Unsupported
from corten.build.dockerfile import LIMIT_LINE_BYTES, parse
from corten.build.dockerignore import Ignore
from corten.build.expose import read_port
from corten.build.heredocs import heredocs_of
from corten.build.instructions import read_plan
from corten.build.owner import parse_mode
from corten.build.reading import check_syntax, read
from corten.build.remotes import git_ref, is_remote
from corten.build.requests import LINT, OUTLINE, TARGETS, Question, answer, check
from corten.build.rules import read_settings
from corten.build.run_mounts import parse_mount
from corten.build.variables import Expander

WORDS = ["FROM busybox", "FROM a AS b", "RUN", "COPY", "ADD", "ENV", "ARG", "LABEL", "EXPOSE", "ONBUILD", "HEALTHCHECK CMD", "SHELL",
         "VOLUME", "USER", "WORKDIR", "STOPSIGNAL", "CMD", "ENTRYPOINT", "MAINTAINER", " --mount=type=", "cache", "secret,id=", " --from=",
         "<<E", "<<-'E'", "E", "\\", "\n", "\n", "[", "]", '"', "'", "$", "${", "}", ":-", "//", "#", "=", " ", " ", "a", "80", "/udp", "🐋",
         "\udcff", "\0", "\r", "# check=skip=all\n", "# escape=`\n", "`"]
LINES = st.lists(st.sampled_from(WORDS), max_size=40).map("".join)


@given(LINES)
def test_any_dockerfile_is_checked_or_refused(text: str) -> None:
    data = ("FROM busybox\n" + text).encode("utf-8", "surrogateescape")
    question = Question(data, "Dockerfile", {"A": "1"}, "", Ignore("*.md"), lambda name: {"Env": ["A=1"]})
    check(question)
    for request in (LINT, OUTLINE, TARGETS):
        try:
            answer(request, question)
        except InvalidArgument:
            pass


@given(st.binary(max_size=200))
def test_any_bytes_are_parsed_or_refused(data: bytes) -> None:
    try:
        read_plan(parse(data))
    except InvalidArgument:
        pass


@given(st.text(alphabet="type=bindcacheidsrtgroqumw,\"$/\n0", max_size=80))
def test_any_mount_is_read_or_refused(text: str) -> None:
    try:
        parse_mount(text, "/w", Expander({"x": "y"}).word)
    except InvalidArgument:
        pass


@given(st.text(alphabet="https:/git@.com#?=&ab%-\n ", max_size=60), st.booleans())
def test_any_source_is_a_place_or_refused(text: str, context: bool) -> None:
    is_remote(text)
    try:
        found = git_ref(text, context)
    except InvalidArgument:
        return
    if found:  # nothing of it is an option of git's, nor leads out of the repository
        assert not found.ref.startswith("-") and not found.remote.startswith("-")
        assert not found.subdir.startswith(("/", ".."))


@given(st.text(alphabet="0123456789:-/.[]tcpuds", max_size=30))
def test_any_port_is_read_or_refused(text: str) -> None:
    try:
        assert all(0 <= port <= 65535 for port in read_port(text).ports)
    except InvalidArgument:
        pass


@given(st.text(alphabet="ugoa+-=rwxXst,0178", max_size=16), st.integers(0, 0o7777), st.booleans())
def test_any_mode_stays_a_mode(text: str, mode: int, folder: bool) -> None:
    try:
        parsed = parse_mode(text)
    except InvalidArgument:
        return
    assert parsed is None or 0 <= parsed.of(mode, folder) <= 0o7777


@given(st.text(max_size=60))
def test_any_line_opens_some_heredocs_or_none(text: str) -> None:
    try:
        heredocs_of(text)
        read_settings(text)
    except InvalidArgument:
        pass


def test_what_is_too_long_or_too_deep_is_refused_at_once() -> None:
    start = time.monotonic()
    for text in ("RUN " + "x" * LIMIT_LINE_BYTES, "ENV a=" + "${a:-" * 5000, "RUN " + "[" * 60_000, "FROM a\n" * 100_001,
                 "\n".join(f"RUN <<E{number}" for number in range(20_000))):
        with pytest.raises(Error):
            plan = read_plan(parse("FROM a\n" + text))
            Expander({"a": "x" * 4000}).word(plan.stages[0].commands[0].pairs[0][1] or "")
    Expander({"a": "x" * 4000}).word("${a//" + "*x" * 2000 + "y/z}")
    assert time.monotonic() - start < 100


def test_labels_of_the_caller_are_taken_as_they_are() -> None:
    plan = read(b"FROM a\n", "", {"a b": "$x 'q' \"r\"\nRUN evil\\"}, False, {})
    command = plan.stages[-1].commands[-1]
    words = Expander({})
    assert [(words.word(name), words.word(value or "")) for name, value in command.pairs] == [("a b", "$x 'q' \"r\"\nRUN evil\\")]


def test_front_ends_of_somebody_else_are_refused_by_name() -> None:
    for name in ("docker/dockerfile:1", "docker/dockerfile", "docker.io/docker/dockerfile:1.7-labs", "docker/dockerfile-upstream:master", ""):
        check_syntax(name)
    for name in ("evil/frontend", "docker/dockerfile2", "example.com/docker/dockerfile:1"):
        with pytest.raises(Unsupported, match="the front end"):
            check_syntax(name)
    with pytest.raises(Unsupported, match="evil/x"):
        read(b"# syntax=evil/x\nFROM a\n", "", {}, True, {})
    assert read(b"# syntax=evil/x\nFROM a\n", "", {}, False, {}).stages  # the classic builder knows no front ends
