"""The limits of the containers that a build runs."""

from corten.engine.records import HostConfig, LogConfig, Ulimit


class Limits:
    """What POST /build says of the containers it runs; memory in bytes, CPU times in microseconds."""

    __slots__ = ("cgroup_parent", "cpu_period", "cpu_quota", "cpu_shares", "cpuset_cpus", "cpuset_mems", "extra_hosts",
                 "memory", "memory_swap", "network_mode", "security_opt", "shm_size", "ulimits")

    def __init__(self) -> None:
        self.memory = self.memory_swap = self.cpu_shares = self.cpu_period = self.cpu_quota = self.shm_size = 0
        self.cpuset_cpus = self.cpuset_mems = self.cgroup_parent = ""
        self.network_mode = "default"
        self.extra_hosts: list[str] = []
        self.security_opt: list[str] = []
        self.ulimits: list[Ulimit] = []

    def host_config(self) -> HostConfig:
        """As the container is asked for."""
        return HostConfig(
            memory=self.memory, memory_swap=self.memory_swap, cpu_shares=self.cpu_shares, cpu_period=self.cpu_period,
            cpu_quota=self.cpu_quota, cpuset_cpus=self.cpuset_cpus, cpuset_mems=self.cpuset_mems,
            shm_size=self.shm_size, network_mode=self.network_mode or "default", cgroup_parent=self.cgroup_parent,
            extra_hosts=self.extra_hosts or None, security_opt=self.security_opt or None, ulimits=self.ulimits,
            log_config=LogConfig(type="json-file"),  # one file, whatever the daemon's default: it is followed here
        )
