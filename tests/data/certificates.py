"""Certificates for the hostile server: one that holds, and three that do not."""

import datetime
import ssl
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

YEAR = datetime.timedelta(days=365)


def make_certificates(folder: Path) -> dict[str, ssl.SSLContext]:
    """Host name without `.test` -> a server's context; the authority's certificate lies in `authority.pem`."""
    folder.mkdir(parents=True, exist_ok=True)
    now = datetime.datetime.now(datetime.UTC)
    authority = ec.generate_private_key(ec.SECP256R1())
    root = _signed("authority", authority, "authority", authority, now - YEAR, now + YEAR, is_authority=True)
    _save(folder / "authority.pem", root)
    made = {}
    for name, host, issuer, end in (
        ("tls-good", "tls-good", "authority", now + YEAR),
        ("tls-wrong-host", "another", "authority", now + YEAR),
        ("tls-expired", "tls-expired", "authority", now - YEAR / 2),
        ("tls-self-signed", "tls-self-signed", "tls-self-signed.test", now + YEAR),
    ):
        key = ec.generate_private_key(ec.SECP256R1())
        signer = authority if issuer == "authority" else key
        certificate = _signed(f"{host}.test", key, issuer, signer, now - YEAR, end)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(_save(folder / f"{name}.pem", certificate, key))
        made[name] = context
    return made


def _signed(
    name: str, key: ec.EllipticCurvePrivateKey, issuer: str, signer: ec.EllipticCurvePrivateKey,
    start: datetime.datetime, end: datetime.datetime, *, is_authority: bool = False,
) -> x509.Certificate:  # fmt: skip
    builder = x509.CertificateBuilder(
        subject_name=_name(name), issuer_name=_name(issuer), public_key=key.public_key(),
        serial_number=x509.random_serial_number(), not_valid_before=start, not_valid_after=end,
    )  # fmt: skip
    builder = builder.add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
    return builder.sign(signer, hashes.SHA256())


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _save(path: Path, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey | None = None) -> Path:
    data = certificate.public_bytes(serialization.Encoding.PEM)
    if key is not None:
        kind = serialization.PrivateFormat.PKCS8
        data += key.private_bytes(serialization.Encoding.PEM, kind, serialization.NoEncryption())
    path.write_bytes(data)
    return path
