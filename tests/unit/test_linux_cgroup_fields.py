"""Each field of linux.resources and the file it is written to, on v1 and on v2; None where it is refused by name."""

import pytest

from corten.base.errors import InvalidArgument, Unsupported
from corten.linux.cgroup_limits import check_use, v1_settings, v2_settings

DEVICE = {"major": 8, "minor": 16}


def throttle(kind):
    return {"blockIO": {f"throttle{kind}Device": [{**DEVICE, "rate": 1024}]}}


FIELDS = [
    ({"pids": {"limit": 5}}, ["pids.max 5"], ["pids.max 5"]),
    ({"hugepageLimits": [{"pageSize": "2MB", "limit": 4096}]},
     ["hugetlb.2MB.limit_in_bytes 4096", "hugetlb.2MB.rsvd.limit_in_bytes 4096"],
     ["hugetlb.2MB.max 4096", "hugetlb.2MB.rsvd.max 4096"]),
    ({"rdma": {"mlx5_1": {"hcaHandles": 3, "hcaObjects": 10}}}, ["rdma.max mlx5_1 hca_handle=3 hca_object=10"],
     ["rdma.max mlx5_1 hca_handle=3 hca_object=10"]),
    ({"network": {"classID": 7}}, ["net_cls.classid 7"], None),
    ({"network": {"priorities": [{"name": "eth0", "priority": 5}]}}, ["net_prio.ifpriomap eth0 5"], None),
    ({"blockIO": {"weight": 500}}, ["blkio.weight 500"], ["io.weight default 4950"]),
    ({"blockIO": {"leafWeight": 300}}, ["blkio.leaf_weight 300"], []),
    ({"blockIO": {"weightDevice": [{**DEVICE, "weight": 100, "leafWeight": 50}]}},
     ["blkio.weight_device 8:16 100", "blkio.leaf_weight_device 8:16 50"], ["io.weight 8:16 910"]),
    (throttle("ReadBps"), ["blkio.throttle.read_bps_device 8:16 1024"], ["io.max 8:16 rbps=1024"]),
    (throttle("WriteBps"), ["blkio.throttle.write_bps_device 8:16 1024"], ["io.max 8:16 wbps=1024"]),
    (throttle("ReadIOPS"), ["blkio.throttle.read_iops_device 8:16 1024"], ["io.max 8:16 riops=1024"]),
    (throttle("WriteIOPS"), ["blkio.throttle.write_iops_device 8:16 1024"], ["io.max 8:16 wiops=1024"]),
    ({"cpu": {"burst": 1000}}, ["cpu.cfs_burst_us 1000"], ["cpu.max.burst 1000"]),
    ({"cpu": {"idle": 1}}, ["cpu.idle 1"], ["cpu.idle 1"]),
    ({"cpu": {"cpus": "0-1", "mems": "0"}}, ["cpuset.cpus 0-1", "cpuset.mems 0"], ["cpuset.cpus 0-1", "cpuset.mems 0"]),
    ({"cpu": {"realtimePeriod": 1000, "realtimeRuntime": 500}}, ["cpu.rt_period_us 1000", "cpu.rt_runtime_us 500"], None),
    ({"memory": {"reservation": 4096}}, ["memory.soft_limit_in_bytes 4096"], ["memory.low 4096"]),
    ({"memory": {"kernel": 4096}}, [], []),  # the kernel has dropped it; runc ignores it too
    ({"memory": {"kernelTCP": 8192}}, ["memory.kmem.tcp.limit_in_bytes 8192"], None),
    ({"memory": {"swappiness": 60}}, ["memory.swappiness 60"], None),
    ({"memory": {"disableOOMKiller": True}}, ["memory.oom_control 1"], None),
    ({"memory": {"useHierarchy": True}}, ["memory.use_hierarchy 1"], []),
    ({"unified": {"memory.high": "5"}}, None, ["memory.high 5"]),
]


@pytest.mark.parametrize(("resources", "older", "newer"), FIELDS, ids=lambda value: str(value)[:40])
def test_where_a_field_is_written(resources, older, newer):
    for settings, expected in ((v1_settings, older), (v2_settings, newer)):
        if expected is None:
            with pytest.raises((InvalidArgument, Unsupported)):
                settings(resources)
        else:
            assert [f"{name} {value}" for _, name, value in settings(resources)] == expected


def test_a_limit_below_what_is_in_use():
    check_use({"limit": 10, "checkBeforeUpdate": True}, 9)
    check_use({"limit": 10}, 11)
    with pytest.raises(InvalidArgument):
        check_use({"limit": 10, "checkBeforeUpdate": True}, 11)
