"""Changing what a container was made with: limits at once, ports and mounts from its next start on.

POST /containers/{id}/update. Ports and mounts are beyond docker, whose clients never send them.
"""

import asyncio
from typing import TYPE_CHECKING

import msgspec

from corten.base.errors import Conflict
from corten.engine import validate
from corten.engine.create import hold_images, make_volumes, planned
from corten.engine.devices import block_io
from corten.engine.honoured import refuse_unsupported
from corten.engine.records import ContainerRecord, HostConfig, PortBinding, RestartPolicy, decode
from corten.engine.schema import Schema
from corten.engine.spec_resources import build_resources
from corten.linux import cgroup

if TYPE_CHECKING:
    from corten.engine.containers import Containers


class UpdateRequest(HostConfig, Schema):
    """The body of POST /containers/{id}/update: the limits of a HostConfig, absent ones stay.

    So do, beyond docker, ports and mounts, which are taken whole when they are given.
    """

    port_bindings: dict[str, list[PortBinding] | None] | None = None  # type: ignore[assignment]


_LIMITS = ("cpu_shares", "memory", "nano_cpus", "cpu_period", "cpu_quota", "cpuset_cpus", "cpuset_mems",
           "memory_reservation", "memory_swap", "blkio_weight", "blkio_weight_device",
           "blkio_device_read_bps", "blkio_device_write_bps", "blkio_device_read_iops", "blkio_device_write_iops",
           "cpu_realtime_period", "cpu_realtime_runtime", "memory_swappiness")


async def update(containers: "Containers", record: ContainerRecord, asked: UpdateRequest) -> list[str]:
    """Change limits, in the cgroup of one that runs too, the restart policy, and ports and mounts of one that does not.

    Raises Conflict, InvalidArgument, Unsupported.
    """
    rebuilt = asked.port_bindings is not None or asked.binds is not None or asked.mounts is not None
    ports, asked.port_bindings = asked.port_bindings, {}
    refuse_unsupported(record.config, asked)
    async with containers.live(record.id).lock:
        merged = decode(_merged(record.host_config, asked), HostConfig)
        if asked.memory and not asked.memory_swap and 0 < merged.memory_swap < merged.memory:
            raise Conflict("Memory limit should be smaller than already set memoryswap limit, update the memoryswap "
                           "at the same time")
        if merged.auto_remove and asked.restart_policy.name not in ("", "no"):
            raise Conflict("Restart policy cannot be updated because AutoRemove is enabled for the container")
        warnings = validate.check_host_config(merged)
        if record.running:
            resources = build_resources(merged, [], block_io(merged))
            resources.pop("devices")
            await asyncio.to_thread(cgroup.apply, containers.engine.cgroup_of(record), resources)
        if rebuilt:
            warnings += await _rebuild(containers, record, merged, ports, asked)
        record.host_config = merged
        containers.save(record)
    containers.publish(record, "update")
    return warnings


async def _rebuild(
    containers: "Containers", record: ContainerRecord, host: HostConfig,
    ports: dict[str, list[PortBinding] | None] | None, asked: UpdateRequest,
) -> list[str]:
    """New ports and mounts from its next start on; volumes that go on being used keep what they hold."""
    if record.running or record.state.status == "restarting":
        raise Conflict(f"ports and mounts of a running container cannot be changed: stop container {record.name} first")
    config = msgspec.structs.replace(record.config)
    if ports is not None:
        host.port_bindings = ports
        config.exposed_ports = {**(config.exposed_ports or {}), **{port: {} for port in ports}} or None
    host.binds = host.binds if asked.binds is None else asked.binds
    host.mounts = host.mounts if asked.mounts is None else asked.mounts
    points = planned(containers, config, host)
    old = {point.destination: point for point in record.mounts if point.anonymous}
    points = [old.get(point.destination, point) if point.anonymous else point for point in points]
    draft = msgspec.structs.replace(record, config=config, host_config=host, mounts=points)
    warnings = containers.engine.networks.check_create(draft)
    await make_volumes(containers, draft)
    hold_images(containers.engine, draft)
    kept = {point.name for point in draft.mounts}
    for name in {point.name for point in record.mounts if point.name} - kept:
        containers.engine.volumes.leave(name, record.id)
    record.config, record.mounts = config, draft.mounts
    return warnings


def _merged(old: HostConfig, asked: UpdateRequest) -> bytes:
    kept = msgspec.to_builtins(old)
    new = msgspec.to_builtins(asked)
    for field, name in zip(HostConfig.__struct_fields__, HostConfig.__struct_encode_fields__, strict=True):
        if field in _LIMITS and new[name]:
            kept[name] = new[name]
    if asked.pids_limit is not None:
        kept["PidsLimit"] = max(asked.pids_limit, 0)  # 0 and whatever is below it: no limit
    if asked.restart_policy.name:
        kept["RestartPolicy"] = msgspec.to_builtins(RestartPolicy(
            name=asked.restart_policy.name, maximum_retry_count=asked.restart_policy.maximum_retry_count))
    return msgspec.json.encode(kept)
