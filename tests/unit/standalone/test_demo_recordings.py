"""What the demo says of its own answer: right where the truth lies in the interval, nothing of an unsound twin."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from standalone.demo_recordings import recording_scores
from vbt.inference import Calibration
from vbt.simulation import record

LABELS = ("a", "b", "c", "d")
TRUTH = {
    "seizure": {"onset_zone": ["b"], "eta": {"a": -3.0, "b": -1.6, "c": -2.5, "d": -3.2}},
    "resting_eeg": {"velocity_m_s": 6.0, "gamma": 1.5},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "truth.json").write_text(json.dumps(TRUTH))
    return tmp_path


def posterior(**draws: np.ndarray) -> Calibration:
    return Calibration(
        region_labels=LABELS,
        used_regions=np.arange(4),
        draws=draws,
        priors={},
        parameters=(),
        sampler=None,
        verdict="sound",
        reasons=(),
        warnings=(),
        checks=(),
        manifest=record(
            "test", inputs={}, outputs={}, parameters={}, seeds=(0,), dt=None, precision="double", batch_shape=(4,)
        ),
    )


def test_the_onset_zone_is_looked_for_among_as_many_most_excitable_regions(folder: Path) -> None:
    true = np.array(list(TRUTH["seizure"]["eta"].values()))
    eta = true + 0.1 * np.random.default_rng(0).normal(size=(4, 200, 4))
    scores = recording_scores("epilepsy", posterior(eta=eta), folder)
    assert scores["onset_zone_among_as_many_most_excitable"] == 1.0
    assert scores["excitability_coverage"] == 1.0
    assert scores["excitability_rmse"] < 0.05
    away = recording_scores("epilepsy", posterior(eta=eta[..., ::-1]), folder)
    assert away["onset_zone_among_as_many_most_excitable"] == 0.0


def test_velocity_and_lesion_delay_are_compared_where_they_were_inferred(folder: Path) -> None:
    rng = np.random.default_rng(0)
    scores = recording_scores("multiple_sclerosis", posterior(velocity=7.5 + 0.2 * rng.normal(size=(4, 200))), folder)
    assert scores["velocity"]["true"] == 6.0
    assert not scores["velocity"]["inside"]
    assert "gamma" not in scores


def test_nothing_is_scored_of_an_unsound_twin(folder: Path) -> None:
    unsound = dataclasses.replace(
        posterior(eta=np.zeros((4, 5, 4))), verdict="unsound", reasons=("chains disagree on K",)
    )
    assert recording_scores("epilepsy", unsound, folder) == {"verdict": "unsound", "reasons": ["chains disagree on K"]}
