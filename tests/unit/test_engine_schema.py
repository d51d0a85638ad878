"""Member names as Go takes them: any case, an exact one first."""

import msgspec
import pytest

from corten.engine.records import CreateRequest, ExecRequest
from corten.engine.schema import spelled


@pytest.mark.parametrize(("body", "want"), [
    ({"detachKeys": "ctrl-p"}, {"DetachKeys": "ctrl-p"}),
    ({"CMD": ["x"], "tty": True}, {"Cmd": ["x"], "Tty": True}),
    ({"Cmd": ["exact"], "cmd": ["other"]}, {"Cmd": ["exact"]}),
    ({"nonesuch": 1}, {"nonesuch": 1}),
    ([1], [1]),
])
def test_names_of_any_case(body, want):
    assert spelled(body, ExecRequest) == want


def test_records_within_records():
    body = spelled({
        "image": "i", "hostconfig": {
            "memory": 7, "mounts": [{"type": "volume", "volumeoptions": {"subpath": "a"}}],
            "portbindings": {"80/tcp": [{"hostport": "1"}], "81/tcp": None}, "restartpolicy": {"name": "always"},
            "Sysctls": {"net.ipv4.X": "1"},
        },
        "networkingconfig": {"endpointsconfig": {"Net": {"aliases": ["A"]}}},
    }, CreateRequest)
    made = msgspec.convert(body, CreateRequest)
    host = made.host_config
    assert made.image == "i" and host.memory == 7 and host.restart_policy.name == "always"
    assert host.mounts[0].volume_options.subpath == "a" and host.sysctls == {"net.ipv4.X": "1"}
    assert host.port_bindings["80/tcp"][0].host_port == "1"
    assert made.networking_config.endpoints_config["Net"].aliases == ["A"]
