"""The engine's words as typed records: what a request says and what the database keeps. Data only, no decisions.

Attribute names are Docker's JSON names in snake case; the JSON (API and database alike) carries Docker's spelling.
A JSON null means "not given", as in Go: `decode` drops nulls before it checks types.
"""

from typing import Any, TypeVar

import msgspec

from corten.base.errors import InvalidArgument
from corten.base.files import parse_json
from corten.engine.resource_records import Device as Device
from corten.engine.resource_records import ImageOptions as ImageOptions
from corten.engine.resource_records import Mount as Mount
from corten.engine.resource_records import ThrottleDevice as ThrottleDevice
from corten.engine.resource_records import VolumeDriver as VolumeDriver
from corten.engine.resource_records import VolumeOptions as VolumeOptions
from corten.engine.resource_records import WeightDevice as WeightDevice
from corten.engine.schema import Schema as Schema
from corten.engine.schema import docker_name as docker_name
from corten.engine.schema import spelled

# --- what a request says


class HealthConfig(Schema):
    """HEALTHCHECK; times in nanoseconds, 0 = the default, Test[0] one of NONE, CMD, CMD-SHELL."""

    test: list[str] | None = None
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0


class Config(Schema):
    """ContainerConfig: what of a container does not depend on its host."""

    hostname: str = ""
    domainname: str = ""
    user: str = ""
    attach_stdin: bool = False
    attach_stdout: bool = False
    attach_stderr: bool = False
    exposed_ports: dict[str, dict[str, Any]] | None = None
    tty: bool = False
    open_stdin: bool = False
    stdin_once: bool = False
    env: list[str] | None = None
    cmd: list[str] | str | None = None
    healthcheck: HealthConfig | None = None
    args_escaped: bool = False
    image: str = ""
    volumes: dict[str, dict[str, Any]] | None = None
    working_dir: str = ""
    entrypoint: list[str] | str | None = None
    network_disabled: bool = False
    mac_address: str = ""
    on_build: list[str] | None = None
    labels: dict[str, str] | None = None
    stop_signal: str = ""
    stop_timeout: int | None = None
    shell: list[str] | None = None


class LogConfig(Schema):
    type: str = ""
    config: dict[str, str] = {}


class PortBinding(Schema):
    host_ip: str = ""
    host_port: str = ""


class RestartPolicy(Schema):
    name: str = ""
    maximum_retry_count: int = 0


class Ulimit(Schema):
    name: str
    hard: int = 0
    soft: int = 0


class HostConfig(Schema):
    """What of a container depends on its host; memory in bytes, CpuPeriod and CpuQuota in microseconds."""

    binds: list[str] | None = None
    container_id_file: str = ""
    log_config: LogConfig = msgspec.field(default_factory=LogConfig)
    network_mode: str = ""
    port_bindings: dict[str, list[PortBinding] | None] = {}
    restart_policy: RestartPolicy = msgspec.field(default_factory=RestartPolicy)
    auto_remove: bool = False
    volume_driver: str = ""
    volumes_from: list[str] | None = None
    console_size: list[int] = msgspec.field(default_factory=lambda: [0, 0])
    annotations: dict[str, str] | None = None
    cap_add: list[str] | str | None = None
    cap_drop: list[str] | str | None = None
    cgroupns_mode: str = ""
    dns: list[str] | None = None
    dns_options: list[str] | None = None
    dns_search: list[str] | None = None
    extra_hosts: list[str] | None = None
    group_add: list[str] | None = None
    ipc_mode: str = ""
    cgroup: str = ""
    links: list[str] | None = None
    oom_score_adj: int = 0
    pid_mode: str = ""
    privileged: bool = False
    publish_all_ports: bool = False
    readonly_rootfs: bool = False
    security_opt: list[str] | None = None
    storage_opt: dict[str, str] | None = None
    tmpfs: dict[str, str] | None = None
    uts_mode: str = ""
    userns_mode: str = ""
    shm_size: int = 0
    sysctls: dict[str, str] | None = None
    runtime: str = ""
    isolation: str = ""
    cpu_shares: int = 0
    memory: int = 0
    nano_cpus: int = 0
    cgroup_parent: str = ""
    blkio_weight: int = 0
    blkio_weight_device: list[WeightDevice] | None = None
    blkio_device_read_bps: list[ThrottleDevice] | None = None
    blkio_device_write_bps: list[ThrottleDevice] | None = None
    blkio_device_read_iops: list[ThrottleDevice] | None = None
    blkio_device_write_iops: list[ThrottleDevice] | None = None
    cpu_period: int = 0
    cpu_quota: int = 0
    cpu_realtime_period: int = 0
    cpu_realtime_runtime: int = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    devices: list[Device] | None = None
    device_cgroup_rules: list[str] | None = None
    device_requests: list[dict[str, Any]] | None = None
    kernel_memory: int = 0
    kernel_memory_tcp: int = 0
    memory_reservation: int = 0
    memory_swap: int = 0
    memory_swappiness: int | None = None
    oom_kill_disable: bool = False
    pids_limit: int | None = None
    ulimits: list[Ulimit] | None = None
    cpu_count: int = 0
    cpu_percent: int = 0
    io_maximum_iops: int = 0
    io_maximum_bandwidth: int = 0
    mounts: list[Mount] | None = None
    masked_paths: list[str] | None = None
    readonly_paths: list[str] | None = None
    init: bool | None = None


