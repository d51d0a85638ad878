"""The unified cgroup tree, older kernels: our own kernel and runtime tests, run in guests (machine.py).

What a machine has of its own decides nothing here: each guest has the kernel that is named. Those marked `all_guests`
depend on how fast an emulated machine is and run with CORTEN_GUESTS=all only; else pytest counts them as deselected.
"""

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

UNIFIED = "'not time_offsets and not limits_of_the_cgroup and not impossible_limit and not 200_execs'"


def test_the_runtime_on_the_unified_tree(guest):
    """User Mode Linux 6.1: everything but what that kernel lacks (cpuset, time namespaces); ipvlan, VLANs, dummy links."""
    guest("tests/runtime/test_runtime_container.py tests/runtime/test_runtime_cli.py tests/kernel/test_network_sublinks.py "
          f"-k {UNIFIED}", kernel="uml")


def test_limits_on_the_unified_tree(guest):
    """6.12: cpuset, time offsets, the device program, limits and freezing by the runtime."""
    guest("tests/runtime/test_runtime_container.py -k 'limit or time_offsets or memory or freeze or device'", kernel="6.12")


@pytest.mark.all_guests
def test_the_engine_on_the_unified_tree(guest):
    """6.12: daemon, zygote and pump; containers over the API. (After two kill -9 in a row 6.12 cannot tell a code.)"""
    guest("tests/api/test_containers.py tests/kernel/test_zygote.py -k 'not kill_9 and not bad_request'", kernel="6.12")


@pytest.mark.all_guests
def test_the_systemd_driver(guest):
    """6.12 with systemd as the first process: scopes asked for by `corten-oci --systemd-cgroup`."""
    guest("tests/runtime/test_runtime_systemd.py", kernel="6.12", systemd=True)


def test_a_user_with_a_group_of_his_own(guest):
    """User Mode Linux 6.1: create, exec, update and delete without privileges, in a control group delegated to a user."""
    guest("tests/runtime/test_runtime_own_group.py", kernel="uml", user="tester")


def test_the_oldest_kernel(guest):
    """5.10: no mount_setattr, no cgroup.kill, no lowerdir+."""
    guest("tests/runtime/test_runtime_container.py -k 'overlay or output or devices or bind or mask or user_groups'",
          kernel="5.10")
