"""Variables of a Dockerfile: every form, quotes, escapes; arguments; .dockerignore."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corten.base.errors import InvalidArgument
from corten.build.arguments import BuildArguments
from corten.build.dockerignore import Ignore
from corten.build.variables import Expander

VARIABLES = {"a": "1", "e": "", "f": "foobarbaz", "sp": "x y", "path": "/usr/local/bin"}

FORMS = [
    ("$a${a}", "11"), ("${a}b$a", "1b1"), ("$nope", ""), ("${a:-d}", "1"), ("${e:-d}", "d"), ("${e-d}", ""),
    ("${n-d}", "d"), ("${a:+w}", "w"), ("${e:+w}", ""), ("${e+w}", "w"), ("${n+w}", ""), ("${n:-${a}x}", "1x"),
    ("'$a'", "$a"), ('"$a"', "1"), ('"\\$a"', "$a"), ("\\$a", "$a"), ('"a\'b"', "a'b"), ("a\\ b", "a b"), ("$", "$"),
    ("${f#f*b}", "arbaz"), ("${f##f*b}", "az"), ("${f%b*}", "foobar"), ("${f%%b*}", "foo"), ("${f#zz}", "foobarbaz"),
    ("${f/ba/X}", "fooXrbaz"), ("${f//ba/X}", "fooXrXz"), ("${path%/*}", "/usr/local"), ("${path##*/}", "bin"),
    ("${n:-'q $a'}", "q $a"), ('${n:-"q $a"}', "q 1"), ("${a:?no}", "1"), ("a$", "a$"), ("${n:-}", ""), ("tail\\", "tail"),
]


@pytest.mark.parametrize(("text", "expected"), FORMS)
def test_forms(text: str, expected: str) -> None:
    assert Expander(VARIABLES).word(text) == expected


@pytest.mark.parametrize("text", ["${a", "${", "${}", "${a:x}", '"open', "'open", "${n:?why}", "${n?}", "${a:-${b}"])
def test_refusals(text: str) -> None:
    with pytest.raises(InvalidArgument):
        Expander(VARIABLES).word(text)


def test_words_split_outside_of_quotes_only() -> None:
    assert Expander(VARIABLES).words('$sp "$sp" a$sp \'\'') == ["x", "y", "x y", "ax", "y"]


def test_the_other_escape() -> None:
    assert Expander(VARIABLES, "`").word("c:\\x `$a") == "c:\\x $a"


@given(st.text(alphabet="$a{}:-+#%/?\"'\\ e*", max_size=60))
def test_any_word_is_expanded_or_refused(text: str) -> None:
    try:
        Expander(VARIABLES).word(text)
    except InvalidArgument:
        pass


def test_arguments_of_stages_and_the_global_scope() -> None:
    build = BuildArguments({"Q": "7", "HTTP_PROXY": "p", "ZZ": "1"})
    build.declare_global("T", "latest")
    stage = build.stage()
    stage.declare("Q", "1")
    stage.declare("T", None)
    stage.declare("TARGETARCH", None)
    values = stage.values()
    assert (values["Q"], values["T"], values["HTTP_PROXY"]) == ("7", "latest", "p")
    assert values["TARGETARCH"]
    assert "T" not in build.stage().values()
    assert stage.recorded({"Q": "7", "HTTP_PROXY": "p"}) == ["Q=7"]
    assert "Q" not in stage.for_run(["Q=own"])
    assert build.unused() == ["ZZ"]
    named = BuildArguments({"TARGETARCH": "own"}, "last").global_values()
    assert (named["TARGETSTAGE"], named["TARGETARCH"]) == ("last", "own")
    assert build.global_values()["TARGETSTAGE"] == "default"


IGNORES = [
    ("*.md\n!README.md", "a.md", True), ("*.md\n!README.md", "README.md", False), ("*.md", "d/a.md", False),
    ("**/*.md", "d/e/a.md", True), ("**/*.md", "a.md", True), ("d", "d/x/y", True), ("/d/", "d/x", True),
    ("d/*\n!d/keep", "d/keep", False), ("d/*\n!d/keep", "d/other", True), ("# c\n\n?x", "ax", True), ("[a-c]x", "bx", True),
    ("[^a-c]x", "bx", False), ("d/**", "d/q/r", True), ("./d/../e", "e", True), ("a.c", "abc", False),
]


@pytest.mark.parametrize(("text", "path", "excluded"), IGNORES)
def test_dockerignore(text: str, path: str, excluded: bool) -> None:
    assert Ignore(text).excludes(path) is excluded


def test_a_pattern_of_many_stars_does_not_hang() -> None:
    start = time.monotonic()
    Ignore("*a" * 30 + "b").excludes("a" * 200)
    Expander({"v": "a" * 2000}).word("${v%%" + "*a" * 30 + "b}")
    assert time.monotonic() - start < 30
