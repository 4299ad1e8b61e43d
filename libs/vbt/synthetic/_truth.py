"""What is true of a synthetic patient, and how near a pipeline came to it."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from scipy import stats

from vbt.connectome import Connectome
from vbt.synthetic._anatomy import as_image
from vbt.synthetic._patient import SyntheticPatient

_INTERVAL = (5.0, 95.0)


@dataclass(frozen=True, kw_only=True)
class Truth:
    """The known answer.

    Parameters
    ----------
    connectome : weights mm² (cross-section), lengths mm (mean arc length)
    parameters : of the resting twin, named as calibration names its draws: ``g``, ``p`` (exponent of the
        weights), ``h`` (homotopic weight)
    """

    connectome: Connectome
    parameters: dict[str, float]

    @classmethod
    def of(cls, patient: SyntheticPatient) -> Truth:
        """The truth that a patient was made from."""
        twin = patient.settings.twin
        parameters = {"g": twin.g, "p": twin.sc_exponent, "h": twin.homotopic}
        return cls(connectome=patient.connectome, parameters=parameters)


def write_truth(patient: SyntheticPatient, directory: Path) -> list[Path]:
    """Write ``connectome.npz``, ``truth.json``, ``labels.nii.gz`` and ``regional_bold.npy``; the same bytes each time.

    The labels lie in the patient's scanner frame (RAS+ mm), numbered from 1 in the connectome's order.
    """
    directory.mkdir(parents=True, exist_ok=True)
    facts = {
        "seed": patient.seed,
        "parameters": Truth.of(patient).parameters,
        "bundles": [
            {
                "regions": [patient.connectome.region_labels[r] for r in bundle.regions],
                "weight_mm2": bundle.weight,
                "length_mm": round(bundle.length, 3),
            }
            for bundle in patient.bundles
        ],
        "settings": asdict(patient.settings),
    }
    labels = as_image(patient.anatomy.labels, patient.anatomy.affine).to_bytes()
    contents = {
        "connectome.npz": patient.connectome.to_npz(),
        "truth.json": json.dumps(facts, indent=1).encode(),
        "labels.nii.gz": gzip.compress(labels, compresslevel=6, mtime=0),
    }
    for name, content in contents.items():
        (directory / name).write_bytes(content)
    np.save(directory / "regional_bold.npy", patient.regional_bold)
    return [*(directory / name for name in contents), directory / "regional_bold.npy"]


def read_truth(directory: Path) -> Truth:
    """The truth that `write_truth` left in a directory."""
    facts = json.loads((directory / "truth.json").read_text())
    return Truth(
        connectome=Connectome.from_npz((directory / "connectome.npz").read_bytes()),
        parameters={name: float(value) for name, value in facts["parameters"].items()},
    )


def recovery_scores(
    truth: Truth, connectome: Connectome, posterior_draws: Mapping[str, Float[np.ndarray, "*draws"]] | None = None
) -> dict[str, Any]:
    """Compare a recovered connectome, and a posterior where there is one, with the truth.

    Weights are compared up to scale, in symmetric form. Correlations on true edges count an undetected edge as 0;
    ``log_r`` is over detected true edges; ``top_k_hit`` is the share of true edges among as many strongest edges;
    ``length_bias`` the median ratio of recovered to true length. A score that is not defined is None.

    Raises
    ------
    ValueError
        where the two connectomes are not over the same regions.
    """
    order = _order(truth.connectome, connectome)
    upper = np.triu_indices(len(order), 1)
    true = truth.connectome.weights[upper]
    found = _symmetric(connectome.weights)[np.ix_(order, order)][upper]
    true_length = truth.connectome.tract_lengths[upper]
    found_length = np.maximum(connectome.tract_lengths, connectome.tract_lengths.T)[np.ix_(order, order)][upper]
    edge, detected = true > 0, found > 0
    both = edge & detected
    strongest = np.argsort(-found, kind="stable")[: edge.sum()]
    scores: dict[str, Any] = {
        "true_edges": int(edge.sum()),
        "recovered_edges": int(detected.sum()),
        "pearson_true_edges": _correlation(true, found, edge),
        "spearman_true_edges": _correlation(stats.rankdata(true[edge]), stats.rankdata(found[edge])),
        "log_r": _correlation(np.log(true[both]), np.log(found[both])),
        "pearson_all_pairs": _correlation(true, found),
        "recall": float(both.sum() / edge.sum()),
        "precision": float(both.sum() / detected.sum()) if detected.any() else None,
        "top_k_hit": float((edge & detected)[strongest].mean()),
        "weight_share_on_true_edges": float(found[edge].sum() / found.sum()) if detected.any() else None,
        "length_r": _correlation(true_length, found_length, both),
        "length_bias": float(np.median(found_length[both] / true_length[both])) if both.any() else None,
    }
    if posterior_draws is not None:
        scores["parameters"] = {
            name: _parameter_score(value, np.asarray(posterior_draws[name], float).ravel())
            for name, value in truth.parameters.items()
            if name in posterior_draws
        }
    return scores


def _order(truth: Connectome, connectome: Connectome) -> list[int]:
    if set(truth.region_labels) != set(connectome.region_labels):
        raise ValueError("the recovered connectome is over other regions than the truth")
    position = {label: i for i, label in enumerate(connectome.region_labels)}
    return [position[label] for label in truth.region_labels]


def _symmetric(weights: Float[np.ndarray, "region region"]) -> Float[np.ndarray, "region region"]:
    return np.asarray(0.5 * (weights + weights.T))


def _correlation(
    a: Float[np.ndarray, " pair"], b: Float[np.ndarray, " pair"], where: Bool[np.ndarray, " pair"] | None = None
) -> float | None:
    if where is not None:
        a, b = a[where], b[where]
    if len(a) < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    return float(np.corrcoef(a, b)[0, 1])


def _parameter_score(value: float, draws: Float[np.ndarray, " draw"]) -> dict[str, Any]:
    low, high = np.percentile(draws, _INTERVAL)
    spread = float(draws.std())
    return {
        "truth": value,
        "mean": float(draws.mean()),
        "interval_90": [float(low), float(high)],
        "inside_90": bool(low <= value <= high),
        "z": float((draws.mean() - value) / spread) if spread > 0 else None,
    }
