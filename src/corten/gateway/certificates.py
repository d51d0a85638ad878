"""The gateway's own authority and the certificates it makes for hosts that were given none. X.509 by `cryptography`."""

import datetime
import importlib.util
import os
import socket
from typing import TYPE_CHECKING

from corten.base.errors import Unavailable
from corten.base.files import atomic_write

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

ROOT_DAYS, DAYS = 3650, 90
RENEW_DAYS = 30


class Authority:
    """`folder`: ca.pem, ca.key and what was made, mode 0600; the key never leaves it."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

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
            name = _name(f"corten gateway {socket.gethostname()}"[:64])
            usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
            made = (_builder(name, name, key.public_key(), ROOT_DAYS)
                    .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
                    .add_extension(usage, critical=True)
                    .sign(key, hashes.SHA256()))
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

        with open(f"{self.folder}/ca.key", "rb") as file:
            authority_key = serialization.load_pem_private_key(file.read(), None)
        assert isinstance(authority_key, ec.EllipticCurvePrivateKey)
        with open(f"{self.folder}/ca.pem", "rb") as file:
            authority = x509.load_pem_x509_certificate(file.read())
        key = ec.generate_private_key(ec.SECP256R1())
        made = (_builder(_name(hosts[0][:64]), authority.subject, key.public_key(), DAYS)
                .add_extension(x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts]), critical=False)
                .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
                .sign(authority_key, hashes.SHA256()))
        pem = made.public_bytes(serialization.Encoding.PEM)
        atomic_write(path, _pem(key) + pem)


def _needed() -> None:
    if importlib.util.find_spec("cryptography") is None:
        raise Unavailable("making certificates needs cryptography: install corten[gateway], or give both files")


def _name(text: str) -> "x509.Name":
    from cryptography import x509

    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])


def _builder(
    subject: "x509.Name", issuer: "x509.Name", public_key: "ec.EllipticCurvePublicKey", days: int
) -> "x509.CertificateBuilder":
    from cryptography import x509

    now = datetime.datetime.now(datetime.UTC)
    return (x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(public_key)
            .serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(minutes=5))
            .not_valid_after(now + datetime.timedelta(days=days)))


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
