"""Ours: `simulate` as a user calls it, assembly of the networks and copying of the results included."""

from __future__ import annotations

from measure import by_repeating, problem

from vbt.simulation import MontbrioPazoRoxin, Network, NeuralMass, TemporalAverage, simulate
from vbt.simulation.neural_masses.jansen_rit import JansenRit

asked = problem()
sigma = (2 * asked.nsig) ** 0.5
if asked.model == "MPR":
    mass: NeuralMass = MontbrioPazoRoxin(Delta=1.0, J=15.0, eta=-5.0, milliseconds_per_unit=1.0)
    noise: tuple[float, ...] = (sigma, sigma)
else:
    mass, noise = JansenRit(), (0.0, 0.0, 0.0, 0.0, sigma, 0.0)
networks = [
    Network(
        mass=mass,
        weights=asked.weights,
        tract_lengths=asked.lengths,
        velocity=asked.velocity,
        coupling=coupling,
        sigma=noise,
        instantaneous_below_step=True,
    )
    for coupling in asked.couplings
]


def run() -> float:
    found = simulate(
        networks,
        range(len(networks)),
        duration=asked.seconds,
        monitors=[TemporalAverage(0.1)],
        dt=asked.dt,
        precision="double" if asked.configuration == "double" else "single",
        engine="xla" if asked.configuration == "xla" else None,
    )
    values = found.observations[0].values
    return float(values[:, values.shape[1] // 2 :].mean())


by_repeating(run, asked)
