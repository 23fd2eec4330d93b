"""One flipped or cut byte in one object of a backup: manifest, signature, piece, listing, or stored document.

The store is signed, as production's is: without a signature nobody can tell that a note in a manifest was changed.
Every damaged object is written through S3, as whoever holds the bucket's key would. The restore must say so, exit code
5, before the target has changed: database and documents are compared after each. (RESTORE.md, which no restore reads,
is left out.)
"""

from __future__ import annotations

import random
from typing import Any

from fac_backup.documents.check import references
from fac_backup.plain.backup_id import BackupId
from fac_backup.store import layout
from fac_backup.store.signing import Signer

from .network import in_place_matrix
from .table import Row, require
from .world import World


def objects_of(world: World, backup_id: str) -> list[str]:
    """Every object that a restore of the backup reads."""
    store = world.store()
    manifest = store.catalog.read(BackupId.parse(backup_id))
    key = layout.manifest_key(manifest.backup_id)
    pieces = {layout.piece_key(piece.sha256) for piece in manifest.pieces()}
    listings = {layout.own_key(manifest.backup_id, f"documents-{part.label}.jsonl.zst") for part in manifest.documents}
    return sorted({key, layout.signature_key(key), *pieces, *listings, *references(manifest.documents, store.bucket)})


def damage(rng: random.Random, body: bytes) -> tuple[bytes, str]:
    """Flip one bit, cut one byte out, or cut the end off."""
    at = rng.randrange(len(body))
    how = rng.choice(("flipped", "flipped", "cut out", "cut off"))
    if how == "flipped":
        return body[:at] + bytes([body[at] ^ (1 << rng.randrange(8))]) + body[at + 1 :], how
    return body[:at] + (body[at + 1 :] if how == "cut out" else b""), how


def sign_everything(world: World) -> None:
    """From now on the space's matrix demands signatures, and this process's key makes them."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    public = "".join(Signer.from_pem(pem).public_pem().split("-----")[2].split())
    text = world.matrix.read_text()
    world.matrix.write_text(
        text.replace("  dev: {", f'  dev: {{require_signatures: true, public_keys: ["{public}"], ', 1)
    )
    world.more_env["FAC_BACKUP_SIGNING_KEY"] = pem


def attempt(world: World, row: Row, keys: list[str], rng: random.Random, number: int) -> None:
    """Damage one object, restore, look, mend it."""
    client: Any = world.client()
    folder = rng.choice(sorted({key.partition("/")[0] for key in keys}))
    one = rng.choice([key for key in keys if key.startswith(f"{folder}/")])
    bucket, key = world.backups, f"{world.prefix}/{world.name}/{one}"
    whole = client.get_object(Bucket=bucket, Key=key)
    body = whole["Body"].read()
    if not body:
        body = b"\0"  # an empty document has no byte to flip: it grows by one
        broken, how = b"\0", "added"
    else:
        broken, how = damage(rng, body)
    said = f"a byte {how} in {folder}/"
    described = {"ContentType": whole["ContentType"], "Metadata": whole["Metadata"]}
    client.put_object(Bucket=bucket, Key=key, Body=broken, **described)
    try:
        env = {"FAC_BACKUP_MATRIX": str(in_place_matrix(world))} if number % 2 else {}
        done = world.restore(world.ids["a"], env=env)
        require(done.code == 5, f"{said}: exit code {done.code}: {done.last}")
        require("Traceback" not in done.err and "Unexpected" not in done.err, f"{said}: a traceback")
        row.counts[f"in {folder}"] += 1
    finally:
        client.put_object(Bucket=bucket, Key=key, Body=body if how != "added" else b"", **described)
        world.break_locks()
    require(world.look() == world.states["b"], f"{said}: it was noticed, and the target is not as before")


def run(row: Row, world: World, numbers: list[int]) -> None:
    """Attempts on the objects of the backup ``a``, in place and beside in turn, while the target is ``b``."""
    sign_everything(world)
    world.make_states()
    keys = objects_of(world, world.ids["a"])
    for number in numbers:
        if number % 50 == 0 and number:
            world.require_nothing_left()
        row.attempt(number, lambda rng, n=number: attempt(world, row, keys, rng, n))  # type: ignore[misc]
    done = world.restore(world.ids["a"])
    require(done.code == 0, f"the mended backup does not restore: {done.last}")
    require(world.look() == world.states["a"], "the mended backup restores something else")
