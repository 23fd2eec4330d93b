"""Markers of a whole space: its database and all its documents buckets (guarantee 4)."""

from __future__ import annotations

from datetime import datetime

from fac_backup.database import marker as database_marker
from fac_backup.documents import marker as documents_marker
from fac_backup.operations.opening import Opened
from fac_backup.plain.errors import RefusedError


def require(opened: Opened) -> None:
    """Refuse unless database and documents are all marked as this space's. Raises RefusedError; touches nothing."""
    session = opened.database.connect(autocommit=True)
    try:
        database_marker.require(session, opened.space, opened.database.called)
    finally:
        session.close()
    for source in opened.sources:
        documents_marker.require(source.bucket, opened.space, source.label)


def refuse_another_space(opened: Opened) -> None:
    """Refuse a backup of what another space has marked; what nobody has marked may be backed up."""
    session = opened.database.connect(autocommit=True)
    try:
        found = database_marker.read(session)
    finally:
        session.close()
    if found is not None and found.space != opened.space:
        raise _wrong("database", f"{found.space}'s", f"{opened.space}'s", _ADDRESS)
    for source in opened.sources:
        mark = documents_marker.read(source.bucket)
        if mark is not None and (mark.space, mark.label) != (opened.space, source.label):
            marked, wanted = f"{mark.space}'s ({mark.label})", f"{opened.space}'s ({source.label})"
            other = (
                f"Correct the label, {mark.label}=s3://…, or the address: labels name the documents in every backup."
            )
            next_step = other if mark.space == opened.space else _ADDRESS
            raise _wrong(f"documents bucket {source.label}", marked, wanted, next_step)


def adopt(opened: Opened, by: str, moment: datetime) -> None:
    """Mark database and documents. Everything is looked at before the first mark is set. Raises RefusedError."""
    refuse_another_space(opened)
    session = opened.database.connect(autocommit=True)
    try:
        database_marker.adopt(session, opened.space, by, moment, opened.database.called)
    finally:
        session.close()
    for source in opened.sources:
        documents_marker.adopt(source.bucket, opened.space, source.label)


_ADDRESS = "Check which address this job was given: a secret of another environment, most likely."


def _wrong(what: str, marked: str, wanted: str, next_step: str) -> RefusedError:
    return RefusedError(f"The {what} is marked as {marked}, not as {wanted}", next_step=next_step)


def renew(opened: Opened) -> None:
    """Make the documents' markers young again, where they are ours: their buckets may expire objects by age."""
    for source in opened.sources:
        if documents_marker.read(source.bucket) is not None:
            documents_marker.renew(source.bucket, opened.space, source.label)
