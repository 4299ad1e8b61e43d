"""The command line's answers to people and scripts: help, exit codes, and errors that say what to do."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from standalone.cli import app
from vbt.platform import cases, stages
from vbt.platform.cases import Status
from vbt.platform.state import open_state

COMMANDS = [
    ["demo"], ["up"], ["send"], ["replay"], ["case", "list"], ["case", "show"], ["case", "watch"], ["report", "show"],
    ["report", "open"], ["ledger", "show"], ["ledger", "export"], ["ledger", "verify"], ["dead-letters", "list"],
    ["dead-letters", "replay"], ["case", "cancel"], ["consent", "grant"], ["consent", "withdraw"], ["erase"],
    ["simulate"], ["attach"], ["calibrate"],
]  # fmt: skip

runner = CliRunner()


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A site with one case that stopped."""
    engine = open_state(f"sqlite:///{tmp_path / 'vbt.db'}")
    with engine.begin() as connection:
        case = cases.create_case(connection, study_key="study", protocol="resting_state", status=Status.STOPPED)
        stages.finish(
            connection, case.case_id, 1, "dicom_ingest", Status.STOPPED, detail={"code": "no-t1"}, message="needs a T1"
        )
    engine.dispose()
    return tmp_path


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_explains_itself(command: list[str]) -> None:
    result = runner.invoke(app, [*command, "--help"])
    assert result.exit_code == 0
    assert re.search(r"^\s+\S.*\.$", result.output, re.MULTILINE)


def test_readme_and_command_line_name_the_same_commands() -> None:
    readme = (Path(__file__).resolve().parents[3] / "README.md").read_text()
    known = {" ".join(command) for command in COMMANDS}
    pattern = r"^\s*(?:pip install -e \. && )?vbt ((?:case|report|ledger|dead-letters|consent) \w+|\w+)"
    named = set(re.findall(pattern, readme, re.MULTILINE))
    assert named <= known


def test_a_directory_without_a_suite_says_how_to_start_one(tmp_path: Path) -> None:
    result = runner.invoke(app, ["case", "list", "--data", str(tmp_path / "nothing")])
    assert result.exit_code == 2
    assert "vbt up" in result.output


def test_a_case_is_found_by_its_first_characters_and_its_end_is_the_exit_code(site: Path) -> None:
    (listed,) = json.loads(runner.invoke(app, ["case", "list", "--json", "--data", str(site)]).output)
    result = runner.invoke(app, ["case", "show", listed["case_id"][:5], "--data", str(site)])
    assert result.exit_code == 1
    assert "needs a T1" in result.output


def test_an_unknown_case_is_a_wrong_usage(site: Path) -> None:
    result = runner.invoke(app, ["case", "show", "zzz", "--data", str(site)])
    assert result.exit_code == 2
    assert "vbt case list" in result.output


def test_a_replay_that_has_nothing_to_compare_cannot_answer(site: Path) -> None:
    (listed,) = json.loads(runner.invoke(app, ["case", "list", "--json", "--data", str(site)]).output)
    result = runner.invoke(app, ["replay", listed["case_id"], "--json", "--data", str(site)])
    assert result.exit_code == 2
    assert '"cannot"' in result.output


def test_somebody_elses_folder_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    result = runner.invoke(app, ["demo", "--out", str(tmp_path)])
    assert result.exit_code == 2
    assert (tmp_path / "thesis.txt").read_text() == "mine"
