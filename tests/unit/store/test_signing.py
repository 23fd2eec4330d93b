from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from fac_backup.plain.errors import UsageError
from fac_backup.store.signing import Signer, TrustedKeys, new_private_pem


def test_a_signature_is_64_raw_bytes_that_stock_openssl_verifies(tmp_path: Path) -> None:
    signer = Signer.from_pem(new_private_pem())
    data = b'{"format": 1}\n'
    signature = signer.sign(data)
    assert len(signature) == 64
    for name, content in {"public.pem": signer.public_pem().encode(), "data": data, "data.sig": signature}.items():
        (tmp_path / name).write_bytes(content)
    command = [
        "openssl",
        "pkeyutl",
        "-verify",
        "-pubin",
        "-inkey",
        "public.pem",
        "-rawin",
        "-in",
        "data",
        "-sigfile",
        "data.sig",
    ]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode == 0
    (tmp_path / "data").write_bytes(data + b" ")
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode != 0


def test_any_trusted_key_will_do_and_no_other() -> None:
    one, two, three = (Signer.from_pem(new_private_pem()) for _ in range(3))
    keys = TrustedKeys([one.public_pem(), two.public_pem()])
    assert keys.verify(b"x", two.sign(b"x"))
    assert not keys.verify(b"x", three.sign(b"x"))
    assert not keys.verify(b"y", one.sign(b"x"))
    assert not keys.verify(b"x", b"short")
    assert not TrustedKeys([]).verify(b"x", one.sign(b"x"))


def test_a_wrong_key_is_refused_without_showing_it() -> None:
    for text in ("", "hunter2", new_private_pem()[:60]):
        with pytest.raises(UsageError) as caught:
            Signer.from_pem(text)
        assert "hunter2" not in caught.value.line()
    with pytest.raises(UsageError):
        TrustedKeys([new_private_pem()])
    assert "PRIVATE" not in repr(Signer.from_pem(new_private_pem()))


def test_a_key_made_by_stock_openssl_signs(tmp_path: Path) -> None:
    made = subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519"], capture_output=True, check=True)
    signer = Signer.from_pem(made.stdout.decode())
    assert TrustedKeys([signer.public_pem()]).verify(b"x", signer.sign(b"x"))
