"""Certificates of services, short-lived: made when first asked for, made anew well before their end, forgotten after.

They live in this process and in Envoy's folder only. A daemon that starts finds there what is still good.
"""

import time
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address

from corten.gateway.certificates import Authority
from corten.gateway.delivery import Files
from corten.gateway.xds_shapes import Json, secret_file

LIFE_S = 6 * 3600.0


Names = tuple[str, frozenset[IPv4Address]]


class Identity:
    """A certificate and its key, as PEM; `end` is a Unix time, `names` its URI and addresses."""

    __slots__ = ("chain", "end", "key", "names")

    def __init__(self, names: Names, chain: str, key: str, end: float) -> None:
        self.names, self.chain, self.key, self.end = names, chain, key, end

    @property
    def uri(self) -> str:
        """Who it is."""
        return self.names[0]


class Identities:
    """Of all members, by the name of their secret."""

    def __init__(self, authority: Authority, life_s: float = LIFE_S) -> None:
        self.authority, self.life_s = authority, life_s
        self.held: dict[str, Identity] = {}

    def of(self, name: str, uri: str, addresses: Sequence[IPv4Address] = ()) -> Identity:
        """The one that is good for at least half its life. Raises Unavailable."""
        found, names = self.held.get(name), (uri, frozenset(addresses))
        if found is None or found.names != names or found.end - time.time() < self.life_s / 2:
            made = self.authority.identity(uri, self.life_s, sorted(names[1]))
            found = self.held[name] = Identity(names, *made)
        return found

    def keep(self, names: Iterable[str]) -> None:
        """Forget all others."""
        kept = set(names)
        for name in set(self.held) - kept:
            del self.held[name]

    def due(self) -> bool:
        """Whether one should be made anew."""
        soon = time.time() + self.life_s / 2
        return any(one.end < soon for one in self.held.values())

    def load(self, files: Files) -> None:
        """What an earlier daemon has given to Envoy."""
        for name, resources in files.items():
            if name.startswith("sds.") and resources and str(resources[0].get("name")).startswith("identity "):
                found = _parsed(resources[0])
                if found and secret_file(resources[0]["name"]) == name:
                    self.held[resources[0]["name"]] = found


def _parsed(secret: Json) -> Identity | None:
    from cryptography import x509

    try:
        chain = secret["tls_certificate"]["certificate_chain"]["inline_string"]
        key = secret["tls_certificate"]["private_key"]["inline_string"]
        found = x509.load_pem_x509_certificate(chain.encode())
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uri = names.get_values_for_type(x509.UniformResourceIdentifier)[0]
        addresses = frozenset(names.get_values_for_type(x509.IPAddress))
    except (KeyError, ValueError, IndexError, x509.ExtensionNotFound):
        return None
    return Identity((uri, addresses), chain, key, found.not_valid_after_utc.timestamp())
