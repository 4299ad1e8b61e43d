"""`vbt calibrate` names its models, writes what it found, and its exit code is the verdict."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import pytest
from typer.testing import CliRunner

import vbt.inference
from standalone.cli import app
from vbt.inference import SBC_MODELS, Simulated


@dataclass
class NormalMean:
    """μ ~ N(0, 1) seen once with unit noise; the posterior is N(x/2, 1/2), its width here multiplied."""

    widen: float
    name: str = "resting_state"
    parameters: tuple[str, ...] = ("mu",)

    def draw(self, rng):
        mu = rng.normal()
        return Simulated(truth={"mu": mu}, recording=mu + rng.normal())

    def fit(self, recording, *, rng_seed):
        draws = np.random.default_rng(rng_seed).normal(size=400)
        return {"mu": recording / 2 + np.sqrt(0.5) * self.widen * draws}


def _run(*arguments):
    return CliRunner().invoke(app, ["calibrate", *arguments])


def test_the_models_are_listed():
    result = _run("--list")
    assert result.exit_code == 0
    assert result.stdout.split() == list(SBC_MODELS)


def test_an_unknown_model_is_refused():
    assert _run("--model", "ageing").exit_code == 2


@pytest.mark.parametrize(("widen", "exit_code"), [(1.0, 0), (0.4, 1)])
def test_the_exit_code_says_whether_ranks_are_uniform(tmp_path, monkeypatch, widen, exit_code):
    monkeypatch.setattr(vbt.inference, "sbc_model", lambda name: NormalMean(widen=widen, name=name))
    result = _run("--model", "resting_state", "--replicates", "150", "--out", str(tmp_path))
    assert result.exit_code == exit_code, result.output
    kept = json.loads((tmp_path / "resting_state.json").read_text())
    assert kept["passed"] is (exit_code == 0)
    assert (tmp_path / "resting_state.png").read_bytes().startswith(b"\x89PNG")
    assert ("NOT UNIFORM" in result.output) is (exit_code == 1)
