"""Who is called what: the names of containers on user-defined networks, and who may ask for them. Pure.

A container asks in its own networks only, in their order; a name leads to all addresses that bear it there (replicas
share an alias). `web.shop` is `web` on the network `shop`. Links are names of one container's own.
Source: docker's Sandbox.ResolveName.
"""

import socket
from typing import Any

Spec = dict[str, Any]
SUFFIX_V4, SUFFIX_V6 = ".in-addr.arpa", ".ip6.arpa"


class Endpoint:
    """One container on one network; the first of `names` is the container's own, addresses are packed."""

    __slots__ = ("addresses", "links", "names", "network", "network_name")

    def __init__(self, spec: Spec) -> None:
        self.network: str = spec["id"]
        self.network_name: str = spec["name"]
        self.names = [str(name).lower() for name in spec["names"]]
        self.links = {str(alias).lower(): str(target).lower() for alias, target in spec.get("links", {}).items()}
        self.addresses = [packed(address) for address in spec["addresses"]]


def packed(address: str) -> bytes:
    """4 or 16 bytes. Raises OSError."""
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)


class Names:
    """All endpoints; containers are put whole and dropped whole."""

    def __init__(self) -> None:
        self._containers: dict[str, list[Endpoint]] = {}
        self._named: dict[tuple[str, str], list[Endpoint]] = {}  # (network id, name)
        self._addressed: dict[tuple[str, bytes], Endpoint] = {}  # (network id, address)

    def put(self, container: str, endpoints: list[Spec]) -> None:
        """Know a container by these endpoints from now on. Raises KeyError, OSError, TypeError for a broken one."""
        made = [Endpoint(spec) for spec in endpoints]
        self.drop(container)
        self._containers[container] = made
        for endpoint in made:
            for name in dict.fromkeys(endpoint.names):
                self._named.setdefault((endpoint.network, name), []).append(endpoint)
            for address in endpoint.addresses:
                self._addressed[endpoint.network, address] = endpoint

    def drop(self, container: str) -> None:
        """Forget a container; absent is fine."""
        for endpoint in self._containers.pop(container, ()):
            for name in dict.fromkeys(endpoint.names):
                bearers = self._named[endpoint.network, name]
                bearers.remove(endpoint)
                if not bearers:
                    del self._named[endpoint.network, name]
            for address in endpoint.addresses:
                if self._addressed.get((endpoint.network, address)) is endpoint:
                    del self._addressed[endpoint.network, address]

    def __contains__(self, container: str) -> bool:
        return container in self._containers

    def __len__(self) -> int:
        return len(self._containers)

    def containers(self) -> list[str]:
        """The ids of all containers."""
        return list(self._containers)

    def find(self, asker: str, name: str, size: int) -> list[bytes] | None:
        """Addresses of `size` bytes (4, 16) that bear the name in the asker's networks; None when nobody bears it."""
        endpoints = self._containers.get(asker, ())
        whole, network = name, ""
        while whole:
            for links in (True, False):
                for endpoint in endpoints:
                    if network and endpoint.network_name.lower() != network:
                        continue
                    found = self._bearers(endpoint, whole, links)
                    if found:
                        return [one for bearer in found for one in bearer.addresses if len(one) == size]
            whole = whole.rpartition(".")[0]
            network = name[len(whole) + 1:]
        return None

    def _bearers(self, endpoint: Endpoint, name: str, links: bool) -> list[Endpoint]:
        if links:
            name = endpoint.links.get(name, "")
        elif name in endpoint.links:
            return []
        return self._named.get((endpoint.network, name), [])

    def reverse(self, asker: str, name: str) -> str | None:
        """`2.0.18.172.in-addr.arpa` -> `web.shop`; None when the asker's networks have no such address."""
        address = reversed_address(name)
        for endpoint in self._containers.get(asker, ()) if address else ():
            found = self._addressed.get((endpoint.network, address))
            if found:
                return f"{found.names[0]}.{found.network_name}"
        return None


def reversed_address(name: str) -> bytes:
    """The packed address of a name below in-addr.arpa or ip6.arpa, b"" when it is none."""
    try:
        if name.endswith(SUFFIX_V4):
            labels = name.removesuffix(SUFFIX_V4).split(".")
            return socket.inet_pton(socket.AF_INET, ".".join(reversed(labels)))
        if name.endswith(SUFFIX_V6):
            nibbles = name.removesuffix(SUFFIX_V6).split(".")
            if len(nibbles) == 32 and all(len(nibble) == 1 for nibble in nibbles):
                return bytes.fromhex("".join(reversed(nibbles)))
    except (OSError, ValueError):
        pass
    return b""
