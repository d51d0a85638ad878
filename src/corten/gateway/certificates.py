"""The gateway's own authorities: certificates for hosts that were given none, identities of services.

X.509 by `cryptography`. An identity is an X.509 SVID: one URI name, and the addresses at which it is called.
https://github.com/spiffe/spiffe/blob/main/standards/X509-SVID.md
"""

import datetime
import importlib.util
import os
import socket
from collections.abc import Sequence
from ipaddress import IPv4Address
from typing import TYPE_CHECKING

from corten.base.errors import Unavailable
from corten.base.files import atomic_write

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

ROOT_DAYS, DAYS = 3650, 90
RENEW_DAYS = 30


class Authority:
    """`folder`: ca.pem, ca.key and what was made, mode 0600; the key never leaves it. `domain`: of identities."""

    def __init__(self, folder: str, domain: str = "") -> None:
        self.folder, self.domain = folder, domain
        self._signer: tuple[ec.EllipticCurvePrivateKey, x509.Certificate] | None = None

    def root(self) -> str:
        """The authority's certificate, made on first use; PEM. Raises Unavailable without `cryptography`."""
        path = f"{self.folder}/ca.pem"
        if not os.path.exists(path):
            _needed()
            from cryptography import x509
            from cryptography.hazmat.primitives import hashes
            from cryptography.hazmat.primitives.asymmetric import ec
            from cryptography.hazmat.primitives.serialization import Encoding

            os.makedirs(self.folder, mode=0o700, exist_ok=True)
            key = ec.generate_private_key(ec.SECP256R1())
            name = _name(f"corten {self.domain or 'gateway'} {socket.gethostname()}"[:64])
            usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
            builder = (_builder(name, name, key.public_key(), datetime.timedelta(days=ROOT_DAYS))
                       .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
                       .add_extension(usage, critical=True))
            if self.domain:
                own = [x509.UniformResourceIdentifier(f"spiffe://{self.domain}")]
                builder = builder.add_extension(x509.SubjectAlternativeName(own), critical=False)
            made = builder.sign(key, hashes.SHA256())
            atomic_write(f"{self.folder}/ca.key", _pem(key))
            atomic_write(path, made.public_bytes(Encoding.PEM))
        with open(path, encoding="ascii") as file:
            return file.read()

    def certificate(self, hosts: list[str]) -> tuple[str, str]:
        """(chain, key) as PEM for these names; kept, and made anew a month before its end."""
        from hashlib import sha256

        root = self.root()
        name = sha256(" ".join(hosts).encode()).hexdigest()[:16]
        path = f"{self.folder}/made-{name}.pem"
        if not os.path.exists(path) or _days_left(path) < RENEW_DAYS:
            self._make(path, hosts)
        with open(path, encoding="ascii") as file:
            key, _, chain = file.read().partition("-----BEGIN CERTIFICATE")
        return "-----BEGIN CERTIFICATE" + chain + root, key

    def _make(self, path: str, hosts: list[str]) -> None:
        _needed()
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec

        authority_key, authority = self._signing()
        key = ec.generate_private_key(ec.SECP256R1())
        made = (_builder(_name(hosts[0][:64]), authority.subject, key.public_key(), datetime.timedelta(days=DAYS))
                .add_extension(x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts]), critical=False)
                .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
                .sign(authority_key, hashes.SHA256()))
        pem = made.public_bytes(serialization.Encoding.PEM)
        atomic_write(path, _pem(key) + pem)

    def _signing(self) -> "tuple[ec.EllipticCurvePrivateKey, x509.Certificate]":
        if self._signer is None:
            from cryptography import x509
            from cryptography.hazmat.primitives import serialization
            from cryptography.hazmat.primitives.asymmetric import ec

            text = self.root()
            with open(f"{self.folder}/ca.key", "rb") as file:
                key = serialization.load_pem_private_key(file.read(), None)
            assert isinstance(key, ec.EllipticCurvePrivateKey)
            self._signer = key, x509.load_pem_x509_certificate(text.encode())
        return self._signer

    def identity(self, uri: str, life_s: float, addresses: Sequence[IPv4Address] = ()) -> tuple[str, str, float]:
        """(certificate, key, end as a Unix time) of a service at its addresses; kept nowhere. Raises Unavailable."""
        self.root()
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.x509.oid import ExtendedKeyUsageOID

        authority_key, authority = self._signing()
        key = ec.generate_private_key(ec.SECP256R1())
        usage = x509.KeyUsage(True, False, False, False, True, False, False, False, False)
        names = [x509.UniformResourceIdentifier(uri), *(x509.IPAddress(address) for address in addresses)]
        both = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        made = (_builder(x509.Name([]), authority.subject, key.public_key(), datetime.timedelta(seconds=life_s))
                .add_extension(x509.SubjectAlternativeName(names), critical=True)
                .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
                .add_extension(usage, critical=True).add_extension(x509.ExtendedKeyUsage(both), critical=False)
                .sign(authority_key, hashes.SHA256()))
        return (made.public_bytes(serialization.Encoding.PEM).decode(), _pem(key).decode(),
                made.not_valid_after_utc.timestamp())


def _needed() -> None:
    if importlib.util.find_spec("cryptography") is None:
        raise Unavailable("making certificates needs cryptography: install corten[gateway], or give both files")


def _name(text: str) -> "x509.Name":
    from cryptography import x509

    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])


def _builder(
    subject: "x509.Name", issuer: "x509.Name", public_key: "ec.EllipticCurvePublicKey", life: datetime.timedelta
) -> "x509.CertificateBuilder":
    from cryptography import x509

    now = datetime.datetime.now(datetime.UTC)
    return (x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(public_key)
            .serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(minutes=5))
            .not_valid_after(now + life))


def _pem(key: "ec.EllipticCurvePrivateKey") -> bytes:
    from cryptography.hazmat.primitives import serialization

    pem: bytes = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                   serialization.NoEncryption())
    return pem


def _days_left(path: str) -> float:
    from cryptography import x509

    with open(path, "rb") as file:
        text = file.read()
    found = x509.load_pem_x509_certificate(text[text.index(b"-----BEGIN CERTIFICATE"):])
    end: datetime.datetime = found.not_valid_after_utc
    return (end - datetime.datetime.now(datetime.UTC)).total_seconds() / 86400
