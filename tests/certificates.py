"""Certificates made by openssl for one test: authorities, and what they sign."""

import subprocess


def openssl(*arguments):
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)


def authority(folder, name):
    """A certificate authority: (certificate, key)."""
    certificate, key = f"{folder}/{name}.pem", f"{folder}/{name}-key.pem"
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj",
            f"/CN={name}", "-keyout", key, "-out", certificate)
    return certificate, key


def certificate(folder, name, issuer, usage):
    """A certificate for 127.0.0.1 from an authority: (certificate, key)."""
    path, key, request = (f"{folder}/{name}{end}" for end in (".pem", "-key.pem", ".csr"))
    with open(f"{folder}/{name}.ext", "w") as file:
        file.write(f"subjectAltName=IP:127.0.0.1,DNS:localhost\nextendedKeyUsage={usage}\n")
    openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}", "-keyout",
            key, "-out", request)
    openssl("x509", "-req", "-in", request, "-days", "2", "-CA", issuer[0], "-CAkey", issuer[1], "-CAcreateserial",
            "-extfile", f"{folder}/{name}.ext", "-out", path)
    return path, key
