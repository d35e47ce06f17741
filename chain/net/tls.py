"""Mutual TLS 1.3 between nodes. Trust is the consortium CA alone; identity is the validator URI, never a host name."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from chain.config import NodeConfig
from chain.crypto.certificates import certificate_sha256, is_issued_by, read_node_identity
from chain.errors import BadInput, ConfigError, PeerFault
from chain.types import ValidatorId


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """PEM files of one node."""

    certificate: Path
    key: Path
    authority: Path

    @classmethod
    def of(cls, config: NodeConfig) -> TlsFiles:
        return cls(
            certificate=config.path("tls_certificate"),
            key=config.path("tls_key"),
            authority=config.path("ca_certificate"),
        )


def check_files(files: TlsFiles, *, own: ValidatorId, authority_sha256: bytes | None) -> None:
    """Raises ConfigError unless the files are this validator's, issued by the CA that genesis names (if given)."""
    try:
        certificate = files.certificate.read_bytes()
        authority = files.authority.read_bytes()
    except OSError as error:
        raise ConfigError(f"{error.filename}: cannot be read: {error.strerror}") from None
    try:
        identity = read_node_identity(certificate)
        issued = is_issued_by(certificate, authority)
        fingerprint = certificate_sha256(authority)
    except (BadInput, ValueError) as error:
        raise ConfigError(f"{files.certificate}: {error}") from None
    if identity.validator != own:
        raise ConfigError(
            f"{files.certificate}: names validator {identity.validator.hex()}, must be {own.hex()}, the validator key's"
        )
    if not issued:
        raise ConfigError(f"{files.certificate}: not issued by {files.authority}, must be the consortium CA's")
    if authority_sha256 is not None and fingerprint != authority_sha256:
        raise ConfigError(
            f"{files.authority}: SHA-256 {fingerprint.hex()}, must be {authority_sha256.hex()} as in genesis"
        )


def server_context(files: TlsFiles) -> ssl.SSLContext:
    """For the side that accepts: the dialer must show a certificate of the consortium.

    Raises:
        ConfigError: a file is missing or no usable PEM.
    """
    context = _context(ssl.PROTOCOL_TLS_SERVER, files)
    context.num_tickets = 0  # no resumption: every connection proves its identity anew
    return context


def client_context(files: TlsFiles) -> ssl.SSLContext:
    """For the side that dials.

    Raises:
        ConfigError: a file is missing or no usable PEM.
    """
    return _context(ssl.PROTOCOL_TLS_CLIENT, files)


def _context(protocol: ssl._SSLMethod, files: TlsFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    try:
        context.load_cert_chain(files.certificate, files.key)
        context.load_verify_locations(files.authority)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"{files.certificate}, {files.key}, {files.authority}: no usable TLS files: {error}"
        ) from None
    return context


def peer_validator(ssl_object: ssl.SSLObject | None) -> ValidatorId:
    """The validator named by the certificate that the TLS handshake has verified.

    Raises:
        PeerFault: `bad_certificate`: no certificate, or it names no validator.
    """
    certificate = None if ssl_object is None else ssl_object.getpeercert(binary_form=True)
    if certificate is None:
        raise PeerFault("bad_certificate")
    try:
        return read_node_identity(certificate).validator
    except BadInput:
        raise PeerFault("bad_certificate") from None
