"""The suite's durable state: one set of tables, on SQLite by default and on PostgreSQL by URL.

Times in ``*_at`` and ``at`` columns are seconds since the Unix epoch, UTC. Writers use ``engine.begin()`` (on SQLite
a BEGIN IMMEDIATE, so that a transaction never fails half way because another writer came first); readers use
``reading(engine)``, which never waits for a writer.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects import sqlite as sqlite_dialect
from sqlalchemy.engine import make_url

metadata = sa.MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_name)s",
    }
)

_BUSY_TIMEOUT_MS = 30_000
_MIGRATION_LOCK = 0x7662742D73746174  # "vbt-stat": the advisory lock held while PostgreSQL migrates
_READING = {"vbt_reading": True}

# SQLite counts rows by itself only for a column that is exactly INTEGER.
_Counter = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def _counted(name: str, *columns: sa.schema.SchemaItem) -> sa.Table:
    """A table whose id only grows, also after its newest row was deleted."""
    identifier = sa.Column("id", _Counter, primary_key=True, autoincrement=True)
    return sa.Table(name, metadata, identifier, *columns, sqlite_autoincrement=True)


case = sa.Table(
    "case",
    metadata,
    sa.Column("case_id", sa.Text, primary_key=True),
    sa.Column("revision", sa.Integer, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("protocol", sa.Text, nullable=False),
    sa.Column("study_key", sa.Text, nullable=False, index=True),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("updated_at", sa.Double, nullable=False),
    sa.Column("cancel_requested_at", sa.Double),
)

request = sa.Table(
    "request",
    metadata,
    sa.Column("request_key", sa.Text, primary_key=True),
    sa.Column("case_id", sa.Text, nullable=False),
)

stage = sa.Table(
    "stage",
    metadata,
    sa.Column("case_id", sa.Text, primary_key=True),
    sa.Column("revision", sa.Integer, primary_key=True),
    sa.Column("stage", sa.Text, primary_key=True),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("fraction", sa.Double, nullable=False, server_default="0"),
    sa.Column("message", sa.Text, nullable=False, server_default=""),
    sa.Column("started_at", sa.Double),
    sa.Column("finished_at", sa.Double),
    sa.Column("seconds", sa.Double),
    sa.Column("peak_rss_bytes", sa.BigInteger),
    sa.Column("detail", sa.Text, nullable=False, server_default="{}"),
)

instance = sa.Table(
    "instance",
    metadata,
    sa.Column("sop_key", sa.Text, primary_key=True),
    sa.Column("study_key", sa.Text, nullable=False, index=True),
    sa.Column("series_key", sa.Text, nullable=False),
    sa.Column("sha256", sa.Text, nullable=False),
    sa.Column("path", sa.Text, nullable=False),
    sa.Column("received_at", sa.Double, nullable=False),
    sa.Column("association", sa.Text, nullable=False),
)

recording = sa.Table(
    "recording",
    metadata,
    sa.Column("case_id", sa.Text, primary_key=True),
    sa.Column("kind", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("uri", sa.Text, nullable=False),
    sa.Column("sha256", sa.Text, nullable=False),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("media_type", sa.Text, nullable=False),
    sa.Column("attached_at", sa.Double, nullable=False),
)

receiving = sa.Table(
    "receiving",
    metadata,
    sa.Column("study_key", sa.Text, primary_key=True),
    sa.Column("began_at", sa.Double, nullable=False),
    # W3C trace contexts: of the span that is open, or empty; of the associations that sent to it; of the last revision.
    sa.Column("traceparent", sa.Text, nullable=False),
    sa.Column("associations", sa.Text, nullable=False),
    sa.Column("revision_traceparent", sa.Text, nullable=False),
)

identity = sa.Table(
    "identity",
    metadata,
    sa.Column("case_id", sa.Text, primary_key=True),
    sa.Column("sealed", sa.LargeBinary, nullable=False),
)

case_key = sa.Table(
    "case_key",
    metadata,
    sa.Column("case_id", sa.Text, primary_key=True),
    sa.Column("wrapped", sa.LargeBinary, nullable=False),
)

consent = _counted(
    "consent",
    sa.Column("study_key", sa.Text, index=True),
    sa.Column("case_id", sa.Text, index=True),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("reference", sa.Text, nullable=False),
    sa.Column("at", sa.Double, nullable=False),
)

outbox = _counted(
    "outbox",
    sa.Column("topic", sa.Text, nullable=False),
    sa.Column("key", sa.Text, nullable=False),
    sa.Column("headers", sa.Text, nullable=False),
    sa.Column("value", sa.LargeBinary, nullable=False),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("sent_at", sa.Double),
)
sa.Index(
    "ix_outbox_unsent",
    outbox.c.id,
    sqlite_where=outbox.c.sent_at.is_(None),
    postgresql_where=outbox.c.sent_at.is_(None),
)

inbox = sa.Table(
    "inbox",
    metadata,
    sa.Column("group", sa.Text, primary_key=True),
    sa.Column("ce_id", sa.Text, primary_key=True),
    sa.Column("at", sa.Double, nullable=False),
)

bus_log = sa.Table(
    "bus_log",
    metadata,
    sa.Column("topic", sa.Text, primary_key=True),
    sa.Column("partition", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("offset", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("key", sa.Text, nullable=False),
    sa.Column("headers", sa.Text, nullable=False),
    sa.Column("value", sa.LargeBinary, nullable=False),
    sa.Column("at", sa.Double, nullable=False),
)

bus_offset = sa.Table(
    "bus_offset",
    metadata,
    sa.Column("group", sa.Text, primary_key=True),
    sa.Column("topic", sa.Text, primary_key=True),
    sa.Column("partition", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("next_offset", sa.BigInteger, nullable=False),
)

bus_lease = sa.Table(
    "bus_lease",
    metadata,
    sa.Column("group", sa.Text, primary_key=True),
    sa.Column("topic", sa.Text, primary_key=True),
    sa.Column("partition", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("owner", sa.Text, nullable=False),
    sa.Column("expires_at", sa.Double, nullable=False),
)

dead_letter = _counted(
    "dead_letter",
    sa.Column("group", sa.Text, nullable=False),
    sa.Column("topic", sa.Text, nullable=False),
    sa.Column("ce_id", sa.Text, nullable=False),
    sa.Column("case_id", sa.Text, nullable=False),
    sa.Column("code", sa.Text, nullable=False),
    sa.Column("cause", sa.Text, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("headers", sa.Text, nullable=False),
    sa.Column("value", sa.LargeBinary, nullable=False),
    sa.Column("at", sa.Double, nullable=False),
    sa.Column("replayed_at", sa.Double),
)

audit_outbox = _counted(
    "audit_outbox",
    sa.Column("event_id", sa.Text, nullable=False, unique=True),
    sa.Column("entry", sa.LargeBinary, nullable=False),
    sa.Column("at", sa.Double, nullable=False),
)

audit_leaf = sa.Table(
    "audit_leaf",
    metadata,
    sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("event_id", sa.Text, nullable=False, unique=True),
    sa.Column("entry", sa.LargeBinary, nullable=False),
    sa.Column("leaf_hash", sa.LargeBinary, nullable=False),
    sa.Column("at", sa.Double, nullable=False),
)

audit_checkpoint = sa.Table(
    "audit_checkpoint",
    metadata,
    sa.Column("size", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("note", sa.Text, nullable=False),
    sa.Column("at", sa.Double, nullable=False),
)


def open_state(url: str) -> sa.Engine:
    """Open the state at ``url`` and bring its schema up to date; safe when several processes start at once.

    Parameters
    ----------
    url : ``sqlite:////var/lib/vbt/vbt.db`` or ``postgresql+psycopg://user@host/vbt``
    """
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        engine = _open_sqlite(parsed)
    else:
        engine = sa.create_engine(parsed, pool_pre_ping=True, pool_size=5, max_overflow=40, hide_parameters=True)
    with engine.begin() as connection:
        _migrate(connection)
    return engine


@contextmanager
def reading(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A connection for reading; it neither waits for writers nor makes them wait.

    On SQLite all of it is one snapshot. On PostgreSQL (READ COMMITTED) every statement is one of its own: who reads two
    tables between which rows are moved, reads first the one that they leave.
    """
    with engine.connect() as connection:
        yield connection.execution_options(**_READING)


