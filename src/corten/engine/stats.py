"""What a container uses, as docker's JSON: GET /containers/{id}/stats."""

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from corten.base.units import ZERO_TIME, format_time, now_ns
from corten.engine.records import ContainerRecord
from corten.linux import cgroup_stats
from corten.linux.proc import interfaces, machine_cpu, memory_bytes

if TYPE_CHECKING:
    from corten.engine.engine import Engine

INTERVAL_S = 1.0
_BLKIO = ("io_service_bytes_recursive", "io_serviced_recursive", "io_queue_recursive", "io_service_time_recursive",
          "io_wait_time_recursive", "io_merged_recursive", "io_time_recursive", "sectors_recursive")

Sample = dict[str, Any]


def _no_cpu() -> Sample:
    return {
        "cpu_usage": {"total_usage": 0, "usage_in_kernelmode": 0, "usage_in_usermode": 0},
        "throttling_data": {"periods": 0, "throttled_periods": 0, "throttled_time": 0},
    }


def _cpu(raw: Sample) -> Sample:
    usage: Sample = {"total_usage": raw["usage_ns"]}
    if raw["percpu_ns"]:
        usage["percpu_usage"] = raw["percpu_ns"]
    usage["usage_in_kernelmode"] = raw["system_ns"]
    usage["usage_in_usermode"] = raw["user_ns"]
    total, processors = machine_cpu()
    return {
        "cpu_usage": usage, "system_cpu_usage": total, "online_cpus": processors,
        "throttling_data": {
            "periods": raw["periods"], "throttled_periods": raw["throttled"], "throttled_time": raw["throttled_ns"],
        },
    }


def _memory(raw: Sample, version: int) -> Sample:
    """`stats` carries total_inactive_file (v1) or inactive_file (v2), which clients take off the usage."""
    total = memory_bytes()
    found: Sample = {"usage": raw["usage"]}
    if version == 1:
        found["max_usage"] = raw["max_usage"]
    found["stats"] = raw["stat"]
    if raw["failcnt"]:
        found["failcnt"] = raw["failcnt"]
    found["limit"] = raw["limit"] if 0 < raw["limit"] < total else total
    return found


def _blkio(entries: list[Sample], version: int) -> Sample:
    found: Sample = {name: [] if version == 1 else None for name in _BLKIO}
    if version == 2:
        found["io_service_bytes_recursive"] = []
    for entry in entries:
        where = {"major": entry["major"], "minor": entry["minor"],
                 "op": entry["op"].lower() if version == 2 else entry["op"]}
        found["io_service_bytes_recursive"].append({**where, "value": entry["bytes"]})
        if version == 1:
            found["io_serviced_recursive"].append({**where, "value": entry["ios"]})
    return found


def _pids(raw: Sample) -> Sample:
    unlimited = raw["limit"] >= (1 << 63)
    return {"current": raw["current"]} | ({} if unlimited or not raw["limit"] else {"limit": raw["limit"]})


class Stats:
    """Samples of all containers; nothing is kept between requests."""

    def __init__(self, engine: "Engine") -> None:
        self.engine = engine

    def sample(self, record: ContainerRecord, before: Sample | None = None) -> Sample:
        """One sample; `before` is the previous one. Zeros for a container that does not run."""
        head: Sample = {"name": f"/{record.name}", "id": record.id}
        if not record.running:
            return {**head, **_nothing()}
        raw = cgroup_stats.read(self.engine.cgroup_of(record))
        found: Sample = {
            **head, "read": format_time(now_ns()), "preread": before["read"] if before else ZERO_TIME,
            "pids_stats": _pids(raw["pids"]), "blkio_stats": _blkio(raw["blkio"], raw["version"]), "num_procs": 0,
            "storage_stats": {}, "cpu_stats": _cpu(raw["cpu"]),
            "precpu_stats": before["cpu_stats"] if before else _no_cpu(),
            "memory_stats": _memory(raw["memory"], raw["version"]),
        }
        if record.host_config.network_mode != "host":
            try:
                networks = interfaces(record.state.pid)
            except OSError:
                networks = {}
            if networks:
                found["networks"] = networks
        return found

    async def once(self, ref: str, one_shot: bool) -> Sample:
        """One sample at once (`one_shot`), or after a second with the one before it. Raises NotFound."""
        record = self.engine.containers.get(ref)
        first = self.sample(record)
        if one_shot or not record.running:
            return first
        await asyncio.sleep(INTERVAL_S)
        return self.sample(record, first)

    def stream(self, ref: str) -> AsyncIterator[Sample]:
        """A sample each second until the container is removed. Raises NotFound."""
        return self._stream(self.engine.containers.get(ref))

    async def _stream(self, record: ContainerRecord) -> AsyncIterator[Sample]:
        removed = self.engine.containers.live(record.id).removed
        before: Sample | None = None
        while True:
            sample = self.sample(record, before)
            yield sample
            before = sample if record.running else None
            try:
                await asyncio.wait_for(removed.wait(), INTERVAL_S)
                return
            except TimeoutError:
                continue


def _nothing() -> Sample:
    return {
        "read": ZERO_TIME, "preread": ZERO_TIME, "pids_stats": {}, "blkio_stats": dict.fromkeys(_BLKIO),
        "num_procs": 0, "storage_stats": {}, "cpu_stats": _no_cpu(), "precpu_stats": _no_cpu(), "memory_stats": {},
    }
