"""The types of config.json's fields: what is refused with its place, what is let pass."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corten.base.errors import InvalidArgument
from corten.oci import config_shape
from corten.oci.runtime_spec import default_spec

MINIMAL = {"ociVersion": "1.0.0", "root": {"path": "rootfs"}}


@pytest.mark.parametrize(("change", "text"), [
    ({"hostname": 5}, "config.json.hostname: not a text"),
    ({"root": {"path": "x", "readonly": "yes"}}, "config.json.root.readonly: not true or false"),
    ({"mounts": {}}, "config.json.mounts: not an array"),
    ({"mounts": [{"options": "ro"}]}, r"config.json.mounts\[0\].options: not an array"),
    ({"process": []}, "config.json.process: not an object"),
    ({"process": {"user": {"uid": 1 << 32}}}, "process.user.uid: not an integer from 0 to 4294967295"),
    ({"process": {"user": {"uid": True}}}, "process.user.uid: not an integer"),
    ({"process": {"user": {"uid": 1.0}}}, "process.user.uid: not an integer"),
    ({"linux": {"netDevices": {"eth0": {"name": 23}}}}, "netDevices.eth0.name: not a text"),
    ({"linux": {"resources": {"rdma": {"mlx5_1": {"hcaHandles": "many"}}}}}, "hcaHandles: not an integer"),
    ({"linux": {"resources": {"hugepageLimits": [{"limit": "1"}]}}}, "limit: not an integer"),
    ({"linux": {"resources": {"hugepageLimits": [{"pageSize": "64kB"}]}}}, "pageSize: not a size"),
    ({"linux": {"resources": {"hugepageLimits": [{"pageSize": "02MB"}]}}}, "pageSize: not a size"),
    ({"linux": {"sysctl": {"net.core.somaxconn": 5}}}, "somaxconn: not a text"),
    ({"freebsd": {"jail": {"vnet": "disable"}}}, "vnet: none of inherit, new"),
])
def test_wrong_types_are_told_with_their_place(change, text):
    with pytest.raises(InvalidArgument, match=text):
        config_shape.check({**MINIMAL, **change})


@pytest.mark.parametrize("change", [
    {}, {"unknown": {"field": []}}, {"linux": {"unknown": 1, "devices": None}}, {"process": None},
    {"linux": {"netDevices": {"eth0": None}}}, {"freebsd": {"jail": {"vnet": "new"}}},
    {"process": {"rlimits": [{"type": "RLIMIT_CORE", "soft": (1 << 64) - 1, "hard": (1 << 64) - 1}]}},
    {"zos": {"namespaces": []}},
])
def test_what_is_unknown_or_null_is_let_pass(change):
    config_shape.check({**MINIMAL, **change})


def test_the_spec_that_we_write_has_the_shape():
    config_shape.check(default_spec())


JSON = st.recursive(st.none() | st.booleans() | st.integers(-1 << 63, (1 << 64) - 1) | st.text(max_size=5),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3))


def put(field, value):
    """A document with `value` at the path of a field."""
    document = value
    for part in reversed(field.split(".")):
        name = part.rstrip("[]")
        for _ in range(part.count("[]")):
            document = [document]
        document = {"x" if name == "*" else name: document}
    return document


@given(field=st.sampled_from(config_shape.fields()), value=JSON)
def test_a_value_is_refused_or_of_its_kind(field, value):
    try:
        config_shape.check(put(field, value))
    except InvalidArgument:
        return
    assert value is None or isinstance(value, (str, bool, int))


def test_every_field_is_a_path():
    found = config_shape.fields()
    assert {"process.user.additionalGids[]", "linux.sysctl.*", "mounts[].uidMappings[].size"} <= set(found)
    assert len(found) == len(set(found)) > 150
