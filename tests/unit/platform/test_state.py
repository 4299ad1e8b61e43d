"""The state: what the migrations build, and how transactions behave on it."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from vbt.platform import state
from vbt.platform.state import metadata, open_state, reading


def test_migrations_build_exactly_the_metadata(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
        assert set(metadata.tables) <= set(sa.inspect(connection).get_table_names())


def test_processes_that_start_at_once_migrate_once(state_url: str) -> None:
    code = f"from vbt.platform.state import open_state; open_state({state_url!r})"
    starts = [subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE) for _ in range(4)]
    assert [start.communicate()[1] for start in starts] == [b""] * 4
    with open_state(state_url).connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM alembic_version").scalar() == 1


def test_sqlite_is_durable_and_checks_references(tmp_path: Path) -> None:
    engine = open_state(f"sqlite:///{tmp_path / 'vbt.db'}")
    with engine.connect() as connection:
        pragmas = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 30_000}


def test_a_state_in_memory_is_refused() -> None:
    with pytest.raises(ValueError, match="must be a file"):
        open_state("sqlite://")


def test_readers_do_not_wait_for_a_writer(engine: sa.Engine) -> None:
    with engine.begin() as writer:
        writer.execute(sa.insert(state.inbox).values(group="g", ce_id="1", at=0.0))
        with reading(engine) as reader:
            assert reader.execute(sa.select(sa.func.count()).select_from(state.inbox)).scalar() == 0


def test_writers_take_turns_instead_of_failing(tmp_path: Path) -> None:
    # With a deferred BEGIN two such read-then-write transactions end in "database is locked".
    engine = open_state(f"sqlite:///{tmp_path / 'vbt.db'}")
    with engine.begin() as connection:
        connection.execute(sa.insert(state.bus_offset).values(group="g", topic="t", partition=0, next_offset=0))

    def count() -> None:
        for _ in range(10):
            with engine.begin() as connection:
                value = connection.execute(sa.select(state.bus_offset.c.next_offset)).scalar_one()
                time.sleep(0.001)
                connection.execute(sa.update(state.bus_offset).values(next_offset=value + 1))

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with reading(engine) as connection:
        assert connection.execute(sa.select(state.bus_offset.c.next_offset)).scalar() == 40


def test_rows_never_take_an_id_again(engine: sa.Engine) -> None:
    row = {"topic": "t", "key": "k", "headers": "{}", "value": b"", "created_at": 0.0}
    with engine.begin() as connection:
        first = connection.execute(sa.insert(state.outbox).values(row)).inserted_primary_key[0]
        connection.execute(sa.delete(state.outbox))
        second = connection.execute(sa.insert(state.outbox).values(row)).inserted_primary_key[0]
    assert second > first
