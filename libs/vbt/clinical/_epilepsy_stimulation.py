"""SEEG pulse trains into one region of the twin at rest: does a seizure follow, and in which draws."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Bool

from vbt.clinical._epilepsy_rest import equilibrium, margin, resting_z
from vbt.clinical._epilepsy_twins import Twins, evenly, part_of, run
from vbt.simulation import pulse_train, stimulate

# Hz and s: the customary trains of stimulation through SEEG contacts, with pulses of 1 ms
# (Wang et al. 2025, Nat. Comput. Sci., doi:10.1038/s43588-025-00841-6).
TRAINS = {50.0: 5.0, 1.0: 40.0}
PULSE_WIDTH = 1e-3  # s
STRENGTH = 1.0  # mean input during a train of 50 Hz, a third of the mass's own I1; a hypothesis
RESERVE = 0.1  # of excitability: how far from losing its rest the twin is between seizures; a hypothesis
_AFTER = 50.0  # units of model time watched after a train


def provoked(
    twins: Twins,
    targets: Sequence[int],
    draws: int,
    seconds_per_unit: float,
    progress: Callable[[float], None] | None = None,
) -> Bool[np.ndarray, "train target draw"]:
    """Whether any region seizes from the beginning of the train to a while after it.

    The twin between seizures is the calibrated one with all excitabilities lowered together until its rest has the
    `RESERVE`, and it starts at that rest.

    Parameters
    ----------
    draws : how many of the twins' draws, spread over all
    seconds_per_unit : of model time
    """
    if not len(targets):
        return np.zeros((len(TRAINS), 0, draws), dtype=bool)
    rested = []
    for draw in evenly(len(twins.eta), draws):
        eta, coupling = twins.eta[draw], float(twins.coupling[draw])
        shift = margin(eta, coupling, twins.weights) - RESERVE
        x = equilibrium(eta + shift, coupling, twins.weights)
        rested.append(twins.network(int(draw), shift=shift, initial=np.stack([x, resting_z(x)])))
    # The simulator's second is a thousand units.
    scale = 1000.0 * seconds_per_unit
    amplitude = STRENGTH / (50.0 * PULSE_WIDTH)
    found = []
    for index, (frequency, lasts) in enumerate(TRAINS.items()):
        train = pulse_train(frequency=frequency * scale, width=1000.0 * PULSE_WIDTH / scale, offset=lasts / scale)
        networks = [stimulate(network, (target,), amplitude, train) for target in targets for network in rested]
        told = part_of(progress, index / len(TRAINS), (index + 1) / len(TRAINS))
        recruited = run(networks, lasts / seconds_per_unit + _AFTER, told)
        found.append(recruited.any(axis=1).reshape(len(targets), draws))
    return np.stack(found)