class IPAMConfig(Schema):
    """Addresses asked for one endpoint."""

    ipv4_address: str = ""
    ipv6_address: str = ""
    link_local_ips: list[str] | None = None


class EndpointConfig(Schema):
    """One network of a container: what was asked for, and while it runs what it got (Docker's EndpointSettings)."""

    ipam_config: IPAMConfig | None = None
    links: list[str] | None = None
    aliases: list[str] | None = None
    mac_address: str = ""
    driver_opts: dict[str, str] | None = None
    gw_priority: int = 0
    network_id: str = ""
    endpoint_id: str = ""
    gateway: str = ""
    ip_address: str = ""
    ip_prefix_len: int = 0
    ipv6_gateway: str = ""
    global_ipv6_address: str = ""
    global_ipv6_prefix_len: int = 0
    dns_names: list[str] | None = None


class NetworkingConfig(Schema):
    endpoints_config: dict[str, EndpointConfig | None] = {}


class CreateRequest(Config):
    """The body of POST /containers/create: a Config with two more members."""

    host_config: HostConfig | None = None
    networking_config: NetworkingConfig | None = None


class ExecRequest(Schema):
    """The body of POST /containers/{id}/exec."""

    user: str = ""
    privileged: bool = False
    tty: bool = False
    console_size: list[int] | None = None
    attach_stdin: bool = False
    attach_stdout: bool = False
    attach_stderr: bool = False
    detach: bool = False
    detach_keys: str = ""
    env: list[str] | None = None
    working_dir: str = ""
    cmd: list[str] | None = None


class ExecStartRequest(Schema):
    """The body of POST /exec/{id}/start."""

    detach: bool = False
    tty: bool = False
    console_size: list[int] | None = None


# --- what the database keeps


class MountPoint(Schema):
    """A mount of a container, resolved at creation: bind, volume, tmpfs or image.

    `anonymous` and what follows it are not shown to clients.
    """

    type: str
    destination: str
    name: str = ""
    source: str = ""
    driver: str = ""
    mode: str = ""
    rw: bool = True
    propagation: str = ""
    anonymous: bool = False     # removed with the container by `rm -v` and AutoRemove
    no_copy: bool = False       # what the image has at the destination is not copied into a new volume
    non_recursive: bool = False
    subpath: str = ""
    options: list[str] = []     # of a tmpfs: size=…, mode=…; of an image: its layers by their short names, bottom first
    image_id: str = ""          # of an image, as its name was understood at creation
    volume_options: dict[str, str] = {}  # for a volume that is made with the container
    volume_labels: dict[str, str] = {}


class HealthResult(Schema):
    """One run of a health check."""

    start: str
    end: str
    exit_code: int
    output: str


class Health(Schema):
    status: str = "starting"    # starting, healthy, unhealthy
    failing_streak: int = 0
    log: list[HealthResult] = []


class State(Schema):
    """`status` is created, running, paused, restarting, removing, exited or dead; times in ns since 1970, 0 = never."""

    status: str = "created"
    pid: int = 0
    start_time: int = 0         # of the process in clock ticks since boot: with the pid it names one process for ever
    exit_code: int = 0
    error: str = ""
    oom_killed: bool = False
    started_ns: int = 0
    finished_ns: int = 0
    health: Health | None = None


class NetworkState(Schema):
    """What is made while a container runs; the networks fill and clear it."""

    sandbox_id: str = ""
    sandbox_key: str = ""
    ports: dict[str, list[PortBinding] | None] = {}
    link_env: list[str] = []  # the variables of links
    resolv_conf_digest: str = ""  # of what we wrote: a file that has another is the user's


class ContainerRecord(Schema):
    """All of a container that outlives the daemon. `name` has no leading slash; `networking` is by network name."""

    id: str
    name: str
    created_ns: int
    image: str
    image_id: str
    config: Config
    host_config: HostConfig
    networking: dict[str, EndpointConfig] = {}
    state: State = msgspec.field(default_factory=State)
    path: str = ""
    args: list[str] = []
    mounts: list[MountPoint] = []
    restart_count: int = 0
    platform: str = "linux"
    driver: str = "overlayfs"
    network_settings: NetworkState = msgspec.field(default_factory=NetworkState)
    project: str = ""  # of compose, as the one who made it said: an image's labels are no identity
    service: str = ""
    manually_stopped: bool = False  # by stop or kill: `unless-stopped` leaves it so

    @property
    def running(self) -> bool:
        """Whether it has a process (a paused one has too)."""
        return self.state.status in ("running", "paused")


# --- JSON <-> records

S = TypeVar("S", bound=Schema)


def _without_nulls(value: Any) -> Any:
    return {k: _without_nulls(v) for k, v in value.items() if v is not None} if isinstance(value, dict) else value


def decode(body: bytes, kind: type[S]) -> S:
    """A request as a record of `kind`; unknown members are passed over as Docker does. Raises InvalidArgument."""
    try:
        return msgspec.convert(spelled(_without_nulls(parse_json(body)), kind), kind)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise InvalidArgument(f"invalid JSON: {error}") from None


_encoder, _container_decoder = msgspec.json.Encoder(), msgspec.json.Decoder(ContainerRecord)


def encode(record: Schema) -> bytes:
    """A record as the database keeps it."""
    return _encoder.encode(record)


def decode_container(data: bytes) -> ContainerRecord:
    """A container from the database. Raises msgspec.MsgspecError when the row is damaged."""
    return _container_decoder.decode(data)
