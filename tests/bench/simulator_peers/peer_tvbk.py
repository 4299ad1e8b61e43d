"""tvbk: hand-written SIMD kernels, eight lanes in a register; one lane useful, or all of as many as needed."""

from __future__ import annotations

import numpy as np
import tvbk
from measure import by_repeating, problem

LANES = 8
asked = problem()
sets = len(asked.couplings)
batches = -(-sets // LANES)
present = asked.weights != 0
indptr = np.concatenate([[0], np.cumsum(present.sum(axis=1))])
connections = tvbk.Conn(asked.regions, int(present.sum()))
connections.weights[:] = asked.weights[present]
connections.indptr[:] = indptr
connections.indices[:] = np.nonzero(present)[1]
# A slot is written after its step; the second stage reads one slot on, so the shortest delay it can express is 2.
connections.idelays[:] = np.maximum(asked.delays[present] + 1, 2)
horizon = 1 << int(np.ceil(np.log2(asked.delays[present].max() + 3)))
couplings = np.resize(asked.couplings, batches * LANES).reshape(batches, LANES).astype("f")
deviation = (2 * asked.nsig * asked.dt) ** 0.5
if asked.model == "MPR":
    step, initial, sent = tvbk.step_mpr, (0.05, -2.0), 0.05
    values = (1.0, 0.0, 1.0, 15.0, -5.0)  # tau, I, Delta, J, eta; then cr, the weight of the coupling
    noise = (deviation, deviation)
else:  # its Jansen-Rit sends one state along tracts instead of a rate and has one coupling for all lanes
    step, initial, sent = tvbk.step_jr, (0.1, 20.0, 15.0, 0.0, 0.0, 0.0), 0.1
    values = (3.25, 22.0, 0.1, 0.05, 6.0, 0.0025, 0.56, 135.0, 1.0, 0.8, 0.25, 0.25, 0.22)  # and I, left at zero
    noise = (0.0, 0.0, 0.0, 0.0, deviation, 0.0)
    connections.weights[:] *= 0.01
    couplings[:] = 0.0
parameters = np.zeros((batches, asked.regions, len(values) + 1, LANES), "f")
parameters[:, :, :-1] = np.array(values, "f")[None, None, :, None]
parameters[:, :, -1] = couplings[:, None]
z = np.broadcast_to(np.array(noise, "f")[None, :, None], (batches, len(noise), LANES)).copy()
steps = round(1000 * asked.seconds / asked.dt)
per_sample = 1000


def run() -> float:
    delayed = tvbk.Cx8s(asked.regions, horizon, batches)
    delayed.buf[:] = sent
    x = np.zeros((batches, len(noise), asked.regions, LANES), "f")
    x[:] = np.array(initial, "f")[None, :, None, None]
    y = np.zeros_like(x)
    seed = np.random.default_rng(0).integers(1, 2**62, (batches, LANES, 4)).astype(np.uint64)
    samples = []
    for start in range(0, steps, per_sample):
        step(delayed, connections, x, y, z, parameters, start, per_sample, asked.dt, seed)
        samples.append(y[:, 0].copy())
    found = np.stack(samples)[len(samples) // 2 :]
    return float(found.transpose(1, 3, 0, 2).reshape(batches * LANES, -1)[:sets].mean())


by_repeating(run, asked)
