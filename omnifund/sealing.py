"""Sealing: what leaves this process is encrypted, and opens only where it belongs.

AES-256-GCM from ``cryptography``. Each key is derived (HKDF-SHA256, RFC 5869) from ``SECRET_KEY``,
which only the server has, and a secret that is not beside the sealed value: for what lies in Redis
that is the session id, which only the browser's cookie holds. The value's name is bound in as
associated data, so a value that was moved to another name does not open.
"""

from __future__ import annotations

import base64
import hashlib
import os
import threading
from collections.abc import Sequence
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

_VERSION: Final = b"\x01"
_NONCE_BYTES: Final = 12
_INFO: Final = b"omnifund sealing v1"


class Unreadable(Exception):
    """The value was not sealed by this app for this name and secret, or was altered since."""


class Keyring:
    """The server's half of every key: ``SECRET_KEY`` first, then the older ones."""

    def __init__(self, secret_keys: Sequence[str]) -> None:
        """``secret_keys``: the first seals and opens, the others only open (key rotation)."""
        if not secret_keys:
            raise ValueError("at least one secret key is needed")
        self._secret_keys = [key.encode() for key in secret_keys]
        self._latest = threading.local()

    def seal(self, plaintext: bytes, *, secret: str, name: str) -> bytes:
        """Encrypt ``plaintext`` so that it opens only with the same ``secret`` and ``name``."""
        # 96 random bits: a key seals a handful of values in its life, so nonces do not collide.
        nonce = os.urandom(_NONCE_BYTES)
        cipher = self._cipher(self._secret_keys[0], secret)
        return _VERSION + nonce + cipher.encrypt(nonce, plaintext, name.encode())

    def open(self, sealed: bytes, *, secret: str, name: str) -> bytes:
        """Return what was sealed. Raises ``Unreadable`` for everything else."""
        nonce, ciphertext = sealed[1 : 1 + _NONCE_BYTES], sealed[1 + _NONCE_BYTES :]
        if sealed[:1] != _VERSION or len(nonce) < _NONCE_BYTES:
            raise Unreadable
        for secret_key in self._secret_keys:
            try:
                return self._cipher(secret_key, secret).decrypt(nonce, ciphertext, name.encode())
            except InvalidTag:
                continue
        raise Unreadable

    def _cipher(self, secret_key: bytes, secret: str) -> AESGCM:
        # A request opens or seals two or three values with the same secret, one after the other.
        latest = getattr(self._latest, "cipher", None)
        if latest is None or latest[:2] != (secret_key, secret):
            hkdf = HKDF(algorithm=SHA256(), length=32, salt=secret.encode(), info=_INFO)
            latest = (secret_key, secret, AESGCM(hkdf.derive(secret_key)))
            self._latest.cipher = latest
        cipher: AESGCM = latest[2]
        return cipher


def fingerprint(secret: str) -> str:
    """A name for ``secret`` that does not reveal it: 128 bits of SHA-256 in 22 characters.

    Fit for Redis keys and log lines, because the secrets that it is used on are random.
    """
    digest = hashlib.sha256(b"omnifund fingerprint v1" + secret.encode()).digest()
    return base64.urlsafe_b64encode(digest[:16]).rstrip(b"=").decode()
