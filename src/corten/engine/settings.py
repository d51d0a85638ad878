"""What an operator chose for one daemon. Data; the command line is read in corten/daemon/config.py."""

from corten.base.paths import DATA_ROOT, EXEC_ROOT, SOCKET


class DaemonConfig:
    """Names are those of dockerd's flags. `hosts` are unix:// addresses; `bip` is an address with prefix or None."""

    __slots__ = ("address_pools", "bip", "bridge", "data_root", "debug", "exec_root", "gateway_envoy",
                 "gateway_http", "gateway_https", "gateway_otlp", "group", "hosts",
                 "insecure_registries", "log_driver", "log_level", "log_options", "max_concurrent_downloads",
                 "max_concurrent_uploads", "max_download_attempts", "pidfile", "read_only_hosts", "registry_certs",
                 "registry_mirrors", "search_url", "storage_driver", "tls_ca", "tls_certificate", "tls_key",
                 "trust_domain", "trust_life_s")

    def __init__(self) -> None:
        self.hosts: list[str] = [f"unix://{SOCKET}"]
        self.read_only_hosts: list[str] = []  # unix:// addresses on which only looking is allowed
        self.tls_ca = self.tls_certificate = self.tls_key = ""  # files; all three for tcp:// hosts
        self.data_root = DATA_ROOT
        self.exec_root = EXEC_ROOT
        self.pidfile = ""  # default: <exec root>/corten.pid
        self.bridge = ""  # default: the networks choose
        self.bip: str | None = None
        self.address_pools: list[str] = []  # base=10.10.0.0/16,size=24: what automatic subnets are cut from
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
        self.group = ""  # who may use the socket besides root
