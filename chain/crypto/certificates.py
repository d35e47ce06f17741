"""X.509 of a consortium: one CA, a certificate per node whose SAN binds the TLS key to the validator id.

P-256 with SHA-256 throughout. A node's identity is the URI `headrace:validator:<hex id>` in its subject alternative
name; the distinguished name is for people. DNS and IP names let ordinary tools connect too.
"""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from chain.errors import BadInput, ConfigError
from chain.types import ADDRESS_BYTES, ValidatorId

VALIDATOR_URI_PREFIX: Final = "headrace:validator:"
CA_VALIDITY_DAYS: Final = 3650
NODE_VALIDITY_DAYS: Final = 730
_CLOCK_SKEW: Final = datetime.timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """A certificate and its private key, both PEM."""

    certificate: bytes
    key: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeIdentity:
    """What a node certificate says about its holder."""

    organisation: str
    node: str
    validator: ValidatorId
    expires: datetime.datetime  # UTC


def create_authority(*, consortium: str, days: int = CA_VALIDITY_DAYS) -> Credentials:
    """A self-signed consortium CA that may sign end certificates only (path length 0)."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, consortium[:64]),
            x509.NameAttribute(NameOID.COMMON_NAME, f"{consortium[:48]} consortium CA"),
        ]
    )
    usage = _key_usage(key_cert_sign=True, crl_sign=True)
    certificate = (
        _builder(name, name, key.public_key(), days)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return _credentials(certificate, key)


def issue_node_certificate(
    authority: Credentials,
    *,
    organisation: str,
    node: str,
    validator: ValidatorId,
    hosts: Sequence[str] = (),
    days: int = NODE_VALIDITY_DAYS,
    key: bytes | None = None,
) -> Credentials:
    """A node's certificate for both sides of mutual TLS, with a fresh key unless a `key` (PEM) is given.

    `hosts` are further DNS names or IP addresses beside localhost and 127.0.0.1.
    """
    issuer = x509.load_pem_x509_certificate(authority.certificate)
    issuer_key = serialization.load_pem_private_key(authority.key, password=None)
    if not isinstance(issuer_key, ec.EllipticCurvePrivateKey):
        raise ConfigError("the consortium CA key is not an elliptic-curve key, must be P-256")
    own_key = ec.generate_private_key(ec.SECP256R1()) if key is None else _private_key(key)
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation[:64]),
            x509.NameAttribute(NameOID.COMMON_NAME, node[:64]),
        ]
    )
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(VALIDATOR_URI_PREFIX + validator.hex())]
    names += [_general_name(host) for host in dict.fromkeys(("localhost", "127.0.0.1", *hosts))]
    both_sides = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    certificate = (
        _builder(subject, issuer.subject, own_key.public_key(), days)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(digital_signature=True), critical=True)
        .add_extension(both_sides, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(issuer_key, hashes.SHA256())
    )
    return _credentials(certificate, own_key)


def _private_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"the node's TLS key cannot be read: {error}") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ConfigError("the node's TLS key is not an elliptic-curve key, must be P-256")
    return key


def read_node_identity(certificate: bytes) -> NodeIdentity:
    """Who a node certificate (PEM or DER) was issued to; the issuer's signature is not checked here.

    Raises:
        BadInput: `bad_certificate`: not X.509, or not exactly one validator URI of the right form.
    """
    try:
        parsed = _parse(certificate)
        names = parsed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension) as error:
        raise BadInput("bad_certificate", f"node certificate: {error}") from None
    found = [uri.removeprefix(VALIDATOR_URI_PREFIX) for uri in uris if uri.startswith(VALIDATOR_URI_PREFIX)]
    if len(found) != 1:
        raise BadInput("bad_certificate", f"node certificate has {len(found)} validator URIs, must have exactly one")
    try:
        validator = bytes.fromhex(found[0])
    except ValueError:
        validator = b""
    if len(validator) != ADDRESS_BYTES or validator.hex() != found[0]:
        raise BadInput(
            "bad_certificate", f"validator URI ends in {found[0][:64]!r}, must be {ADDRESS_BYTES} bytes in hex"
        )
    return NodeIdentity(
        organisation=_attribute(parsed, NameOID.ORGANIZATION_NAME),
        node=_attribute(parsed, NameOID.COMMON_NAME),
        validator=ValidatorId(validator),
        expires=parsed.not_valid_after_utc,
    )


def certificate_sha256(certificate: bytes) -> bytes:
    """SHA-256 of the DER form: how genesis names the consortium CA."""
    return _parse(certificate).fingerprint(hashes.SHA256())


def is_issued_by(certificate: bytes, authority_certificate: bytes) -> bool:
    """True if the CA's key signed the certificate and its subject is the issuer; validity dates are not looked at."""
    try:
        _parse(certificate).verify_directly_issued_by(_parse(authority_certificate))
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _parse(certificate: bytes) -> x509.Certificate:
    if certificate.startswith(b"-----BEGIN"):
        return x509.load_pem_x509_certificate(certificate)
    return x509.load_der_x509_certificate(certificate)


def _attribute(certificate: x509.Certificate, oid: x509.ObjectIdentifier) -> str:
    attributes = certificate.subject.get_attributes_for_oid(oid)
    return str(attributes[0].value) if attributes else ""


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _builder(
    subject: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def _key_usage(
    *, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )


def _credentials(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Credentials:
    return Credentials(
        certificate=certificate.public_bytes(serialization.Encoding.PEM),
        key=key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
    )
