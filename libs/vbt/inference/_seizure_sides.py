"""Which regions are quiet and which seize by themselves: one side each for the sampler, the other put back by its odds.

Where a region leaves rest the posterior has a cliff: it bursts, and its sensors show nothing of it. A sampler that runs
into eighty of them gets nowhere. So it stays on the sides on which the searches ended; how likely a region lies on the
other one all the same is an integral along its own axis, and as many draws are moved there. A region that no sensor
sees keeps both sides that way.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from vbt.inference._nuts import Posterior
from vbt.inference._seizure_model import (
    EQUILIBRIUM,
    ObservedSeizure,
    coordinate_of,
    excitability,
    leaving_rest,
    resting,
)
from vbt.inference._seizure_search import Search, polished

_BEYOND = np.array([0.0, 0.01, 0.03, 0.06, 0.12, 0.3, 0.7, 1.2])  # of x*, on the other side
_NORMAL = np.sqrt(2.0 * np.pi)


@dataclass(frozen=True)
class Sides:
    """The recording with one side for every region, and the odds that it lies in each stretch of the other."""

    observed: ObservedSeizure
    beyond: Float[np.ndarray, "region stretch"]

    def crossed(
        self,
        eta: Float[np.ndarray, "draw region"],
        coordinate: Float[np.ndarray, "draw region"],
        coupling: Float[np.ndarray, " draw"],
    ) -> Float[np.ndarray, "draw region"]:
        """Excitabilities of draws, where some regions of some draws were moved to their other side."""
        rng = np.random.default_rng(0)
        odds = self.beyond.sum(axis=1)
        moved = rng.random(eta.shape) < odds / (1.0 + odds)
        x = np.asarray(resting(self.observed.side, coordinate)[0]).copy()
        side = np.asarray(self.observed.side)
        for region in np.flatnonzero(moved.any(axis=0)):
            count = int(moved[:, region].sum())
            stretch = rng.choice(len(_BEYOND) - 1, size=count, p=self.beyond[region] / odds[region])
            beyond = rng.uniform(_BEYOND[stretch], _BEYOND[stretch + 1])
            x[moved[:, region], region] = leaving_rest() - side[region] * beyond
        found, weights = eta.copy(), np.asarray(self.observed.weights)
        for draw in np.flatnonzero(moved.any(axis=1)):
            found[draw] = excitability(weights, x[draw], coupling[draw])
        return found


def one_side(posterior: Posterior, observed: ObservedSeizure, found: Search) -> tuple[Sides, Search]:
    """One side for every region, and the modes in the coordinates of that.

    A region whose sides differ between searches that agree keeps both.
    """
    agreeing = found.modes[: found.agreeing]
    states = np.stack([_states(posterior, observed, mode) for mode in agreeing])
    above = states > leaving_rest()
    side = np.where((above == above[0]).all(axis=0), np.where(above[0], 1.0, -1.0), 0.0)
    beyond = np.zeros((len(side), len(_BEYOND) - 1))
    widths = 1.0 / np.sqrt(np.diag(np.linalg.inv(found.mode.covariance)))
    for region, width in enumerate(EQUILIBRIUM[1] * posterior.split(widths[None])["equilibrium"][0]):
        if side[region]:
            beyond[region] = _mass_beyond(posterior, observed, found, region, side[region]) / (width * _NORMAL)
    bounded = dataclasses.replace(observed, side=jnp.asarray(side))
    modes = np.stack(
        [_moved(posterior, mode, coordinate_of(side, x)) for mode, x in zip(agreeing, states, strict=True)]
    )
    potentials = np.array([posterior.value_and_gradient(mode, bounded)[0] for mode in modes])
    again = polished(posterior, bounded, modes, potentials)
    # The others stay as far above as they were.
    others = found.potentials[len(modes) :] - found.potentials[0] + again.potentials[0]
    return Sides(bounded, beyond), dataclasses.replace(
        again,
        modes=np.concatenate([again.modes, found.modes[len(modes) :]]),
        potentials=np.concatenate([again.potentials, others]),
    )


def _states(posterior: Posterior, observed: ObservedSeizure, mode: np.ndarray) -> Float[np.ndarray, " region"]:
    return np.asarray(resting(observed.side, posterior.split(mode[None])["equilibrium"][0])[0])


def _mass_beyond(
    posterior: Posterior, observed: ObservedSeizure, found: Search, region: int, side: float
) -> Float[np.ndarray, " stretch"]:
    """The mass of stretches of a region's other side, all else as in the best mode, whose density is 1."""
    x = _states(posterior, observed, found.modes[0]).copy()
    density = []
    for beyond in _BEYOND[1:]:
        x[region] = leaving_rest() - side * beyond
        there = _moved(posterior, found.modes[0], coordinate_of(np.zeros(len(x)), x))
        density.append(np.exp(found.potentials[0] - posterior.value_and_gradient(there, observed)[0]))
    return np.asarray(density * np.diff(_BEYOND))


def _moved(posterior: Posterior, mode: np.ndarray, coordinate: np.ndarray) -> np.ndarray:
    sites = {name: value[0] for name, value in posterior.split(mode[None]).items()}
    return posterior.joined(sites | {"equilibrium": coordinate})
