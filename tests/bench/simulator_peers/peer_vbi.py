"""vbi: its Numba Montbrió-Pazó-Roxin, which has no delays, without BOLD."""

from __future__ import annotations

import numpy as np
from measure import by_repeating, problem
from vbi.models.numba.mpr import MPR_sde

asked = problem()
parameters = {
    "G": float(asked.couplings[0]),
    "weights": asked.weights,
    "dt": asked.dt,
    "eta": np.array([-5.0]),
    "J": 15.0,
    "delta": 1.0,
    "tau": 1.0,
    "noise_amp": asked.nsig,
    "t_end": 10.0 * 1000.0 * asked.seconds,  # divided by ten before it runs: its time unit is 10 ms
    "RECORD_RV": True,
    "RECORD_BOLD": False,
    "seed": 1,
}


def run() -> float:
    found = MPR_sde(parameters).run(x0=np.repeat([0.05, -2.0], asked.regions))
    rates = np.asarray(found["rv_d"])[:, : asked.regions]
    return float(rates[len(rates) // 2 :].mean())


by_repeating(run, asked)
