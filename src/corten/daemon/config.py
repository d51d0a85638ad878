"""The daemon's command line: dockerd's flags as a table."""

import argparse
import os
import re

from corten.base.errors import InvalidArgument
from corten.base.units import parse_duration
from corten.daemon import config_file, network_flags
from corten.engine import log_drivers
from corten.engine.build_gc import read_fields
from corten.engine.default_settings import DefaultNetwork, network_options
from corten.engine.records import LogConfig
from corten.engine.settings import DaemonConfig
from corten.network.ipam import parse_pool

LEVELS = ("debug", "info", "warn", "error", "fatal")

# flags, attribute, what argparse is told
FLAGS: tuple[tuple[tuple[str, ...], str, dict[str, object]], ...] = (
    (("--config-file",), "config_file", {"help": "Daemon configuration file, as dockerd's daemon.json"}),
    (("--builder-gc",), "build_gc",
     {"help": "Bounds of the build cache: max-used-space=, reserved-space=, min-free-space=; or enabled=false"}),
    (("-H", "--host"), "hosts",
     {"action": "append", "help": "Socket to listen on: unix:///path, tcp://host:port with --tlsverify; repeatable"}),
    (("--read-only-host",), "read_only_hosts",
     {"action": "append", "help": "Socket (unix:///path) on which only looking is allowed; may be repeated"}),
    (("--tlsverify",), "tlsverify", {"action": "store_true", "help": "Clients on tcp:// prove who they are"}),
    (("--tlscacert",), "tls_ca", {"help": "Authority that client certificates must come from"}),
    (("--tlscert",), "tls_certificate", {"help": "Certificate of this daemon"}),
    (("--tlskey",), "tls_key", {"help": "Its key"}),
    (("--data-root",), "data_root", {"help": "Root folder of persistent state"}),
    (("--exec-root",), "exec_root", {"help": "Root folder of run-time state"}),
    (("-p", "--pidfile"), "pidfile", {"help": "Path of the PID file"}),
    (("-G", "--group"), "group", {"help": "Group that may use the socket besides root"}),
    (("--registry-mirror",), "registry_mirrors",
     {"action": "append", "help": "Preferred mirror of docker.io: URL, or of any registry: NAME=URL; may be repeated"}),
    (("--registry-certs",), "registry_certs",
     {"action": "append", "help": "Folder of authorities and client certificates, laid out as /etc/docker/certs.d"}),
    (("--registry-search",), "search_url", {"help": "URL to search instead of docker.io's index"}),
    (("--max-concurrent-downloads",), "max_concurrent_downloads", {"type": int, "help": "Layers of one pull at once"}),
    (("--max-concurrent-uploads",), "max_concurrent_uploads", {"type": int, "help": "Layers of one push at once"}),
    (("--max-download-attempts",), "max_download_attempts", {"type": int, "help": "Tries without any progress"}),
    (("--insecure-registry",), "insecure_registries",
     {"action": "append", "help": "Registry that may be spoken to without TLS; may be repeated"}),
    (("--log-driver",), "log_driver", {"help": "Log driver of containers that name none"}),
    (("--log-opt",), "log_options", {"action": "append", "help": "Option of that driver, KEY=VALUE; may be repeated"}),
    (("-s", "--storage-driver"), "storage_driver",
     {"help": "overlayfs, or vfs: plain copies, where overlay does not work"}),
    (("--gateway-http",), "gateway_http", {"help": "Where the gateway listens, host:port"}),
    (("--gateway-https",), "gateway_https", {"help": "Where the gateway listens with TLS, host:port"}),
    (("--gateway-otlp",), "gateway_otlp", {"help": "URL of an OTLP collector for traces of the gateway"}),
    (("--gateway-envoy",), "gateway_envoy", {"help": "Envoy's program, instead of the one found"}),
    (("--trust-domain",), "trust_domain", {"help": "Of the identities of services (default corten.internal)"}),
    (("--trust-life",), "trust_life_s", {"help": "How long their certificates are good, like 6h"}),
    (("-l", "--log-level"), "log_level", {"choices": LEVELS, "help": "Level of the log on stderr"}),
    (("-D", "--debug"), "debug", {"action": "store_true", "default": None, "help": "Same as --log-level debug"}),
)


