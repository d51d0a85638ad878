"""Flags as pflag reads them, sizes, durations and what lists of flags become."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corten.cli.args import Parser, parse_bool, parse_duration_ns, parse_int, parse_size, split_csv
from corten.cli.errors import Failure, UsageError
from corten.cli.mounts import bind_of, mount_of
from corten.cli.options_run import RUN
from corten.cli.ports import exposed, ports


def parse(*words, interspersed=False):
    return Parser(RUN, interspersed).parse(list(words))


def test_the_ways_to_write_a_flag():
    values = parse("-it", "-p8080:80", "-p", "1:1", "-e=A=1", "--env", "B", "--name=x", "--memory", "64m", "image", "-x", "--rm")
    assert values.flag("interactive") and values.flag("tty")
    assert values.many("publish") == ["8080:80", "1:1"]
    assert values.many("env") == ["A=1", "B"]
    assert values.text("name") == "x"
    assert values.number("memory") == 64 << 20
    assert values.rest == ["image", "-x", "--rm"]


def test_what_stands_after_the_image_is_the_programs():
    assert parse("--rm", "image", "--rm=false").flag("rm")


def test_two_dashes_end_the_flags():
    assert parse("--", "--rm").rest == ["--rm"]


@pytest.mark.parametrize("words, text", [
    (["--foo"], "unknown flag: --foo"),
    (["-zq"], "unknown shorthand flag: 'z' in -zq"),
    (["--name"], "flag needs an argument: --name"),
    (["-e"], "flag needs an argument: 'e' in -e"),
    (["--tty=foo"], 'invalid argument "foo" for "-t, --tty" flag: strconv.ParseBool: parsing "foo": invalid syntax'),
    (["-m", "x"], "invalid argument \"x\" for \"-m, --memory\" flag: invalid size: 'x'"),
    (["--cpus", "abc"], 'invalid argument "abc" for "--cpus" flag: failed to parse abc as a rational number'),
    (["--stop-timeout", "1x"], 'invalid argument "1x" for "--stop-timeout" flag: strconv.ParseInt: parsing "1x": invalid syntax'),
    (["--=x"], "bad flag syntax: --=x"),
])
def test_errors_have_dockers_texts(words, text):
    with pytest.raises(UsageError) as caught:
        parse(*words)
    assert caught.value.text == text and caught.value.code == 125


@pytest.mark.parametrize("text, value", [
    ("64m", 64 << 20), ("1g", 1 << 30), ("1.5k", 1536), ("10", 10), ("10b", 10), ("2KiB", 2048), ("3 mb", 3 << 20),
])
def test_sizes(text, value):
    assert parse_size(text) == value


@given(st.integers(0, 1 << 50), st.sampled_from(["", "k", "m", "g"]))
def test_a_size_is_its_number_times_its_unit(number, unit):
    assert parse_size(f"{number}{unit}") == number * 1024 ** ["", "k", "m", "g"].index(unit)


@given(st.text(max_size=12))
def test_a_size_is_a_number_or_refused(text):
    try:
        assert parse_size(text) >= 0
    except ValueError as error:
        assert str(error) == f"invalid size: '{text}'"


@pytest.mark.parametrize("text, value", [("1s", 10**9), ("1m30s", 90 * 10**9), ("1.5h", 5400 * 10**9), ("100ms", 10**8), ("0", 0), ("-3s", -3 * 10**9)])
def test_durations(text, value):
    assert parse_duration_ns(text) == value


@pytest.mark.parametrize("text", ["", "1", "s", "1x", "1s2", "1..5s", "\u0661s"])
def test_durations_refused(text):
    with pytest.raises(ValueError):
        parse_duration_ns(text)


@given(st.text(max_size=20))
def test_numbers_are_digits_of_ascii(text):
    try:
        value = parse_int(text)
    except ValueError:
        return
    assert text.lstrip("+-").isascii() and int(text) == value


def test_switches_take_gos_words():
    assert parse_bool("T") and not parse_bool("0")
    with pytest.raises(ValueError):
        parse_bool("yes")


@given(st.lists(st.text(alphabet="ab,=\" ", min_size=1), min_size=1, max_size=5))
def test_csv_gives_back_what_was_quoted(parts):
    line = ",".join('"' + part.replace('"', '""') + '"' for part in parts)
    assert split_csv(line) == parts


def test_ports():
    exposed_ports, bindings = ports(parse("-p", "127.0.0.1:80:90/udp", "-p", "7", "-p", "8000-8001:90-91", "-p", "[::1]:1:2", "--expose", "5-6", "x"))
    assert list(exposed_ports) == sorted(["90/udp", "7/tcp", "90/tcp", "91/tcp", "2/tcp", "5/tcp", "6/tcp"])
    assert bindings["90/udp"] == [{"HostIp": "127.0.0.1", "HostPort": "80"}]
    assert bindings["7/tcp"] == [{"HostIp": "", "HostPort": ""}]
    assert bindings["91/tcp"] == [{"HostIp": "", "HostPort": "8001"}]
    assert bindings["2/tcp"] == [{"HostIp": "::1", "HostPort": "1"}]


@pytest.mark.parametrize("text, message", [
    ("abc:1", "invalid hostPort: abc"), ("80:99999", "invalid containerPort: 99999"), ("1/foo", "invalid proto: foo"),
    ("80-90:80-81", "invalid ranges specified for container and host Ports: 80-81 and 80-90"),
    ("1.2.3:1:1", "invalid IP address: 1.2.3"),
])
def test_ports_refused(text, message):
    with pytest.raises(Failure) as caught:
        ports(parse("-p", text, "x"))
    assert caught.value.text == message


@given(st.text(alphabet="0123456789-:/.tcpud[]=,", max_size=20))
def test_any_port_text_is_understood_or_refused(text):
    try:
        ports(parse("-p", text, "x") if not text.startswith("-") else parse(f"-p={text}", "x"))
    except (Failure, ValueError) as error:
        assert isinstance(error, (Failure, ValueError))


def test_expose_ranges():
    assert exposed("80-82/udp") == ["80/udp", "81/udp", "82/udp"]


def test_binds(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert bind_of("/a:/b:ro") == ("/a:/b:ro", "")
    assert bind_of("./x:/y") == (f"{tmp_path}/x:/y", "")
    assert bind_of("/only") == ("", "/only")


def test_mounts():
    assert mount_of("type=bind,src=/a,dst=/b,ro,bind-propagation=rshared") == {
        "Type": "bind", "Source": "/a", "Target": "/b", "ReadOnly": True, "BindOptions": {"Propagation": "rshared"}}
    assert mount_of("type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=1770")["TmpfsOptions"] == {"SizeBytes": 1 << 20, "Mode": 0o1770}
    with pytest.raises(UsageError) as caught:
        mount_of("type=bind")
    assert caught.value.text == 'invalid argument "type=bind" for "--mount" flag: target is required'
