"""A state to test on: a SQLite file, and a PostgreSQL where VBT_STATE__URL names one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from vbt.platform.software import Software
from vbt.platform.state import metadata, open_state

POSTGRES = os.environ.get("VBT_STATE__URL", "")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "state_url" in metafunc.fixturenames:
        reason = "VBT_STATE__URL is unset: no PostgreSQL to test against"
        marks = [pytest.mark.postgres, pytest.mark.skipif(not POSTGRES.startswith("postgresql"), reason=reason)]
        metafunc.parametrize("state_url", ["sqlite", pytest.param("postgres", marks=marks)], indirect=True)


@pytest.fixture
def state_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where an empty state can be made."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'vbt.db'}"
    engine = sa.create_engine(POSTGRES)
    with engine.begin() as connection:
        metadata.drop_all(connection)
        connection.exec_driver_sql("DROP TABLE IF EXISTS alembic_version")
    engine.dispose()
    return POSTGRES


@pytest.fixture
def engine(state_url: str) -> Iterator[sa.Engine]:
    """An empty state."""
    engine = open_state(state_url)
    yield engine
    engine.dispose()


@pytest.fixture
def software() -> Software:
    return Software(name="connectome_builder", version="0.1.0", digest="0" * 64)
