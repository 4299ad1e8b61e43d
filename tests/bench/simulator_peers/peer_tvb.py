"""The Virtual Brain: its Numba backend for Montbrió-Pazó-Roxin, or its plain Python simulator."""

from __future__ import annotations

import logging

import numpy as np
from measure import by_slope, problem
from tvb.simulator import coupling, integrators, models, monitors, noise, simulator
from tvb.simulator.backend.nb_mpr import NbMPRBackend

from tvb.datatypes import connectivity  # isort: skip

logging.disable(logging.INFO)
asked = problem()


def configured() -> simulator.Simulator:
    tracts = connectivity.Connectivity(
        weights=asked.weights,
        tract_lengths=asked.lengths,
        region_labels=np.array([str(i) for i in range(asked.regions)]),
        centres=np.zeros((asked.regions, 3)),
        speed=np.array([asked.velocity]),
    )
    tracts.configure()
    if asked.model == "MPR":
        model, joined = models.MontbrioPazoRoxin(variables_of_interest=("r", "V")), coupling.Linear(a=asked.couplings)
        nsig, initial = [asked.nsig, asked.nsig], [0.05, -2.0]
    else:
        model = models.JansenRit(v0=np.array([6.0]), variables_of_interest=("y1", "y2"))
        joined = coupling.SigmoidalJansenRit(a=asked.couplings)
        nsig, initial = [0.0, 0.0, 0.0, 0.0, asked.nsig, 0.0], [0.1, 20.0, 15.0, 0.0, 0.0, 0.0]
    horizon = int(asked.delays.max()) + 1
    return simulator.Simulator(
        model=model,
        connectivity=tracts,
        conduction_speed=asked.velocity,
        coupling=joined,
        integrator=integrators.HeunStochastic(dt=asked.dt, noise=noise.Additive(nsig=np.array(nsig))),
        monitors=(monitors.TemporalAverage(period=100.0),),
        initial_conditions=np.broadcast_to(
            np.array(initial)[None, :, None, None], (horizon, len(initial), asked.regions, 1)
        ).copy(),
    ).configure()


def run(seconds: float) -> float:
    simulation = configured()
    length = 1000.0 * seconds
    if asked.configuration == "Numba backend":
        ((_, values),) = NbMPRBackend().run_sim(simulation, simulation_length=length, chunksize=10_000)
    else:
        ((_, values),) = simulation.run(simulation_length=length)
    half = values[len(values) // 2 :]
    return float(half[:, 0].mean() if asked.model == "MPR" else (half[:, 0] - half[:, 1]).mean())


by_slope(run, asked)