def insert_new(connection: sa.Connection, table: sa.Table, row: dict[str, Any]) -> bool:
    """Insert ``row`` unless its key is taken; True where it was inserted."""
    insert = _insert(connection, table).values(row).on_conflict_do_nothing()
    return connection.execute(insert.returning(*table.primary_key)).first() is not None


def upsert(connection: sa.Connection, table: sa.Table, row: dict[str, Any]) -> None:
    """Insert ``row``, or overwrite its columns in the row that has the same primary key."""
    keys = [column.name for column in table.primary_key]
    changed = {name: value for name, value in row.items() if name not in keys}
    insert = _insert(connection, table).values(row)
    connection.execute(insert.on_conflict_do_update(index_elements=keys, set_=changed))


def _insert(connection: sa.Connection, table: sa.Table) -> sqlite_dialect.Insert | postgresql.Insert:
    if connection.dialect.name == "sqlite":
        return sqlite_dialect.insert(table)
    return postgresql.insert(table)


def _open_sqlite(url: sa.URL) -> sa.Engine:
    if url.database in (None, "", ":memory:"):
        raise ValueError("the state must be a file, because it has to outlive its process; got an in-memory database")
    Path(str(url.database)).parent.mkdir(parents=True, exist_ok=True)
    engine = sa.create_engine(url, pool_size=5, max_overflow=60, hide_parameters=True)
    sa.event.listen(engine, "connect", _configure_sqlite)
    sa.event.listen(engine, "begin", _begin_sqlite)
    return engine


def _configure_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # the begin hook below says BEGIN, not the driver
    connection.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}")
    _use_wal(connection)
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA secure_delete = ON")  # an erased case key leaves no bytes in the file's free pages


def _use_wal(connection: sqlite3.Connection) -> None:
    # The switch to WAL does not honour busy_timeout when two processes create the file in the same instant.
    deadline = time.monotonic() + _BUSY_TIMEOUT_MS / 1000
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def _begin_sqlite(connection: sa.Connection) -> None:
    reads_only = connection.get_execution_options().get("vbt_reading", False)
    connection.exec_driver_sql("BEGIN" if reads_only else "BEGIN IMMEDIATE")


def _migrate(connection: sa.Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_MIGRATION_LOCK)))
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
