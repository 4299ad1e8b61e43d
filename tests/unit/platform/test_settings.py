"""Settings come from the environment, once, and never show a value."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from vbt.platform.settings import Settings, read_settings


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("VBT_STATE__URL", "VBT_KAFKA__BOOTSTRAP_SERVERS"):
        monkeypatch.delenv(name, raising=False)


def test_everything_lies_in_the_data_directory_by_default(tmp_path: Path) -> None:
    settings = read_settings(Settings, data=tmp_path)
    assert settings.state_url == f"sqlite:///{tmp_path}/vbt.db"
    assert settings.objects_url == f"file://{tmp_path}/objects"
    assert settings.keys_directory == tmp_path / "keys"
    assert settings.bus_kind == "sqlite"


def test_variables_are_nested_by_two_underscores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VBT_STATE__URL", "postgresql+psycopg://vbt:canary@db/vbt")
    monkeypatch.setenv("VBT_KAFKA__BOOTSTRAP_SERVERS", "a:9092,b:9092")
    settings = read_settings(Settings)
    assert settings.bus_kind == "kafka"
    assert settings.state_url == "postgresql+psycopg://vbt:canary@db/vbt"
    assert "canary" not in repr(settings)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("VBT_GRPC__WORKERS", "canary"),
        ("VBT_GRPC__WORKER", "1"),
        ("VBT_RETRY_DELAYS", "canary"),
        ("VBT_KAFKA__SECURITY_PROTOCOL", "canary"),
    ],
)
def test_a_wrong_variable_is_named_but_not_quoted(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit):
        read_settings(Settings)
    told = capsys.readouterr().err
    assert told.startswith(f"{name}: ")
    assert "canary" not in told


def test_postgres_alone_has_no_bus(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("VBT_STATE__URL", "postgresql+psycopg://vbt@db/vbt")
    with pytest.raises(SystemExit):
        read_settings(Settings)
    assert "VBT_KAFKA__BOOTSTRAP_SERVERS" in capsys.readouterr().err


def test_settings_never_change() -> None:
    settings = read_settings(Settings)
    with pytest.raises(ValidationError):
        settings.grpc.workers = 2  # type: ignore[misc]
