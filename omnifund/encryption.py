"""AES-256-GCM encryption of what leaves this process (Redis records, cookies).

Each key is derived (HKDF-SHA256, RFC 5869) from ``SECRET_KEY``, which only the server has, and a
secret that is not stored beside the value: for Redis records that is the session ID, which only the
browser's cookie contains. The record's name is the associated data, so a value that was moved to
another name cannot be decrypted.
"""

from __future__ import annotations

import base64
import hashlib
import os
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
    """The value was not encrypted by this app for this name and secret, or was altered since."""


class Cipher:
    """Encrypts with the newest ``SECRET_KEY``; decrypts with older keys too (key rotation)."""

    def __init__(self, secret_keys: Sequence[str]) -> None:
        """``secret_keys``: the first one encrypts and decrypts, the others only decrypt."""
        self._secret_keys = [key.encode() for key in secret_keys]

    def seal(self, plaintext: bytes, *, secret: str, name: str) -> bytes:
        """Encrypt ``plaintext`` so that it opens only with the same ``secret`` and ``name``."""
        # 96 random bits: one key encrypts a handful of values, so nonces do not collide.
        nonce = os.urandom(_NONCE_BYTES)
        aead = _derive(self._secret_keys[0], secret)
        return _VERSION + nonce + aead.encrypt(nonce, plaintext, name.encode())

    def open(self, sealed: bytes, *, secret: str, name: str) -> bytes:
        """Decrypt what ``seal`` returned. Raises ``Unreadable`` for everything else."""
        return self.open_with(sealed, secret=secret, name=name)[1]

    def open_with(self, sealed: bytes, *, secret: str, name: str) -> tuple[int, bytes]:
        """Do as ``open``, and return the number of the secret key too: 0 is the newest."""
        nonce, ciphertext = sealed[1 : 1 + _NONCE_BYTES], sealed[1 + _NONCE_BYTES :]
        if sealed[:1] != _VERSION or len(nonce) < _NONCE_BYTES:
            raise Unreadable
        for number, secret_key in enumerate(self._secret_keys):
            try:
                aead = _derive(secret_key, secret)
                return number, aead.decrypt(nonce, ciphertext, name.encode())
            except InvalidTag:
                continue
        raise Unreadable

    def read(self, sealed: bytes | None, *, secret: str, name: str) -> bytes | None:
        """Do as ``open``, but return ``None`` for everything else."""
        try:
            return self.open(sealed or b"", secret=secret, name=name)
        except Unreadable:
            return None


def _derive(secret_key: bytes, secret: str) -> AESGCM:
    hkdf = HKDF(algorithm=SHA256(), length=32, salt=secret.encode(), info=_INFO)
    return AESGCM(hkdf.derive(secret_key))


def fingerprint(secret: str) -> str:
    """Return a name for ``secret`` that does not reveal it: 128 bits of SHA-256 in 22 characters.

    Fit for Redis keys and log lines, because the secrets that it is used for are random.
    """
    digest = hashlib.sha256(b"omnifund fingerprint v1" + secret.encode()).digest()
    return base64.urlsafe_b64encode(digest[:16]).rstrip(b"=").decode()
