"""What the operator chose for networks, parsed and checked before anything is made. Pure; light to import."""

from corten.base.errors import InvalidArgument
from corten.engine.settings import NetworkSettings
from corten.network import driver, ipam
from corten.network.ipam import ROUTER_NAMES
from corten.network.ipam import Network as Subnet

NO_BRIDGE = "none"  # for a bridge: no default network, as dockerd has it


class DefaultNetwork:
    """The settings of the default network, parsed; the dictionaries are by IP version and lack what was not given.

    `absent`: there is to be none.
    """

    def __init__(self, settings: NetworkSettings, bridge: str) -> None:
        """Raises InvalidArgument for what cannot be."""
        self.absent = settings.bridge == NO_BRIDGE
        self.ipv6 = settings.ipv6
        self.own = {
            version: ipam.parse_bridge_address(text, version)
            for version, text in ((4, settings.bip), (6, settings.bip6)) if text
        }
        self.within = {
            version: ipam.parse_subnet(text, what) for version, text, what in (
                (4, settings.fixed_cidr, "fixed-cidr"), (6, settings.fixed_cidr_v6, "fixed-cidr-v6")) if text
        }
        self.routers = {
            version: ipam.parse_address(text, what) for version, text, what in (
                (4, settings.default_gateway, "default-gateway"),
                (6, settings.default_gateway_v6, "default-gateway-v6")) if text
        }
        for version, value in (*self.within.items(), *self.routers.items()):
            if value.version != version:
                raise InvalidArgument(f"{value} is not of IPv{version}")
        for text in (*settings.dns, *settings.host_gateways):
            ipam.parse_address(text, "IP address")
        self.options = {
            driver.DEFAULT_BRIDGE: "true", driver.ICC: _word(settings.icc), driver.MASQUERADE: _word(settings.ip_masq),
            driver.HOST_BINDING: settings.ip, driver.NAME: bridge, driver.MTU: str(settings.mtu),
        }
        driver.Options(self.options)

    def check(self, version: int, subnet: Subnet) -> None:
        """Range and router lie in the network. Raises InvalidArgument."""
        within, router = self.within.get(version), self.routers.get(version)
        if within is not None and not ipam.contains(subnet, within):
            raise InvalidArgument(f"invalid ip-range {within}: parent subnet {subnet} doesn't contain ip-range")
        if router is not None and router not in subnet:
            raise InvalidArgument(f"auxiliary address: ({ROUTER_NAMES[version]}:{router}) must belong to the master "
                                  f"pool: {subnet}")


def _word(value: bool) -> str:
    return "true" if value else "false"


def network_options(given: list[str]) -> dict[str, dict[str, str]]:
    """`--default-network-opt bridge=KEY=VALUE` -> options by driver. Raises InvalidArgument, Unsupported, NotFound."""
    found: dict[str, dict[str, str]] = {}
    for text in given:
        kind, _, option = text.partition("=")
        key, equals, value = option.partition("=")
        if not kind or not key or not equals:
            raise InvalidArgument(f"invalid default network options format: {text}: driver=option=value is needed")
        found.setdefault(driver.check_driver(kind), {})[key] = value
    for kind, options in found.items():
        driver.Options(options, kind)
    return found