def parse(arguments: list[str]) -> DaemonConfig:
    """The configuration a command line asks for. Raises InvalidArgument; --help and unknown flags end the process."""
    parser = argparse.ArgumentParser(prog="corten daemon", description="The engine: serves the API on a unix socket.")
    for names, attribute, options in FLAGS:
        parser.add_argument(*names, dest=attribute, **options)  # type: ignore[arg-type]
    network_flags.add(parser)
    given = parser.parse_args(arguments)
    if given.config_file:
        config_file.merge(given, config_file.read(given.config_file))
    config = DaemonConfig()
    config.network = network_flags.settings(given)
    for _, attribute, _options in FLAGS:
        value = getattr(given, attribute)
        if value is not None and attribute not in ("tlsverify", "config_file"):
            setattr(config, attribute, value)
    if isinstance(given.build_gc, str):
        config.build_gc = read_fields(given.build_gc)
    if given.exec_root and not given.hosts:
        config.hosts = [f"unix://{os.path.abspath(config.exec_root)}/corten.sock"]
    config.pidfile = config.pidfile or f"{os.path.abspath(config.exec_root)}/corten.pid"
    config.log_options = _log_options(config.log_driver, given.log_options or [])
    if config.debug:
        config.log_level = "debug"
    _check_hosts(config, given.tlsverify)
    for name in ("max_concurrent_downloads", "max_concurrent_uploads", "max_download_attempts"):
        if getattr(config, name) < 1:
            raise InvalidArgument(f"invalid --{name.replace('_', '-')}: {getattr(config, name)}: must be positive")
    if isinstance(config.trust_life_s, str):
        config.trust_life_s = parse_duration(config.trust_life_s)
    if not 60 <= config.trust_life_s <= 30 * 86400:
        raise InvalidArgument("invalid --trust-life: not between a minute and 30 days")
    if not re.fullmatch(r"[a-z0-9]([a-z0-9._-]{0,252}[a-z0-9])?", config.trust_domain):
        raise InvalidArgument(f"invalid --trust-domain: {config.trust_domain}")
    _check_network(config)
    return config


def _check_network(config: DaemonConfig) -> None:
    """Before anything is made. Raises InvalidArgument, Unsupported, NotFound."""
    DefaultNetwork(config.network, config.network.bridge)
    network_options(config.network.network_options)
    for text in config.network.address_pools:
        parse_pool(text)


def _log_options(driver: str, given: list[str]) -> dict[str, str]:
    options = {text.partition("=")[0]: text.partition("=")[2] for text in given}
    log_drivers.check(LogConfig(type=driver, config=options))
    return options


def _check_hosts(config: DaemonConfig, verify: bool) -> None:
    """Nothing listens on the network without certificates on both sides."""
    folder = os.environ.get("DOCKER_CERT_PATH") or os.path.expanduser("~/.docker")
    config.tls_ca = config.tls_ca or f"{folder}/ca.pem"
    config.tls_certificate = config.tls_certificate or f"{folder}/cert.pem"
    config.tls_key = config.tls_key or f"{folder}/key.pem"
    for address in config.hosts:
        if not address.startswith("tcp://"):
            socket_path(address)
            continue
        tcp_address(address)
        if not verify:
            raise InvalidArgument(f"invalid --host: {address}: tcp needs --tlsverify, --tlscacert, --tlscert and "
                                  "--tlskey: whoever reaches the API is root here")
    for address in config.read_only_hosts:
        socket_path(address)


def socket_path(address: str) -> str:
    """`unix:///run/corten/corten.sock` -> the path. Raises InvalidArgument."""
    scheme, separator, rest = address.partition("://")
    if not separator or scheme not in ("unix",) or not rest.startswith("/"):
        raise InvalidArgument(f"invalid --host: {address}: unix:///path and tcp://host:port are supported")
    return rest


def tcp_address(address: str) -> tuple[str, int]:
    """`tcp://0.0.0.0:2376` -> (host, port); the port may be 0 (any) or absent (2376). Raises InvalidArgument."""
    found = re.fullmatch(r"tcp://(\[[0-9a-fA-F:.%a-z]+\]|[A-Za-z0-9_.-]*)(?::([0-9]{1,5}))?", address, re.ASCII)
    if not found or int(found[2] or 0) > 65535:
        raise InvalidArgument(f"invalid --host: {address}: not tcp://host:port")
    return found[1].strip("[]"), int(found[2]) if found[2] else 2376
