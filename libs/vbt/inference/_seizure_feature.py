"""The log power of a seizure as the Epileptor network's data: what is refused, and the units it is brought to."""

from __future__ import annotations

import math
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from vbt.errors import Rejected
from vbt.inference._seizure_checks import chi_square
from vbt.inference._seizure_model import LARGEST_DT, TAU0, ObservedSeizure

FEWEST_SENSORS = 4
FEWEST_SAMPLES = 40
SHORTEST = 2.0 * TAU0  # model time: about two bursts of a region in the onset zone
_SEIZURE = 1.5  # variance of some sensor over that of what changes from sample to sample


@dataclass(frozen=True, kw_only=True)
class Units:
    """What turns the feature and the gain into the model's: values − ``centre`` over ``scale``, gain over ``gain``."""

    centre: float
    scale: float
    gain: float

    @classmethod
    def of(cls, gain: np.ndarray, feature: np.ndarray) -> Units:
        """Median and spread over time of the feature; mean row sum of the gain."""
        return cls(
            centre=float(np.median(feature)),
            scale=float(np.sqrt(feature.var(axis=0).mean())),
            gain=float(gain.sum(axis=1).mean()),
        )


def observe(
    weights: np.ndarray,
    gain: np.ndarray,
    feature: np.ndarray,
    units_per_sample: float,
    prior_mean: np.ndarray,
    units: Units,
) -> ObservedSeizure:
    """The model's data; ``weights`` over their largest row sum, so that K means the same on every connectome."""
    substeps = max(1, math.ceil(units_per_sample / LARGEST_DT - 1e-9))
    return ObservedSeizure(
        weights=jnp.asarray(weights / weights.sum(axis=1).max(), dtype=float),
        gain=jnp.asarray(gain / units.gain, dtype=float),
        values=jnp.asarray((feature - units.centre) / units.scale, dtype=float),
        prior_mean=jnp.asarray(prior_mean, dtype=float),
        side=jnp.zeros(len(weights)),
        dt=jnp.asarray(units_per_sample / substeps, dtype=float),
        substeps=substeps,
    )


def require_fitting(
    weights: Float[np.ndarray, "region region"],
    gain: Float[np.ndarray, "sensor region"],
    feature: Float[np.ndarray, "time sensor"],
    units_per_sample: float,
    region_labels: tuple[str, ...],
    sensor_labels: tuple[str, ...],
) -> None:
    """Refuse, by rule and value, what the model cannot be fitted to."""
    _require_shapes(weights, gain, feature, len(region_labels), len(sensor_labels))
    alone = np.flatnonzero(weights.sum(axis=0) + weights.sum(axis=1) == 0.0)
    if len(alone):
        raise Rejected(
            "isolated-regions",
            rule="every region is connected with another",
            got=f"{len(alone)} without a connection: {', '.join(region_labels[i] for i in alone[:5])}",
            action="leave these regions out, or check the tractography there",
        )
    if len(sensor_labels) < FEWEST_SENSORS:
        raise Rejected(
            "too-few-sensors",
            rule=f"a seizure is located with {FEWEST_SENSORS} or more sensors",
            got=str(len(sensor_labels)),
            action="attach a recording with more usable channels",
        )
    duration = len(feature) * units_per_sample
    if len(feature) < FEWEST_SAMPLES or duration < SHORTEST:
        raise Rejected(
            "feature-too-short",
            rule=f"the feature has {FEWEST_SAMPLES} or more samples over {SHORTEST:g} or more units of model time",
            got=f"{len(feature)} samples over {duration:.3g} units",
            action="attach a longer piece of the recording, or sample its power more often",
        )
    flat = np.flatnonzero(np.ptp(feature, axis=0) <= 1e-9 * max(float(np.ptp(feature)), 1e-300))
    if len(flat):
        raise Rejected(
            "flat-sensors",
            rule="the power of every sensor changes over time",
            got=f"{len(flat)} of {len(sensor_labels)} sensors constant",
            action="leave these sensors out",
        )
    _require_seizure(feature)


def _require_shapes(weights: np.ndarray, gain: np.ndarray, feature: np.ndarray, regions: int, sensors: int) -> None:
    shapes = (weights.shape, gain.shape, feature.shape[1:])
    if shapes != ((regions, regions), (sensors, regions), (sensors,)):
        raise Rejected(
            "shapes-differ",
            rule="weights are (region, region), the gain (sensor, region) and the feature (time, sensor)",
            got=f"{weights.shape}, {gain.shape} and {feature.shape} for {regions} regions and {sensors} sensors",
            action="take weights, gain and feature from the same case",
        )
    for name, values, least in (("weights", weights, 0.0), ("gain", gain, 0.0), ("feature", feature, -np.inf)):
        wrong = int((~np.isfinite(values)).sum() + (values < least).sum())
        if wrong:
            raise Rejected(
                "not-a-number",
                rule=f"the {name} holds finite numbers{' of 0 or more' if least == 0.0 else ''} only",
                got=f"{wrong} others of {values.size}",
                action="leave out channels and regions without values",
            )
    if not gain.any(axis=1).all():
        raise Rejected(
            "blind-sensors",
            rule="every sensor sees some region",
            got=f"{int((~gain.any(axis=1)).sum())} that see none",
            action="leave these sensors out, or check the electrode positions",
        )


def _require_seizure(feature: np.ndarray) -> None:
    largest = max(chi_square(column[:, None] - column.mean()) for column in feature.T)
    if largest < _SEIZURE:
        raise Rejected(
            "no-seizure",
            rule=f"the power of some sensor varies {_SEIZURE:g} times as much as its noise",
            got=f"{largest:.2f} times at most",
            action="choose the piece of the recording that holds the seizure",
        )
