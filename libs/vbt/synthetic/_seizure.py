"""A seizure of the synthetic patient as depth electrodes record it.

A network of two-dimensional Epileptors on the true connectome; every contact's voltage is broadband activity whose log
power follows what the regions around it do, as it does in patients (Vattikonda et al. 2021).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import fft

from vbt.connectome import Connectome
from vbt.simulation import Epileptor2D, Network, Trajectory, simulate
from vbt.synthetic._anatomy import Anatomy
from vbt.synthetic._implantation import Implantation, implant

SECONDS_PER_UNIT = 2.0  # of the Epileptor's time; a burst of some units lasts ten to twenty seconds
UNITS = 100.0
SAMPLING_RATE = 256.0
ETA = {"onset": -1.6, "propagation": -2.5, "healthy": -3.4}
_SPREAD = 0.05  # of excitability within a zone
_ONSET, _PROPAGATION, _FURTHER = 2, 3, 5  # regions in the zones; targets of the implantation elsewhere
_STEP = 0.1
_REST = (-2.0, 5.0)
_SWING = 5.0  # of log power from rest to burst, at the contact that sees most of it
_MICROVOLTS = 40.0


@dataclass(frozen=True, kw_only=True)
class SyntheticSeizure:
    """One recording, and what it came from.

    Parameters
    ----------
    signals : V
    onset : s from the beginning to the first burst of an onset region
    eta : excitability of every region
    onset_zone, propagation_zone : indices of regions
    """

    implantation: Implantation
    signals: Float[np.ndarray, "time contact"]
    onset: float
    eta: Float[np.ndarray, " region"]
    coupling: float
    onset_zone: tuple[int, ...]
    propagation_zone: tuple[int, ...]


def make_seizure(rng: np.random.Generator, connectome: Connectome, anatomy: Anatomy) -> SyntheticSeizure:
    """Choose zones, implant, let the network seize, and record."""
    onset_zone, propagation_zone, further = _zones(rng, connectome)
    eta = np.full(len(connectome.region_labels), ETA["healthy"])
    eta[list(onset_zone)], eta[list(propagation_zone)] = ETA["onset"], ETA["propagation"]
    eta += rng.normal(scale=_SPREAD, size=len(eta))
    implantation = implant(rng, anatomy, [*onset_zone, *propagation_zone, *further])
    (at, x), coupling = _activity(connectome, eta), 1.0
    recruited = (x[:, list(onset_zone)] > -2.0 / 3.0).any(axis=1)
    log_power = _log_power(x, implantation.gain)
    first = at[np.argmax(recruited)]
    return SyntheticSeizure(
        implantation=implantation,
        signals=_voltages(rng, at, log_power),
        onset=float(first * SECONDS_PER_UNIT),
        eta=eta,
        coupling=coupling,
        onset_zone=onset_zone,
        propagation_zone=propagation_zone,
    )


def _zones(rng: np.random.Generator, connectome: Connectome) -> tuple[tuple[int, ...], tuple[int, ...], list[int]]:
    """A cortical region with the neighbours it is tied to most, and other regions of both hemispheres."""
    weights = connectome.weights
    joined = np.flatnonzero(connectome.is_cortical & ((weights > 0).sum(axis=1) >= _ONSET + _PROPAGATION - 1))
    candidates = joined if len(joined) else np.flatnonzero(connectome.is_cortical & (weights.sum(axis=1) > 0))
    focus = int(rng.choice(candidates))
    zone = [focus]
    while len(zone) < _ONSET + _PROPAGATION:
        ties = weights[:, zone].sum(axis=1)
        ties[zone] = -1.0
        if ties.max() <= 0.0:
            distance = np.linalg.norm(connectome.centres - connectome.centres[focus], axis=1)
            distance[zone] = np.inf
            zone.append(int(np.argmin(distance)))
        else:
            zone.append(int(np.argmax(ties)))
    others = np.setdiff1d(np.flatnonzero(connectome.is_cortical), zone)
    further = [int(region) for region in rng.choice(others, size=_FURTHER, replace=False)]
    return tuple(zone[:_ONSET]), tuple(zone[_ONSET:]), further


def _activity(
    connectome: Connectome, eta: Float[np.ndarray, " region"]
) -> tuple[Float[np.ndarray, " t"], Float[np.ndarray, "t region"]]:
    """Times (units) and x of every region at each step; the simulator's second is a thousand units."""
    regions = len(eta)
    network = Network(
        mass=Epileptor2D(x0=eta, K=1.0),
        weights=connectome.weights / connectome.weights.sum(axis=1).max(),
        tract_lengths=np.zeros((regions, regions)),
        velocity=1.0,
        initial=np.repeat(np.array(_REST)[:, None], regions, axis=1),
    )
    run = simulate(
        [network], [0], duration=UNITS / 1000.0, monitors=[Trajectory(_STEP * 1e-3)], dt=_STEP, precision="double"
    )
    seen = run.observations[0]
    return 1000.0 * seen.time, np.asarray(seen.values[0, :, :regions], dtype=float)  # the first variable is x


def _log_power(
    x: Float[np.ndarray, "t region"], gain: Float[np.ndarray, "contact region"]
) -> Float[np.ndarray, "t contact"]:
    """Above each contact's own level at rest; one gain for all contacts, as tissue has one conductivity."""
    change = (x - x[0]) @ gain.T
    return np.asarray(change * (_SWING / change.max()))


def _voltages(
    rng: np.random.Generator, at: Float[np.ndarray, " t"], log_power: Float[np.ndarray, "t contact"]
) -> Float[np.ndarray, "sample contact"]:
    """Independent 1/√f noise at every contact, its amplitude the square root of the power."""
    samples = round(UNITS * SECONDS_PER_UNIT * SAMPLING_RATE)
    frequencies = fft.rfftfreq(samples, 1.0 / SAMPLING_RATE)
    shape = np.where(frequencies >= 1.0, 1.0 / np.maximum(frequencies, 1.0) ** 0.5, 0.0)
    units = np.arange(samples) / (SAMPLING_RATE * SECONDS_PER_UNIT)
    signals = np.empty((samples, log_power.shape[1]))
    for contact in range(log_power.shape[1]):
        noise = fft.irfft(fft.rfft(rng.standard_normal(samples)) * shape, samples)
        amplitude = np.exp(0.5 * np.interp(units, at, log_power[:, contact]))
        signals[:, contact] = 1e-6 * _MICROVOLTS * amplitude * noise / noise.std()
    return signals
