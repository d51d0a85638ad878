"""Go templates: what scripts use, the errors they see, and that no text makes anything but an answer or an error."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corten.cli.template import TemplateError
from corten.cli.template_run import Template
from corten.cli.template_values import Record, sprintf
from corten.cli.typed import view

CONTAINER = {
    "Id": "0123456789abcdef", "Name": "/web", "Created": "2026-01-02T03:04:05.5Z",
    "State": {"Status": "running", "Running": True, "Pid": 42, "ExitCode": 0},
    "Config": {"Env": ["A=1", "B=2"], "Cmd": ["sh"], "Labels": {"k": "v", "a": "b"}},
    "NetworkSettings": {
        "Networks": {"bridge": {"IPAddress": "172.17.0.2"}, "other": {"IPAddress": "10.0.0.2"}},
        "Ports": {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}], "90/tcp": None},
    },
    "HostConfig": {"Binds": None, "Memory": 1 << 26},
}


def typed(text):
    return Template(text).render(view(CONTAINER, "container.InspectResponse"))


def raw(text):
    return Template(text).render(CONTAINER, strict=True)


@pytest.mark.parametrize("text, shown", [
    ("{{ .State.Pid }}", "42"),
    ("{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}", "172.17.0.2 10.0.0.2 "),
    ('{{(index (index .NetworkSettings.Ports "80/tcp") 0).HostPort}}', "8080"),
    ("{{if .State.Health}}yes{{else}}no{{end}}", "no"),
    ("{{.State.Health}}", "<nil>"),
    ('{{index .Config.Labels "k"}}|{{index .Config.Labels "none"}}|{{.Config.Labels.none}}', "v||<no value>"),
    ("{{range $k, $v := .Config.Labels}}{{$k}}={{$v};{{end}}".replace("{{$v}", "{{$v}}"), "a=b;k=v;"),
    ("{{json .Config.Env}} {{json .State.Health}} {{json .Config.Labels}}", '["A=1","B=2"] null {"a":"b","k":"v"}'),
    ('{{join .Config.Env ","}} {{upper .Name}} {{title "ab cd"}} {{pad .Name 1 2}}|', "A=1,B=2 /WEB Ab Cd  /web  |"),
    ('{{printf "%s-%05d-%q" .Name .State.Pid "x"}}', '/web-00042-"x"'),
    ('{{.Name | printf "%s%s" "<"}}', "</web"),
    ("{{with .State.Health}}{{.Status}}{{else}}none{{end}}", "none"),
    ("{{$x := .Name}}{{range .Config.Env}}{{$x}}{{.}} {{end}}{{$.ID}}", "/webA=1 /webB=2 0123456789abcdef"),
    ("a {{- /* gone */ -}} b {{- .Name -}} c", "ab/webc"),
    ("{{len .Config.Env}} {{eq .State.ExitCode 1 0}} {{and true 0}} {{or \"\" \"x\"}} {{not true}} {{lt 1 2}}", "2 true 0 x false true"),
    ("{{range $i, $e := .Config.Env}}{{if $i}},{{end}}{{$e}}{{end}}", "A=1,B=2"),
    ("{{range .Config.Env}}{{if eq . \"B=2\"}}{{break}}{{end}}{{.}}{{end}}", "A=1"),
    ("{{range .HostConfig.Binds}}x{{else}}none{{end}} {{.HostConfig.Binds}} {{.Config.Env}}", "none [] [A=1 B=2]"),
    ("{{if false}}1{{else if true}}2{{else}}3{{end}}", "2"),
    ('{{slice .Name 1 3}} {{truncate .Name 2}} {{html "<a>"}} {{urlquery "a b&c"}} {{print 1 2 "a"}}', "we /w &lt;a&gt; a+b%26c 1 2a"),
    ("{{.ID}} {{.HostConfig.Memory}} {{.State.Running}}", "0123456789abcdef 67108864 true"),
])
def test_templates_of_real_scripts(text, shown):
    assert typed(text) == shown


@pytest.mark.parametrize("text, message", [
    ("{{.Foo}}", 'template: :1:2: executing "" at <.Foo>: map has no entry for key "Foo"'),
    ("{{.State.Foo}}", 'template: :1:8: executing "" at <.State.Foo>: map has no entry for key "Foo"'),
    ("\n x{{.Foo}}", 'template: :2:4: executing "" at <.Foo>: map has no entry for key "Foo"'),
    ("{{index .Config.Env 9}}", 'template: :1:2: executing "" at <index .Config.Env 9>: error calling index: index out of range: 9'),
    ('{{eq 1 "a"}}', 'template: :1:2: executing "" at <eq 1 "a">: error calling eq: incompatible types for comparison'),
])
def test_errors_while_running(text, message):
    with pytest.raises(TemplateError) as caught:
        raw(text)
    assert caught.value.text == message


@pytest.mark.parametrize("text, message", [
    ("{{.Foo", "template: :1: unclosed action"),
    ("{{foo}}", 'template: :1: function "foo" not defined'),
    ("{{if}}", "template: :1: missing value for if"),
    ("{{end}}", "template: :1: unexpected {{end}}"),
    ("{{if .A}}", "template: :1: unexpected EOF"),
    ("{{$x}}", 'template: :1: undefined variable "$x"'),
    ('{{"a}}', "template: :1: unterminated quoted string"),
    ("{{.A}", "template: :1: bad character U+007D '}'"),
])
def test_errors_while_reading(text, message):
    with pytest.raises(TemplateError) as caught:
        Template(text)
    assert caught.value.text == message


def test_a_row_knows_its_type():
    with pytest.raises(TemplateError) as caught:
        Template("{{.Foo}}").render(Record("*formatter.ContainerContext", {"ID": "1"}))
    assert caught.value.text.endswith("can't evaluate field Foo in type *formatter.ContainerContext")


_PIECES = st.sampled_from([
    "{{", "}}", "{{-", "-}}", ".", ".Name", ".State", ".Config.Env", "$", "$x", ":=", "=", "|", "(", ")", " ", '"a"',
    "`", "1", "0x1f", "1.5", "'c'", "if ", "else", "end", "range ", "with ", "index ", "printf ", "json ", "len ",
    "eq ", "and ", "nil", "true", "text", "\n", "/*", "*/", ",", "break", "continue", "slice ",
])


@given(st.lists(_PIECES, max_size=14).map("".join))
def test_any_text_is_a_template_or_an_error(text):
    try:
        raw(text)
        typed(text)
    except TemplateError as error:
        assert error.text.startswith("template: :")


@given(st.text(alphabet="%sdvqxt05.-+ #*T!", max_size=10), st.lists(st.one_of(st.integers(), st.text(max_size=3), st.booleans(), st.none()), max_size=3))
def test_printf_never_fails(form, values):
    assert isinstance(sprintf(form, values), str)


@pytest.mark.parametrize("form, values, shown", [
    ("%d", ["x"], "%!d(string=x)"), ("%s", [1], "%!s(int=1)"), ("%s", [], "%!s(MISSING)"), ("a", [1], "a%!(EXTRA int=1)"),
    ("%-5s|%5s|%05d", ["a", "b", 7], "a    |    b|00007"), ("%.2f %t %x", [3.14159, True, "hi"], "3.14 true 6869"), ("100%%", [], "100%"),
    ("%*d", [10**12, 7], "%!(BADWIDTH)7"), ("%.*f", [10**12, 1.5], "%!(BADPREC)1.500000"), ("%99999999999d", [7], "%!(NOVERB)"),
])
def test_printf(form, values, shown):
    assert sprintf(form, values) == shown
