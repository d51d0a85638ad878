"""The unified cgroup tree, older kernels: our own kernel and runtime tests, run in guests (machine.py).

What a machine has of its own decides nothing here: each guest has the kernel that is named.
"""

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

ENGINE = ("'run_to_the_end or program_sees or stop_asks or pause or update or exec_runs or exec_dies or out_of_memory or "
          "more_processes or one_device or init_reaps or killed_by or stdin_reaches or terminal_is_one or own_stdio'")
UNIFIED = "'not time_offsets and not limits_of_the_cgroup and not impossible_limit and not 200_execs'"


def test_the_runtime_on_the_unified_tree(guest):
    """User Mode Linux 6.1: everything but what that kernel lacks (cpuset, time namespaces); ipvlan, VLANs, dummy links."""
    guest("tests/runtime/test_runtime_container.py tests/runtime/test_runtime_cli.py tests/kernel/test_network_sublinks.py "
          f"-k {UNIFIED}", kernel="uml")


def test_limits_on_the_unified_tree(guest):
    """6.12: cpuset, time offsets, the device program, limits and freezing by the runtime."""
    guest("tests/runtime/test_runtime_container.py -k 'limit or time_offsets or memory or freeze or device'", kernel="6.12")


def test_the_engine_on_the_unified_tree(guest):
    """6.12: daemon, zygote and pump; what a container's life over the API has to do with its group."""
    guest(f"tests/api/test_containers.py tests/kernel/test_zygote.py -k {ENGINE}", kernel="6.12")


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
