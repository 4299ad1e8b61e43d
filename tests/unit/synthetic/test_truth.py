"""Scores say how near a recovery came to the truth."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from vbt.synthetic import SyntheticPatient, Truth, read_truth, recovery_scores, write_truth


def test_the_truth_scores_perfectly_at_any_scale(patient: SyntheticPatient) -> None:
    found = dataclasses.replace(patient.connectome, weights=17 * patient.connectome.weights)
    scores = recovery_scores(Truth.of(patient), found)
    for name in ("pearson_true_edges", "spearman_true_edges", "log_r", "pearson_all_pairs", "recall", "precision"):
        assert scores[name] == pytest.approx(1.0)
    assert scores["top_k_hit"] == 1.0
    assert scores["length_bias"] == 1.0


def test_order_of_regions_does_not_matter(patient: SyntheticPatient) -> None:
    truth = patient.connectome
    turn = np.random.default_rng(0).permutation(83)
    found = dataclasses.replace(
        truth,
        weights=truth.weights[np.ix_(turn, turn)],
        tract_lengths=truth.tract_lengths[np.ix_(turn, turn)],
        region_labels=tuple(truth.region_labels[i] for i in turn),
        centres=truth.centres[turn],
        is_cortical=truth.is_cortical[turn],
    )
    assert recovery_scores(Truth.of(patient), found)["pearson_true_edges"] == pytest.approx(1.0)


def test_missing_and_false_edges_are_counted(patient: SyntheticPatient) -> None:
    truth = patient.connectome
    weights = truth.weights.copy()
    edges = np.argwhere(np.triu(weights))
    for i, j in edges[:10]:
        weights[i, j] = weights[j, i] = 0
    empty = np.argwhere(np.triu(truth.weights == 0, 1))[:20]
    for i, j in empty:
        weights[i, j] = weights[j, i] = 0.01
    scores = recovery_scores(Truth.of(patient), dataclasses.replace(truth, weights=weights))
    kept = len(edges) - 10
    assert scores["recall"] == pytest.approx(kept / len(edges))
    assert scores["precision"] == pytest.approx(kept / (kept + 20))
    assert scores["top_k_hit"] == pytest.approx(kept / len(edges))


def test_unrelated_weights_score_near_zero(patient: SyntheticPatient) -> None:
    noise = np.random.default_rng(0).random((83, 83))
    np.fill_diagonal(noise, 0)
    scores = recovery_scores(Truth.of(patient), dataclasses.replace(patient.connectome, weights=noise))
    assert abs(scores["pearson_all_pairs"]) < 0.1
    assert scores["top_k_hit"] < 0.1


def test_posterior_is_judged_by_interval_and_z(patient: SyntheticPatient) -> None:
    rng = np.random.default_rng(0)
    g = patient.settings.twin.g
    draws = {"g": g + 0.1 + 0.1 * rng.standard_normal((4, 500)), "h": 9 + rng.standard_normal((4, 500))}
    scores = recovery_scores(Truth.of(patient), patient.connectome, draws)["parameters"]
    assert set(scores) == {"g", "h"}
    assert scores["g"]["inside_90"]
    assert scores["g"]["z"] == pytest.approx(1.0, abs=0.1)
    assert not scores["h"]["inside_90"]


def test_other_regions_are_refused(patient: SyntheticPatient) -> None:
    renamed = dataclasses.replace(patient.connectome, region_labels=tuple(f"x{i}" for i in range(83)))
    with pytest.raises(ValueError, match="other regions"):
        recovery_scores(Truth.of(patient), renamed)


def test_truth_survives_the_disk(patient: SyntheticPatient, tmp_path: Path) -> None:
    first = {path.name: path.read_bytes() for path in write_truth(patient, tmp_path)}
    assert {path.name: path.read_bytes() for path in write_truth(patient, tmp_path)} == first
    truth = read_truth(tmp_path)
    assert truth.parameters == {"g": 0.8, "p": 0.4, "h": 0.5}
    assert np.array_equal(truth.connectome.weights, patient.connectome.weights)
