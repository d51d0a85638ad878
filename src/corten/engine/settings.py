"""What an operator chose for one daemon. Data; the command line is read in corten/daemon/config.py."""

from corten.base.paths import DATA_ROOT, EXEC_ROOT, SOCKET
from corten.engine.build_gc import GcRule


class NetworkSettings:
    """What an operator chose for networks; names are those of dockerd's flags, texts as they were given."""

    __slots__ = ("address_pools", "bip", "bip6", "bridge", "default_gateway", "default_gateway_v6", "dns",
                 "dns_options", "dns_search", "fixed_cidr", "fixed_cidr_v6", "host_gateways", "icc", "ip", "ip_forward",
                 "ip_masq", "ipv6", "mtu", "network_options")

    def __init__(self) -> None:
        self.bridge = ""  # the default network's device; default: the networks choose; none: there is no such network
        self.bip = self.bip6 = ""  # its addresses, with a prefix
        self.fixed_cidr = self.fixed_cidr_v6 = ""  # what its containers get theirs from
        self.default_gateway = self.default_gateway_v6 = ""  # whom they send to instead of the bridge
        self.ipv6 = False  # whether it has both families
        self.icc = self.ip_masq = True  # its containers reach each other, and pass for this host outside
        self.ip = "0.0.0.0"  # noqa: S104 - docker's default: where its ports without an address are published
        self.mtu = 1500
        self.ip_forward = True  # switch forwarding on when a network is made
        self.address_pools: list[str] = []  # base=10.10.0.0/16,size=24: what automatic subnets are cut from
        self.network_options: list[str] = []  # bridge=KEY=VALUE: options of new networks that do not say otherwise
        self.dns: list[str] = []  # of containers that name none; likewise the next two
        self.dns_search: list[str] = []
        self.dns_options: list[str] = []
        self.host_gateways: list[str] = []  # what host-gateway stands for; default: the network's gateway


class DaemonConfig:
    """Names are those of dockerd's flags. `hosts` are unix:// and tcp:// addresses."""

    __slots__ = ("build_gc", "data_root", "debug", "exec_root", "gateway_envoy",
                 "gateway_http", "gateway_https", "gateway_otlp", "group", "hosts",
                 "insecure_registries", "log_driver", "log_level", "log_options", "max_concurrent_downloads",
                 "max_concurrent_uploads", "max_download_attempts", "network", "pidfile", "read_only_hosts",
                 "registry_certs", "registry_mirrors", "search_url", "storage_driver", "tls_ca", "tls_certificate",
                 "tls_key", "trust_domain", "trust_life_s")

    def __init__(self) -> None:
        self.hosts: list[str] = [f"unix://{SOCKET}"]
        self.read_only_hosts: list[str] = []  # unix:// addresses on which only looking is allowed
        self.tls_ca = self.tls_certificate = self.tls_key = ""  # files; all three for tcp:// hosts
        self.data_root = DATA_ROOT
        self.exec_root = EXEC_ROOT
        self.pidfile = ""  # default: <exec root>/corten.pid
        self.network = NetworkSettings()
        self.registry_mirrors: list[str] = []  # URLs, for docker.io, or REGISTRY=URL
        self.registry_certs: list[str] = []  # folders like /etc/docker/certs.d, asked before the usual ones
        self.search_url = ""  # default: docker.io's index
        self.max_concurrent_downloads = 3  # of one pull
        self.max_concurrent_uploads = 5  # of one push
        self.max_download_attempts = 5  # without any progress
        self.insecure_registries: list[str] = []
        self.log_driver = "json-file"  # of containers that name none, with its options
        self.log_options: dict[str, str] = {}
        self.log_level = "info"
        self.debug = False
        self.storage_driver = ""  # overlayfs or vfs; default: what the data root was made with, or what works there
        self.gateway_http = "0.0.0.0:8000"  # where the gateway listens, once there is a route
        self.gateway_https = "0.0.0.0:8443"
        self.gateway_otlp = ""  # URL of a collector of traces
        self.gateway_envoy = ""  # default: the wheel's, or the system's
        self.trust_domain = "corten.internal"  # of identities: spiffe://<domain>/…
        self.trust_life_s = 6 * 3600.0  # of their certificates; half of it has passed when the next is made
        self.build_gc: list[GcRule] | None = None  # how large the build cache may grow; []: nothing ends it
        self.group = ""  # who may use the socket besides root
