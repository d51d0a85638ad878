"""Build checks, outline and targets: as BuildKit of dockerd 28.5 answered (tests/conformance/record_checks.py)."""

import json
from pathlib import Path

import pytest

from corten.base.errors import InvalidArgument, Unsupported
from corten.build.dockerignore import Ignore
from corten.build.excerpt import excerpt
from corten.build.requests import LINT, OUTLINE, TARGETS, Question, answer, check, message
from corten.build.rules import RULES, read_settings, url_of

RECORDED = json.loads(Path(__file__).with_name("build_checks.json").read_text())


def bases(name: str) -> dict[str, list[str]] | None:
    return {"Env": ["PATH=/bin", "BASE=1"]} if name.partition(":")[0] == "busybox" else None


def question(text: str, ignore: str = "", **arguments: str) -> Question:
    return Question(text.encode(), "Dockerfile", arguments, "", Ignore(ignore) if ignore else None, bases)


@pytest.mark.parametrize("entry", RECORDED, ids=lambda entry: entry["text"][:40])
def test_the_same_is_found_as_by_buildkit(entry: dict[str, object]) -> None:
    findings, error = check(question(str(entry["text"]), str(entry.get("ignore", ""))))
    assert sorted([one.rule, one.line, one.message] for one in findings) == entry["findings"]
    assert ([message(error), error.line] if error else None) == entry["error"]


def test_every_rule_is_seen_to_speak() -> None:
    assert len(RULES) == 21
    assert {rule for entry in RECORDED for rule, _, _ in entry["findings"]} == set(RULES)
    assert url_of("JSONArgsRecommended") == "https://docs.docker.com/go/dockerfile/rule/json-args-recommended/"


def test_the_answer_has_lines_sources_and_a_status() -> None:
    found = answer(LINT, question("FROM busybox\nCMD echo\n"))
    value = json.loads(found["result.json"])
    assert value["warnings"][0]["location"] == {"ranges": [{"start": {"line": 2}, "end": {"line": 2}}]}
    assert value["sources"][0]["filename"] == "Dockerfile" and found["result.statuscode"] == b"1"
    assert b"WARNING: JSONArgsRecommended - https://" in found["result.txt"]
    assert b"   2 | >>> CMD echo\n" in found["result.txt"]
    assert answer(LINT, question("FROM busybox\n"))["result.statuscode"] == b"0"


def test_the_outline_of_a_target() -> None:
    text = ("# BASE what to build on\nARG BASE=busybox\nARG UNUSED=1\nFROM $BASE AS one\n# V a version\nARG V=2\n"
            "RUN --mount=type=secret,id=token,required=true --mount=type=ssh true\n")
    value = json.loads(answer(OUTLINE, question(text, V="3"))["result.json"])
    assert [(one["name"], one["value"], one["description"]) for one in value["args"]] == [
        ("BASE", "busybox", "what to build on"), ("V", "3", "a version")]
    assert (value["name"], value["secrets"][0]["name"], value["secrets"][0]["required"]) == ("one", "token", True)
    assert value["ssh"][0]["name"] == "default"


def test_the_targets() -> None:
    text = "# one the first\nFROM busybox AS one\nFROM --platform=linux/amd64 one\n"
    found = answer(TARGETS, question(text))
    assert [(one.get("name"), one.get("default"), one.get("description"), one["base"])
            for one in json.loads(found["result.json"])["targets"]] == [
        ("one", None, "the first", "busybox"), (None, True, None, "one")]
    assert found["result.txt"] == b"TARGET    DESCRIPTION\none       the first\n(default) \n"


def test_what_is_no_request_is_refused() -> None:
    with pytest.raises(Unsupported, match=r"unsupported request frontend\.other"):
        answer("frontend.other", question("FROM busybox\n"))
    with pytest.raises(InvalidArgument, match="failed to parse check option"):
        read_settings("error=perhaps")


def test_an_excerpt_has_lines_around() -> None:
    lines = [f"line {number}" for number in range(1, 9)]
    assert excerpt("D", lines, 4, 4) == (
        "D:4\n--------------------\n   2 |     line 2\n   3 |     line 3\n   4 | >>> line 4\n   5 |     line 5\n"
        "   6 |     line 6\n--------------------\n")
    assert excerpt("D", lines, 8, 9).count("\n") == 6 and excerpt("D", lines, 9, 9) == ""
