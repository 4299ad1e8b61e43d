"""Ours: a long run of one network to BOLD, for its real-time factor and its peak memory."""

from __future__ import annotations

import numpy as np
from measure import by_repeating, problem

from vbt.simulation import Bold, MontbrioPazoRoxin, Network, simulate

asked = problem()
sigma = (2 * asked.nsig) ** 0.5
network = Network(
    mass=MontbrioPazoRoxin(Delta=1.0, J=15.0, eta=-5.0, milliseconds_per_unit=1.0),
    weights=asked.weights,
    tract_lengths=asked.lengths,
    velocity=asked.velocity,
    coupling=asked.couplings[0],
    sigma=(sigma, sigma),
)


def run() -> float:
    found = simulate([network], [0], duration=asked.seconds, monitors=[Bold(0.72)], dt=asked.dt)
    return float(np.mean(found.observations[0].values))


by_repeating(run, asked, repeats=1)
