"""What the administrator says about registries: mirrors, which may go without TLS, who may see credentials, patience.

Data and the questions asked of it; it opens no connection and reads no configuration file.
"""

import ipaddress

from corten.base.errors import InvalidArgument
from corten.oci.reference import DEFAULT_DOMAIN

HUB = "registry-1.docker.io"

# token servers outside the registry's own origin that may see the credentials given for it
KNOWN_TOKEN_HOSTS = {
    HUB: ("auth.docker.io",),
    "registry.gitlab.com": ("gitlab.com",),
    "docker.elastic.co": ("docker-auth.elastic.co",),
}


class Settings:
    """One daemon's view of registries. Times in seconds, rates in bytes a second."""

    __slots__ = (
        "attempts", "backoff_s", "certificate_folders", "connect_timeout_s", "insecure", "minimum_rate", "mirrors",
        "parallel_downloads", "parallel_uploads", "rate_window_s", "read_timeout_s", "search_url", "token_hosts",
        "trust_loopback",
    )

    def __init__(
        self, mirrors: dict[str, list[str]] | None = None, insecure: list[str] | None = None,
        token_hosts: dict[str, tuple[str, ...]] | None = None,
    ) -> None:
        """`mirrors`: domain -> base URLs, tried in order; `insecure`: `host[:port]` or networks as `10.0.0.0/8`."""
        self.mirrors = {domain: [_check_mirror(url) for url in urls] for domain, urls in (mirrors or {}).items()}
        self.insecure = list(insecure or [])
        self.token_hosts = {**KNOWN_TOKEN_HOSTS, **(token_hosts or {})}
        self.trust_loopback = True
        self.certificate_folders: tuple[str, ...] = ("/etc/corten/certs.d", "/etc/docker/certs.d")
        self.search_url = "https://index.docker.io/v1/search"
        self.connect_timeout_s = 15.0
        self.read_timeout_s = 60.0
        self.attempts = 5
        self.backoff_s = 0.25
        self.minimum_rate = 1024
        self.rate_window_s = 15.0
        self.parallel_downloads = 3  # of one image; docker's figure
        self.parallel_uploads = 5

    def is_insecure(self, host: str) -> bool:
        """Whether plain HTTP and unproven certificates will do for `host[:port]`: loopback, or listed."""
        name = host_name(host)
        if host in self.insecure or name in self.insecure:
            return True
        if name == "localhost":
            return self.trust_loopback
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        if address.is_loopback and self.trust_loopback:
            return True
        return any(_contains(network, address) for network in self.insecure if "/" in network)

    def token_host_allowed(self, registry_host: str, token_host: str) -> bool:
        """Whether credentials for one host may be shown to a token server on another (HTTPS is the caller's check)."""
        return token_host in self.token_hosts.get(registry_host, ())

    def bases(self, domain: str) -> list[str]:
        """Base URLs to pull from, mirrors first; without a scheme where it must be found out (`host[:port]`)."""
        return [*self.mirrors.get(domain, ()), registry_host(domain)]


def registry_host(domain: str) -> str:
    """The host that serves a reference's domain: docker.io lives elsewhere than its name says."""
    return HUB if domain == DEFAULT_DOMAIN else domain


def host_name(host: str) -> str:
    """`[::1]:5000` -> `::1`, `a:80` -> `a`."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def _check_mirror(url: str) -> str:
    if not url.startswith(("http://", "https://")) or "?" in url or "#" in url or "@" in url:
        raise InvalidArgument(f"invalid mirror: {url!r} is not an http or https URL")
    return url.rstrip("/")


def _contains(network: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    try:
        return address in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False
