"""The Epileptor network small enough to be fitted hundreds of times, for simulation-based calibration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from vbt.inference._sbc import Refused, Simulated
from vbt.inference._seizure import calibrate_seizure
from vbt.inference._seizure_feature import Units, observe
from vbt.inference._seizure_model import ETA_MEAN, PER_REGION, PRIORS, REST, activity, of_normal

UNITS = Units(centre=0.0, scale=1.0, gain=1.0)  # priors as they are written: a truth comes from what the fit assumes
SAMPLING_PERIOD = 0.5
PRIOR_MEAN = -2.2


@dataclass(frozen=True, kw_only=True)
class SeizureSbc:
    """`SbcModel` of the Epileptor network: truths from its prior, features with exactly its noise, NUTS and gate.

    The prior of excitability is moved up, as by a hypothesis about every region, so that most truths seize. Those that
    do not are refused, as a recording without a seizure is.
    """

    regions: int = 6
    sensors: int = 8
    samples: int = 80
    connectome_seed: int = 0
    name: str = "seizure"
    parameters: tuple[str, ...] = field(default=("eta[0]", "eta[1]", "eta[2]", "K", "amplitude", "noise"))

    def draw(self, rng: np.random.Generator) -> Simulated:
        weights, gain = self._scaffold()
        with jax.enable_x64(True):
            deviate = {name: rng.normal(size=self.regions if name in (*PER_REGION, "eta") else ()) for name in PRIORS}
            site = {name: np.asarray(of_normal(name, deviate[name])) for name in PRIORS}
            site["eta"] = site["eta"] - ETA_MEAN + PRIOR_MEAN
            empty = np.zeros((self.samples, self.sensors))
            observed = observe(weights, gain, empty, SAMPLING_PERIOD, np.full(self.regions, PRIOR_MEAN), UNITS)
            eta, coupling, begin, slow = (jnp.asarray(site[name]) for name in ("eta", "K", "x", "z"))
            x = np.asarray(activity(observed, eta, coupling, begin, slow, self.samples)[0])
        clean = site["amplitude"] * (x @ gain.T - REST) + site["level"]
        own = site["baseline"] * rng.normal(size=self.sensors)
        truth = {name: float(site[name]) for name in ("K", "amplitude", "noise")}
        truth |= {f"eta[{region}]": float(value) for region, value in enumerate(site["eta"])}
        return Simulated(truth=truth, recording=clean + own + site["noise"] * rng.normal(size=clean.shape))

    def fit(self, recording: np.ndarray, *, rng_seed: int) -> Mapping[str, np.ndarray] | Refused:
        weights, gain = self._scaffold()
        found = calibrate_seizure(
            weights,
            gain,
            recording,
            SAMPLING_PERIOD,
            region_labels=tuple(str(region) for region in range(self.regions)),
            sensor_labels=tuple(str(sensor) for sensor in range(self.sensors)),
            rng_seed=rng_seed,
            seconds_per_unit=1.0,
            prior_mean=np.full(self.regions, PRIOR_MEAN),
            units=UNITS,
        )
        if not found.sound:
            return Refused(reasons=found.reasons)
        eta = {f"eta[{region}]": found.draws["eta"][..., region] for region in range(self.regions)}
        return {**found.draws, **eta}

    def _scaffold(self) -> tuple[Float[np.ndarray, "region region"], Float[np.ndarray, "sensor region"]]:
        rng = np.random.default_rng(self.connectome_seed)
        weights = np.triu(rng.lognormal(size=(self.regions, self.regions)), 1)
        gain = rng.uniform(0.05, 0.2, (self.sensors, self.regions))
        gain[np.arange(self.sensors), np.arange(self.sensors) % self.regions] += 1.0
        return weights + weights.T, gain / gain.sum(axis=1).mean()
