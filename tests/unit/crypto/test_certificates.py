"""Unit tests of chain.crypto.certificates."""

from __future__ import annotations

import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtensionOID, NameOID
from cryptography.x509.verification import PolicyBuilder, Store

from chain.crypto.certificates import (
    Credentials,
    certificate_sha256,
    create_authority,
    is_issued_by,
    issue_node_certificate,
    read_node_identity,
)
from chain.errors import BadInput
from chain.types import ValidatorId

VALIDATOR = ValidatorId(bytes(range(20)))
AUTHORITY = create_authority(consortium="Test")


def issue(authority: Credentials = AUTHORITY) -> Credentials:
    return issue_node_certificate(
        authority,
        organisation="Harbour Bank",
        node="harbour-bank",
        validator=VALIDATOR,
        hosts=("10.0.0.7", "h.example"),
    )


def self_signed(names: list[x509.GeneralName]) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")])
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
        .not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
    )  # fmt: skip
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def test_identity_is_read_back_from_pem_and_der() -> None:
    pem = issue().certificate
    der = x509.load_pem_x509_certificate(pem).public_bytes(serialization.Encoding.DER)
    for form in (pem, der):
        identity = read_node_identity(form)
        assert (identity.organisation, identity.node, identity.validator) == (
            "Harbour Bank", "harbour-bank", VALIDATOR,
        )  # fmt: skip
        assert identity.expires > datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=700)
    assert certificate_sha256(pem) == certificate_sha256(der)


def test_a_strict_verifier_takes_the_chain_on_both_sides() -> None:
    certificate = x509.load_pem_x509_certificate(issue().certificate)
    store = Store([x509.load_pem_x509_certificate(AUTHORITY.certificate)])
    PolicyBuilder().store(store).build_client_verifier().verify(certificate, [])
    PolicyBuilder().store(store).build_server_verifier(x509.DNSName("localhost")).verify(certificate, [])


def test_the_authority_may_issue_and_a_node_may_not() -> None:
    authority = x509.load_pem_x509_certificate(AUTHORITY.certificate)
    constraints = authority.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert (constraints.value.ca, constraints.value.path_length) == (True, 0)
    usage = authority.extensions.get_extension_for_class(x509.KeyUsage).value
    assert (usage.key_cert_sign, usage.crl_sign, usage.digital_signature) == (True, True, False)
    node = x509.load_pem_x509_certificate(issue().certificate)
    assert node.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    assert node.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign is False
    key_id = node.extensions.get_extension_for_oid(ExtensionOID.AUTHORITY_KEY_IDENTIFIER).value
    assert isinstance(key_id, x509.AuthorityKeyIdentifier)
    issuer_id = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    assert key_id.key_identifier == issuer_id.digest


def test_names_for_ordinary_tools() -> None:
    node = x509.load_pem_x509_certificate(issue().certificate)
    names = node.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost", "h.example"]
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "10.0.0.7"]


def test_issued_by_tells_authorities_apart() -> None:
    other = create_authority(consortium="Test")  # the same name, another key
    assert is_issued_by(issue().certificate, AUTHORITY.certificate)
    assert not is_issued_by(issue(other).certificate, AUTHORITY.certificate)
    assert not is_issued_by(b"garbage", AUTHORITY.certificate)


@pytest.mark.parametrize(
    "names",
    [
        [],
        [x509.DNSName("localhost")],
        [x509.UniformResourceIdentifier("headrace:validator:00")],
        [x509.UniformResourceIdentifier("headrace:validator:" + "zz" * 20)],
        [x509.UniformResourceIdentifier("headrace:validator:" + "AB" * 20)],
        [x509.UniformResourceIdentifier("headrace:validator:" + "00 " * 20)],
        [x509.UniformResourceIdentifier("headrace:validator:" + number * 40) for number in "12"],
    ],
)
def test_a_certificate_must_name_exactly_one_validator(names: list[x509.GeneralName]) -> None:
    with pytest.raises(BadInput) as refused:
        read_node_identity(self_signed(names))
    assert refused.value.code == "bad_certificate"


@pytest.mark.parametrize("garbage", [b"", b"x", b"-----BEGIN CERTIFICATE-----\n", bytes(1000)])
def test_garbage_is_no_certificate(garbage: bytes) -> None:
    with pytest.raises(BadInput):
        read_node_identity(garbage)
