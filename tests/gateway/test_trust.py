"""Trust between containers: who gets in, who does not, and that with trust full everybody does."""

import pytest
from mesh_world import EXPECTED, refusals


@pytest.mark.parametrize("level", ["full", "half", "zero"])
def test_every_way_in_is_refused_but_the_one_allowed(shop, level):
    assert refusals(shop, level) == EXPECTED[level]


@pytest.mark.parametrize(("labels", "host", "status", "text"), [
    ({"corten.trust": "some"}, {}, 400, "label corten.trust: 'some' is no level of trust: full, half or zero"),
    ({"corten.trust.levl": "zero"}, {}, 400, "label corten.trust.levl: there is none such"),
    ({"corten.trust": "zero", "corten.allow": "web get /x"}, {}, 400, "'web get /x' is neither service nor project/service"),
    ({"corten.trust": "zero", "corten.allow": "web: GET x"}, {}, 400, "rule 'web: GET x': 'x' is neither METHOD,METHOD nor /path nor port N"),
    ({"corten.trust": "zero", "corten.allow": "web: GET"}, {}, 400, "methods and paths need HTTP"),
    ({"corten.trust": "zero", "corten.trust.out": "example.org"}, {}, 400, "is not ADDRESS[/BITS][:PORT]"),
    ({"corten.trust": "zero"}, {"Privileged": True}, 409, "--privileged: it could leave its fence"),
    ({"corten.trust": "half"}, {"CapAdd": ["NET_RAW"]}, 409, "CAP_NET_RAW: it could leave its fence"),
    ({"corten.trust": "half"}, {"CapAdd": ["NET_ADMIN"]}, 409, "CAP_NET_ADMIN: it could leave its fence"),
    ({"corten.trust": "zero"}, {"NetworkMode": "host"}, 409, "not --network host"),
])
def test_what_makes_no_sense_is_an_error_of_create(world, labels, host, status, text):
    answer = world.api("POST", "/containers/create", {"Image": "busybox", "Labels": labels, "HostConfig": host})
    assert answer.status == status and text in answer.message, answer.body


@pytest.mark.parametrize(("document", "text"), [
    ({"name": "x", "level": "zero"}, "Trust/x: for whom is it? Say project, network or services"),
    ({"name": "x", "level": "none", "project": "p"}, "Expected full, half or zero"),
    ({"name": "x", "allow": ["web orders"]}, "Trust/x: rule 'web orders': not CALLERS -> CALLEES"),
    ({"name": "x", "allow": ["web -> "]}, "a name is missing"),
    ({"name": "x", "allow": ["web -> orders: port 0"]}, "'0' is not a port"),
    ({"name": "x", "out": ["::1"]}, "Trust/x: '::1' is not ADDRESS"),
])
def test_what_makes_no_sense_is_an_error_of_apply(world, document, text):
    answer = world.apply({"kind": "Trust", **document})
    assert answer.status == 400 and text in answer.message, answer.body
