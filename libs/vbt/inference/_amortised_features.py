"""The summaries of a resting recording that a network is trained on, read with the patient's connectome in hand."""

from __future__ import annotations

import numpy as np
import scipy.signal
from jaxtyping import Float

from vbt.inference._amortised_simulations import PopulationModel
from vbt.inference._features import (
    BAND,
    apart,
    band_powers,
    functional_connectivity,
    functional_connectivity_dynamics,
    in_band,
    moments,
)
from vbt.simulation import effective_weights

_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_CLASSES = (0.25, 0.5, 0.75, 0.9)  # of the weights of the connections that were seen
_MODES = 6
_FAST, _FEWEST_FAST = 0.12, 10  # Hz; Fourier bins above that are worth a summary
_TYPICAL_EXPONENT = 0.7  # the prior's median: the modes of this coupling are what recordings are projected on


class Summaries:
    """Takes recordings of one patient's network to summaries; what depends on the connectome alone is worked out once.

    Functional connectivity within .01 to .1 Hz, as Fisher's z: over all pairs, within and between hemispheres, between
    homotopic regions, by classes of streamline weight, and projected on the modes of the coupling; its eigenvalues; its
    dynamics over 60 s windows; shares of power by band, and where the sampling reaches that far the density of power
    above 0.12 Hz, which blood cannot follow, to that within the band; skewness and kurtosis.
    """

    def __init__(self, model: PopulationModel) -> None:
        self._repetition_time = model.repetition_time
        self._pairs = np.triu_indices(len(model.region_labels), 1)
        weights = model.weights[self._pairs]
        seen, between, homotopic = weights > 0, model.between[self._pairs], model.homotopic[self._pairs]
        self._log = np.log(np.where(seen, weights, weights[seen].min() / 2.0))
        self._near = model.nearness[self._pairs] / model.nearness[self._pairs].sum()
        strength = np.digitize(self._log, np.quantile(self._log[seen], _CLASSES))
        groups = {
            "all": np.ones_like(seen),
            "within": ~between,
            "between": between & ~homotopic,
            "homotopic": homotopic,
            "within-unseen": ~seen & ~between,
            "between-unseen": ~seen & between & ~homotopic,
        }
        for k in range(len(_CLASSES) + 1):
            groups[f"within-{k}"] = seen & ~between & (strength == k)
            groups[f"between-{k}"] = seen & between & ~homotopic & (strength == k)
        self._groups = {name: chosen for name, chosen in groups.items() if chosen.any()}
        typical = effective_weights(model.weights, model.region_labels, _TYPICAL_EXPONENT, 0.0)
        self._fast = np.fft.rfftfreq(model.samples, model.repetition_time) >= _FAST
        self._modes = np.linalg.eigh(typical)[1][:, ::-1][:, :_MODES]
        self.names = (
            *(f"fc-{name}" for name in self._groups),
            "fc-spread",
            *(f"fc-quantile-{q:g}" for q in _QUANTILES),
            "fc-weights-r",
            "fc-neighbours",
            *(f"fc-mode-{k}" for k in range(_MODES)),
            *(f"fc-eigenvalue-{k}" for k in range(_MODES)),
            "fcd-mean",
            "fcd-spread",
            *(f"power-{k}" for k in range(3)),
            *(("power-above",) if self._fast.sum() >= _FEWEST_FAST else ()),
            "skewness",
            "skewness-spread",
            "kurtosis",
        )

    def __call__(self, bold: Float[np.ndarray, "time region"]) -> Float[np.ndarray, " feature"]:
        slow = in_band(bold, self._repetition_time)
        fc = functional_connectivity(slow)
        z = np.arctanh(fc[self._pairs].clip(-0.999, 0.999))
        dynamics = apart(functional_connectivity_dynamics(slow, self._repetition_time), self._repetition_time)
        _, _, skewness, kurtosis = moments(slow)
        return np.array(
            [
                *(z[chosen].mean() for chosen in self._groups.values()),
                z.std(),
                *np.quantile(z, _QUANTILES),
                np.corrcoef(z, self._log)[0, 1],
                z @ self._near,
                *np.einsum("ik,ij,jk->k", self._modes, fc, self._modes, optimize=True),
                *np.log(np.linalg.eigvalsh(fc)[::-1][:_MODES]),
                dynamics.mean(),
                dynamics.std(),
                *np.median(band_powers(bold, self._repetition_time), axis=1)[:3],
                *self._above(bold),
                skewness.mean(),
                skewness.std(),
                kurtosis.mean(),
            ]
        )

    def _above(self, bold: np.ndarray) -> tuple[float, ...]:
        if self._fast.sum() < _FEWEST_FAST:
            return ()
        frequencies = np.fft.rfftfreq(len(bold), self._repetition_time)
        power = np.abs(np.fft.rfft(scipy.signal.detrend(bold, axis=0), axis=0)) ** 2
        inside = (frequencies >= BAND[0]) & (frequencies < BAND[1])
        return (float(np.median(np.log(power[self._fast].mean(axis=0) / power[inside].mean(axis=0)))),)
