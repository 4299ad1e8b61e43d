"""neurolib: its Hopf model (it has no Montbrió-Pazó-Roxin), Numba, Ornstein-Uhlenbeck noise, delays."""

from __future__ import annotations

import numpy as np
from measure import by_repeating, problem
from neurolib.models.hopf import HopfModel

asked = problem()
model = HopfModel(Cmat=asked.weights, Dmat=asked.lengths, seed=1)
model.params["dt"] = asked.dt
model.params["duration"] = 1000.0 * asked.seconds
model.params["signalV"] = asked.velocity
model.params["K_gl"] = float(asked.couplings[0])
model.params["sigma_ou"] = 0.05


def run() -> float:
    model.run()
    return float(np.mean(model.outputs["x"] ** 2))


by_repeating(run, asked)
