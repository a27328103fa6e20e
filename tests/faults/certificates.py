"""Certificates, good and bad, made afresh for each run (with ``trustme``)."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme


@dataclass(frozen=True)
class Certificates:
    """``bundle``: the PEM file of the authority that signed ``good``, ``expired`` and ``foreign``.

    ``expired`` has run out, ``foreign`` is for another host, ``common_name`` names its host in the
    way of before RFC 9525, and ``untrusted`` has another authority.
    """

    bundle: Path
    good: ssl.SSLContext
    expired: ssl.SSLContext
    foreign: ssl.SSLContext
    common_name: ssl.SSLContext
    untrusted: ssl.SSLContext

    @classmethod
    def make(cls, folder: Path) -> Certificates:
        """Make them; the bundle goes into ``folder``."""
        authority, stranger = trustme.CA(), trustme.CA()
        bundle = folder / "authority.pem"
        authority.cert_pem.write_to_path(bundle)
        yesterday = datetime.now(UTC) - timedelta(days=1)
        return cls(
            bundle,
            good=_context(authority.issue_cert("localhost", "127.0.0.1")),
            expired=_context(authority.issue_cert("localhost", not_after=yesterday)),
            foreign=_context(authority.issue_cert("elsewhere.example")),
            common_name=_context(authority.issue_cert(common_name="localhost")),
            untrusted=_context(stranger.issue_cert("localhost")),
        )


def _context(certificate: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context
