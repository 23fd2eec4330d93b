"""Ed25519 signatures (RFC 8032): 64 raw bytes beside what they sign, which stock openssl verifies too:

    openssl pkeyutl -verify -pubin -inkey public.pem -rawin -in ID.json -sigfile ID.json.sig

One private key a space, from a secret; public keys stand in the matrix.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from fac_backup.plain.errors import UsageError


@dataclass(frozen=True)
class Signer:
    """Holds a private key; ``repr`` shows nothing of it."""

    _key: Any = field(repr=False)

    @classmethod
    def from_pem(cls, pem: str) -> Signer:
        """Read an unencrypted Ed25519 private key (PKCS #8). Raises UsageError without showing any of it."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        try:
            key = load_pem_private_key(pem.strip().encode(), password=None)
        except (ValueError, TypeError, UnicodeError):
            key = None
        if not isinstance(key, Ed25519PrivateKey):
            raise UsageError(
                "The signing key is not an Ed25519 private key in PEM form",
                next_step="Make one with `openssl genpkey -algorithm ed25519`.",
            )
        return cls(key)

    def sign(self, data: bytes) -> bytes:
        """The 64 bytes of the signature."""
        return bytes(self._key.sign(data))

    def public_pem(self) -> str:
        """The public key, as it stands in the matrix."""
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        made: bytes = self._key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        return made.decode()


class TrustedKeys:
    """Public keys of which any one may have signed."""

    def __init__(self, pems: Iterable[str]) -> None:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        from cryptography.hazmat.primitives.serialization import load_pem_public_key

        self._keys = []
        for pem in pems:
            try:
                key = load_pem_public_key(pem.strip().encode())
            except (ValueError, UnicodeError):
                key = None
            if not isinstance(key, Ed25519PublicKey):
                raise UsageError(
                    "A public key for signatures is not an Ed25519 public key in PEM form",
                    next_step="Make it with `openssl pkey -in private.pem -pubout`.",
                )
            self._keys.append(key)

    def verify(self, data: bytes, signature: bytes) -> bool:
        """Whether one of the keys made ``signature`` over exactly ``data``."""
        from cryptography.exceptions import InvalidSignature

        for key in self._keys:
            try:
                key.verify(signature, data)
            except InvalidSignature:
                continue
            return True
        return False


def new_private_pem() -> str:
    """A fresh private key, for ``openssl``-less places and tests."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    made = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return made.decode()
