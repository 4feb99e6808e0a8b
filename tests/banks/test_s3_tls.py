# SPDX-License-Identifier: Apache-2.0
"""A server is believed by its certificate, of the public authorities or of the one that ``ca_file`` names."""

from __future__ import annotations

import ipaddress
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from seawall.core.errors import BankDeniedError, InvalidInputError
from seawall.protection.banks.s3 import S3Bank
from seawall.sdk.bank import probed
from tests.support.s3_server import write_keys
from tests.support.small_s3 import SmallS3


@dataclass(frozen=True, slots=True)
class Certificates:
    """What a server shows, with its key, and the authority that vouches for it."""

    server: Path
    authority: Path


def certificate(
    name: str, issuer: str, key: ec.EllipticCurvePrivateKey, by: ec.EllipticCurvePrivateKey, *, ca: bool
) -> bytes:
    """One certificate of this host, valid for long."""
    begin = datetime(2020, 1, 1, tzinfo=UTC)
    this_host = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    made = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + timedelta(days=36500))
        .add_extension(x509.SubjectAlternativeName([this_host]), critical=False)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .sign(by, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM)


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    authority, server = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    found = Certificates(tmp_path / "server.pem", tmp_path / "authority.pem")
    found.authority.write_bytes(certificate("authority", "authority", authority, authority, ca=True))
    private = server.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    found.server.write_bytes(certificate("server", "authority", server, authority, ca=False) + private)
    return found


def test_only_a_trusted_server_is_spoken_to(certificates: Certificates, tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.server)
    keys = str(write_keys(tmp_path / "keys", "access", "secret"))
    with SmallS3(context) as server:
        endpoint = f"https://127.0.0.1:{server.port}"
        trusted = S3Bank(
            endpoint=endpoint, bucket=server.bucket, key_file=keys, ca_file=str(certificates.authority)
        )
        trusted.put("a", b"x")
        assert trusted.get("a") == b"x"
        assert probed(trusted).conditional_create
        stranger = S3Bank(endpoint=endpoint, bucket=server.bucket, key_file=keys)
        with pytest.raises(BankDeniedError, match="certificate"):
            stranger.get("a")
        trusted.close()
        stranger.close()


def test_an_authority_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    keys = str(write_keys(tmp_path / "keys", "access", "secret"))
    bank = S3Bank(endpoint="https://127.0.0.1:1", bucket="any", key_file=keys, ca_file=str(tmp_path / "none"))
    with pytest.raises(InvalidInputError, match="ca_file"):
        bank.get("a")
