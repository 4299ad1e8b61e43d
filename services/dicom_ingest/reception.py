"""The span of a study runs from its first stored image to its closing, and its place in the trace is kept beside it.

Its parent is the association that sent the first image; further associations, and the revision before, are links.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import sqlalchemy as sa
from opentelemetry.trace import Span

from vbt.platform.state import insert_new
from vbt.platform.state import receiving as table
from vbt.platform.tracing import kept_promise, promise


@dataclass(frozen=True)
class Reception:
    """A study whose images come in.

    Parameters
    ----------
    began_at : when its first new image was stored, seconds since the epoch
    traceparent : the place of its span
    associations : trace contexts of the associations that sent to it, first first
    revision_traceparent : the span of its last revision; empty where there was none
    """

    study_key: str
    began_at: float
    traceparent: str
    associations: tuple[str, ...]
    revision_traceparent: str

    @contextmanager
    def ending(self) -> Iterator[Span]:
        """The study's span around the block that closes the study."""
        parent, further = (self.associations[0], self.associations[1:]) if self.associations else ("", ())
        before = (self.revision_traceparent,) if self.revision_traceparent else ()
        with kept_promise(
            self.traceparent, "receive study", parent=parent, started=self.began_at, links=(*before, *further)
        ) as span:
            yield span


def note_image(connection: sa.Connection, study_key: str, association: str) -> None:
    """Begin the study's span with its first image; an image from a further association joins that one to it.

    Parameters
    ----------
    association : trace context of the association, empty where nobody traces
    """
    known = _row(connection, study_key)
    if known is not None and known.traceparent and (not association or association in known.associations.split()):
        return
    begun = {"began_at": time.time(), "traceparent": promise(association), "associations": association}
    if known is None and insert_new(connection, table, {"study_key": study_key, "revision_traceparent": "", **begun}):
        return
    known = _row(connection, study_key, lock=True)
    if known is not None and known.traceparent:
        begun = {"associations": " ".join(dict.fromkeys([*known.associations.split(), association]))}
    connection.execute(sa.update(table).where(table.c.study_key == study_key).values(begun))


def reception(connection: sa.Connection, study_key: str) -> Reception | None:
    """The study whose images come in, or None where none came since it was closed."""
    row = _row(connection, study_key)
    if row is None or not row.traceparent:
        return None
    return Reception(
        study_key, row.began_at, row.traceparent, tuple(row.associations.split()), row.revision_traceparent
    )


def end(connection: sa.Connection, ended: Reception, *, revised: bool) -> None:
    """Mark the study as closed; ``revised`` where that made a revision, which late images then link to."""
    kept = ended.traceparent if revised else ended.revision_traceparent
    mine = sa.and_(table.c.study_key == ended.study_key, table.c.traceparent == ended.traceparent)
    connection.execute(sa.update(table).where(mine).values(traceparent="", associations="", revision_traceparent=kept))


def _row(connection: sa.Connection, study_key: str, *, lock: bool = False) -> sa.Row[tuple[object, ...]] | None:
    found = sa.select(table).where(table.c.study_key == study_key)
    return connection.execute(found.with_for_update() if lock else found).first()
