"""brainmass: `Network` of Hopf nodes under `Simulator.run`, which traces anew on every call; no noise."""

from __future__ import annotations

import brainmass
import brainstate
import braintools
import brainunit as u
import numpy as np
from measure import by_slope, problem

asked = problem()
brainstate.environ.set(dt=asked.dt * u.ms)
node = brainmass.HopfStep(
    asked.regions, a=0.1, w=0.2, init_x=braintools.init.Constant(0.2), init_y=braintools.init.Constant(0.1)
)
network = brainmass.Network(
    node,
    conn=asked.weights,
    distance=asked.lengths * u.mm,
    speed=asked.velocity * u.mm / u.ms,
    coupling="additive",
    coupled_var="x",
    k=float(asked.couplings[0]),
)


def run(seconds: float) -> float:
    simulator = brainmass.Simulator(network, dt=asked.dt * u.ms)
    found = simulator.run(1000.0 * seconds * u.ms, monitors=lambda m: m.node.x.value)
    return float(np.mean(np.asarray(found["output"]) ** 2))


by_slope(run, asked)
