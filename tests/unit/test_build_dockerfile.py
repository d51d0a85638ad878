"""Dockerfile text -> instructions -> commands: continuation, comments, directives, forms, heredocs, errors."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corten.base.errors import InvalidArgument
from corten.build.dockerfile import Dockerfile, parse
from corten.build.instructions import read_plan


def instructions(text: str) -> list[tuple[str, str]]:
    return [(one.name, one.text) for one in parse(text).instructions]


def test_continuation_comments_and_blank_lines_join_to_one_instruction() -> None:
    text = "FROM a\n\n# c\n  RUN echo hi \\\n# inside\n  && echo you \\  \n\n  done\n"
    found = parse(text)
    assert [one.original for one in found.instructions] == ["FROM a", "RUN echo hi   && echo you   done"]
    assert found.instructions[1].line == 4
    assert found.warnings[0].startswith("[WARNING]: Empty continuation line found in: RUN echo hi")


def test_escape_directive_changes_the_continuation_and_leaves_backslashes() -> None:
    assert instructions("# escape=`\nFROM a\nRUN dir c:\\\nRUN b `\n  c\n") == [
        ("FROM", "a"), ("RUN", "dir c:\\"), ("RUN", "b   c")]


def test_a_directive_after_a_comment_is_a_comment() -> None:
    assert parse("# hello\n# escape=`\nFROM a\n").escape == "\\"


def test_json_and_shell_forms() -> None:
    found = parse('FROM a\nRUN ["a", "b c"]\nCMD [ "x" , "y" ]\nRUN [ "broken\nENTRYPOINT []\n').instructions
    assert [(one.is_json, one.arguments) for one in found[1:]] == [
        (True, ["a", "b c"]), (True, ["x", "y"]), (False, ['[ "broken']), (True, [])]


def test_heredocs_take_the_lines_that_follow() -> None:
    found = parse('FROM a\nRUN <<EOF\necho 1\nEOF\nCOPY <<-"x" <<y /d/\n\tone\n\tx\ntwo $V\ny\nRUN echo "<<no" 1<<2\n2\n')
    assert [doc.chomped for doc in found.instructions[1].heredocs] == ["echo 1\n"]
    assert [(doc.chomped, doc.expand) for doc in found.instructions[2].heredocs] == [("one\n", False), ("two $V\n", True)]
    assert [doc.name for doc in found.instructions[3].heredocs] == ["2"]


def test_an_open_heredoc_is_an_error() -> None:
    with pytest.raises(InvalidArgument, match="failed to parse Dockerfile: unterminated heredoc"):
        parse("FROM a\nRUN <<E\nx\n")


def plan(text: str | Dockerfile) -> object:
    return read_plan(parse(text) if isinstance(text, str) else text)


# Texts as docker's classic builder 28.5 answered them.
ERRORS = [
    ("FROM a\nFOO bar\n", "dockerfile parse error on line 2: unknown instruction: FOO (did you mean FROM?)"),
    ("# only\n", "failed to parse Dockerfile: file with no instructions"),
    ("RUN x\n", "no build stage in current context"),
    ("FROM\n", "dockerfile parse error on line 1: FROM requires either one or three arguments"),
    ("FROM a b\n", "dockerfile parse error on line 1: FROM requires either one or three arguments"),
    ("FROM --bar=1 a\n", "dockerfile parse error on line 1: unknown flag: --bar"),
    ("FROM a\nCOPY x\n", "dockerfile parse error on line 2: COPY requires at least two arguments, but only one was "
                         "provided. Destination could not be determined"),
    ("FROM a\nCOPY --foo=z a /x\n", "dockerfile parse error on line 2: unknown flag: --foo (did you mean from?)"),
    ("FROM a\nENV A\n", "failed to parse Dockerfile: ENV must have two arguments"),
    ("FROM a\nLABEL x\n", "failed to parse Dockerfile: LABEL must have two arguments"),
    ("FROM a\nSHELL sh\n", "dockerfile parse error on line 2: SHELL requires the arguments to be in JSON form"),
    ("FROM a\nHEALTHCHECK foo\n", 'dockerfile parse error on line 2: Unknown type "FOO" in HEALTHCHECK (try CMD)'),
    ("FROM a\nVOLUME\n", "dockerfile parse error on line 2: VOLUME requires at least one argument"),
    ("FROM a\nUSER\n", "dockerfile parse error on line 2: USER requires exactly one argument"),
    ("FROM a\nARG\n", "dockerfile parse error on line 2: ARG requires at least one argument"),
    ("FROM a\nWORKDIR\n", "dockerfile parse error on line 2: WORKDIR requires exactly one argument"),
    ("FROM a\nONBUILD FROM x\n", "dockerfile parse error on line 2: FROM isn't allowed as an ONBUILD trigger"),
    ("FROM a\nONBUILD ONBUILD RUN x\n",
     "dockerfile parse error on line 2: Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"),
]


@pytest.mark.parametrize(("text", "message"), ERRORS)
def test_refusals_have_dockers_texts(text: str, message: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        plan(text)
    assert str(caught.value) == message


def test_stages_flags_and_pairs() -> None:
    found = read_plan(parse(
        'ARG V=1\nFROM a AS Base\nENV A=1 B="x y" C=z\\ w\nENV OLD  the rest\nFROM --platform=linux/amd64 base\n'
        'COPY --from=base --chown="1:2" a b /d/\nLABEL "k e"=v\n'))
    assert [name for name, _ in found.meta_args[0].pairs] == ["V"]
    assert [(stage.name, stage.base, stage.platform) for stage in found.stages] == [
        ("base", "a", ""), ("", "base", "linux/amd64")]
    assert found.stages[0].commands[0].pairs == [("A", "1"), ("B", '"x y"'), ("C", "z\\ w")]
    assert found.stages[0].commands[1].pairs == [("OLD", "the rest")]
    copy = found.stages[1].commands[0]
    assert (copy.flag("from"), copy.flag("chown"), copy.arguments) == ("base", "1:2", ["a", "b", "/d/"])
    assert found.stages[1].commands[1].pairs == [('"k e"', "v")]


def test_target_drops_later_stages() -> None:
    found = read_plan(parse("FROM a AS one\nFROM b AS two\n"))
    found.up_to("ONE")
    assert len(found.stages) == 1
    with pytest.raises(InvalidArgument, match='target stage "zz" could not be found'):
        found.up_to("zz")


@given(st.text(max_size=300))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    try:
        read_plan(parse("FROM a\n" + text))
    except InvalidArgument:
        pass


@given(st.lists(st.sampled_from(["RUN", "COPY", "<<E", "E", "\\\n", "\n", "[", '"', "'", "--from=", "$", "{", " ", "#", "a"]),
                max_size=60))
def test_any_mixture_of_its_words_is_parsed_or_refused(words: list[str]) -> None:
    try:
        read_plan(parse("FROM a\n" + "".join(words)))
    except InvalidArgument:
        pass
