"""Posterior draws of an epileptic network, run from the quiet time between seizures with anything done to them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from vbt.clinical._epilepsy_rest import isolated_threshold
from vbt.simulation import Epileptor2D, Network, TemporalAverage, resect, simulate

TIME_STEP = 0.1  # units of the model, as in the inversion
SAMPLING = 1.0  # units; a burst lasts several
RECRUITED = -2.0 / 3.0  # x above it: midway between the folds of the quiet branch and of the burst, as in the inversion
_INTERICTAL = (-2.0, 5.0)  # x and z long after a seizure: quiet, and z on its way down in all that can seize
_RUNS_PER_CALL = 512  # bounds the memory


def coupling_weights(weights: Float[np.ndarray, "region region"]) -> Float[np.ndarray, "region region"]:
    """Weights over the largest in-strength, so that K means the same with every connectome."""
    largest = weights.sum(axis=1).max()
    return np.asarray(weights / largest if largest > 0.0 else weights)


def unseen_as_healthy(
    eta: Float[np.ndarray, "draw region"], seen: Bool[np.ndarray, " region"]
) -> Float[np.ndarray, "draw region"]:
    """Draws in which a region that the recording does not inform starts no seizure on its own.

    Such a region's draws follow the prior; those above the isolated threshold are replaced by its other draws in their
    order, or by the threshold's lower neighbour where it has none.
    """
    limit = isolated_threshold()
    kept = eta.copy()
    for region in np.flatnonzero(~seen):
        above = eta[:, region] >= limit
        below = eta[~above, region] if not above.all() else np.array([limit - 0.1])
        kept[above, region] = np.resize(below, int(above.sum()))
    return kept


@dataclass(frozen=True, kw_only=True)
class Twins:
    """One network per posterior draw.

    Parameters
    ----------
    eta : excitability
    coupling : K
    weights : ``weights[target, source]``, as in the inversion
    units : of model time that each run lasts
    """

    eta: Float[np.ndarray, "draw region"]
    coupling: Float[np.ndarray, " draw"]
    weights: Float[np.ndarray, "region region"]
    units: float

    def network(
        self, draw: int, *, shift: float = 0.0, initial: Float[np.ndarray, "2 region"] | None = None
    ) -> Network:
        """The twin of a draw, with all excitabilities moved by ``shift``."""
        regions = len(self.weights)
        start = np.repeat(np.array(_INTERICTAL)[:, None], regions, axis=1) if initial is None else initial
        return Network(
            mass=Epileptor2D(x0=self.eta[draw] + shift, K=float(self.coupling[draw])),
            weights=self.weights,
            tract_lengths=np.zeros((regions, regions)),
            velocity=1.0,
            initial=start,
        )

    def recruited(
        self, sets: Sequence[tuple[int, ...]], draws: int, progress: Callable[[float], None] | None = None
    ) -> Bool[np.ndarray, "set draw region"]:
        """Which regions seize after each set of regions was removed, over as many draws spread over all."""
        untouched = [self.network(int(draw)) for draw in evenly(len(self.eta), draws)]
        networks = [resect(network, chosen) if chosen else network for chosen in sets for network in untouched]
        return run(networks, self.units, progress).reshape(len(sets), draws, len(self.weights))


def evenly(total: int, count: int) -> Int[np.ndarray, " draw"]:
    """Indices spread from the first of ``total`` to the last: draws lie chain by chain, and the first are one chain."""
    return np.linspace(0, total - 1, min(count, total)).round().astype(int)


def run(
    networks: Sequence[Network], units: float, progress: Callable[[float], None] | None = None
) -> Bool[np.ndarray, "run region"]:
    """Which regions seize in each network.

    The deterministic model needs no seed. A unit of model time is a millisecond of the simulator's.
    """
    recruited = []
    for begin in range(0, len(networks), _RUNS_PER_CALL):
        part = networks[begin : begin + _RUNS_PER_CALL]
        simulation = simulate(
            part,
            [0] * len(part),
            duration=SAMPLING * np.ceil(units / SAMPLING) / 1000.0,
            monitors=[TemporalAverage(SAMPLING / 1000.0)],
            dt=TIME_STEP,
            progress=part_of(progress, begin / len(networks), (begin + len(part)) / len(networks)),
        )
        # A region that was removed is NaN and above nothing.
        recruited.append((simulation.observations[0].values > RECRUITED).any(axis=1))
    return np.concatenate(recruited)


def part_of(progress: Callable[[float], None] | None, begin: float, end: float) -> Callable[[float], None]:
    """Progress from 0 to 1 of what is only a part of the whole."""

    def tell(fraction: float) -> None:
        if progress is not None:
            progress(begin + fraction * (end - begin))

    return tell
