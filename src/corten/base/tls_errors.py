"""A failed TLS handshake in the words of Go's crypto/tls, which users of docker know."""

import ssl

NOT_TLS = "tls: first record does not look like a TLS handshake"
_UNKNOWN = "certificate signed by unknown authority"
_CERTIFICATE_TEXTS = {
    "unable to get local issuer certificate": _UNKNOWN,
    "self-signed certificate": _UNKNOWN,
    "self-signed certificate in certificate chain": _UNKNOWN,
    "certificate has expired": "certificate has expired or is not yet valid",
}


def unverified(reason: str) -> str:
    """For OpenSSL's reason not to trust a certificate."""
    return f"tls: failed to verify certificate: x509: {_CERTIFICATE_TEXTS.get(reason, reason)}"


def handshake_failure(error: ssl.SSLError) -> str:
    """For any other failure, and for that one."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return unverified(error.verify_message or str(error))
    if "WRONG_VERSION_NUMBER" in str(error) or "record layer" in str(error):
        return NOT_TLS
    alert = (error.reason or "").partition("ALERT_")[2].lower().replace("_", " ")
    return f"remote error: tls: {alert}" if alert else f"tls: {error.reason or error}"
