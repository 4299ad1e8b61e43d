"""From EEG or MEG and a lesion mask to a posterior of conduction, and what follows of delays and the alpha rhythm."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from vbt.clinical._multiple_sclerosis_rhythm import Conduction, Wiring
from vbt.clinical._multiple_sclerosis_sensors import SensorView, sensor_view
from vbt.clinical.application import Progress, Recordings
from vbt.clinical.findings import Check
from vbt.connectome import Connectome, LesionedTracts
from vbt.electrophysiology import ChannelCheck, SensorRecording, require_usable, without
from vbt.errors import Rejected
from vbt.inference import Checkpoint, SpectralCalibration, Within, calibrate_delayed_spectrum
from vbt.simulation import one_blas_thread

DRAWS = 100  # of the posterior, whose spectra are computed: enough for a 90 % interval of their quantiles
MOST_ISOLATED = 0.1
TRACTS = 10
_FIRST, _SHARE = 0.7, 0.9  # of the progress, that the first likelihood and all inference take


@dataclass(frozen=True, kw_only=True)
class ConductionCalibration(SpectralCalibration):
    """The posterior of conduction with what follows from it.

    Parameters
    ----------
    kind : ``"meg"`` or ``"eeg"``
    channels : how many were used; ``located`` their places, ``"measured"`` or ``"standard"``
    recording_checks : of the recording and of the connectome's use
    predicted : per quantity of `PREDICTED` one value per draw; empty where the posterior is unsound
    tracts : indices in ``region_labels`` of the tracts with the largest extra delays, the largest first
    tract_fractions : of each, the share of its streamlines that lesions meet
    tract_delays : of each, ms that lesions add, one per draw of the mean delay
    lesions : how many the mask holds, ``lesion_volume`` their mL; 0 without a mask
    """

    kind: str
    channels: int
    located: str
    recording_checks: tuple[Check, ...]
    predicted: Mapping[str, Float[np.ndarray, " draw"]]
    tracts: Int[np.ndarray, "tract 2"]
    tract_fractions: Float[np.ndarray, " tract"]
    tract_delays: Float[np.ndarray, "tract draw"]
    lesions: int
    lesion_volume: float

    @property
    def gamma_known(self) -> bool:
        """Whether the recording, and not the prior alone, says how much lesions delay."""
        return "gamma" in self.draws and self.diagnostics("gamma").identifiable


# code: (label, UCUM unit)
PREDICTED = {
    "mean-delay": ("Mean conduction delay over all connections", "ms"),
    "lesion-delay": ("Part of it that lesions add", "ms"),
    "alpha-peak": ("Peak of the model's median region, 5 to 15 Hz", "Hz"),
    "alpha-frequency": ("Alpha gravity frequency of the median region, 5 to 15 Hz", "Hz"),
    "alpha-frequency-change": ("Change of the gravity frequency by the lesions", "Hz"),
    "alpha-share": ("Power from 8 to 13 Hz as a part of that from 2 to 41 Hz", "%"),
    "alpha-share-change": ("Change of that part by the lesions", "%"),
}


def calibrate(
    connectome: Connectome,
    recordings: Recordings,
    /,
    *,
    rng_seed: int,
    progress: Progress,
    checkpoint: Checkpoint | None = None,
) -> ConductionCalibration:
    """Conduction velocity, coupling and rhythm from resting MEG, else EEG; with a lesion mask how much lesions delay.

    The full cross-spectrum first. Where it could not be searched or sampled, each direction's power alone, and the
    report says so; where the recording itself speaks against it (`powers_may_stand_in`), its refusal stands.

    Raises
    ------
    Rejected
        ``no-resting-eeg-or-meg``, ``connectome-isolated-regions``, ``lesions-of-another-connectome``, and what
        `require_usable`, `sensor_view` and `calibrate_delayed_spectrum` refuse
    """
    recording = recordings.meg or recordings.eeg
    if recording is None:
        raise Rejected(
            "no-resting-eeg-or-meg",
            rule="conduction is inferred from a resting EEG or MEG",
            got="neither",
            action="attach a resting EEG or MEG to the case",
        )
    used = _joined_regions(connectome)
    lesioned = _lesion_fraction(connectome, recordings.lesions)
    flagged = require_usable(recording)
    usable = without(recording, flagged)
    # A region without a connection would ring at its own frequency in the model, and outshine all others.
    view = sensor_view(usable, connectome, np.setdiff1d(np.arange(len(connectome.region_labels)), used))
    square = np.ix_(used, used)
    labels = tuple(connectome.region_labels[i] for i in used)
    wiring = Wiring.of(connectome.weights[square], connectome.tract_lengths[square], lesioned[square])
    found = _inferred(wiring, view, usable.sampling_rate, used, labels, rng_seed, progress, checkpoint)
    predicted = predict(found, wiring, progress) if found.sound else _no_predictions()
    tracts, fractions, delays = _delayed_tracts(found, wiring)
    lesions = recordings.lesions
    return ConductionCalibration(
        **{field.name: getattr(found, field.name) for field in dataclasses.fields(SpectralCalibration)}
        | {"used_regions": used},
        kind=recording.kind,
        channels=len(view.channels),
        located=view.located,
        recording_checks=_checks(recording, flagged, len(connectome.weights) - len(used), lesions),
        predicted=predicted,
        tracts=tracts,
        tract_fractions=fractions,
        tract_delays=delays,
        lesions=lesions.lesions if lesions else 0,
        lesion_volume=lesions.volume_ml if lesions else 0.0,
    )


def wiring_of(connectome: Connectome, recordings: Recordings, calibration: ConductionCalibration) -> Wiring:
    """The network that a calibration belongs to."""
    square = np.ix_(calibration.used_regions, calibration.used_regions)
    lesioned = _lesion_fraction(connectome, recordings.lesions)
    return Wiring.of(connectome.weights[square], connectome.tract_lengths[square], lesioned[square])


def conductions(calibration: SpectralCalibration, count: int) -> tuple[Int[np.ndarray, " draw"], list[Conduction]]:
    """Draws spread evenly over the chains: their indices, chains joined end to end, and their parameters."""
    flat = {name: np.ravel(calibration.draws[name]) for name in ("velocity", "coupling", "frequency", "decay")}
    flat["gamma"] = np.ravel(calibration.draws["gamma"]) if "gamma" in calibration.draws else 0.0 * flat["velocity"]
    size = flat["velocity"].size
    chosen = np.linspace(0, size - 1, min(count, size)).round().astype(np.int64)
    return chosen, [Conduction(**{name: float(values[i]) for name, values in flat.items()}) for i in chosen]


@one_blas_thread
def predict(
    calibration: SpectralCalibration, wiring: Wiring, progress: Progress
) -> dict[str, Float[np.ndarray, " draw"]]:
    """`PREDICTED` over draws: delays over all of them, the rhythm over `DRAWS`."""
    _, everywhere = conductions(calibration, 10**9)
    plain = np.array([wiring.mean(wiring.tract_lengths) / draw.velocity for draw in everywhere])
    met = wiring.mean(wiring.tract_lengths * wiring.lesioned)
    extra = np.array([met / draw.velocity * draw.gamma for draw in everywhere])
    healthy = dataclasses.replace(wiring, lesioned=np.zeros(wiring.lesioned.shape))
    peaks, centres, shares = [], [], []
    chosen = conductions(calibration, DRAWS)[1]
    for number, draw in enumerate(chosen):
        with_lesions, without = wiring.rhythm(draw), healthy.rhythm(draw)
        peaks.append(with_lesions.peak)
        centres.append((with_lesions.centre, with_lesions.centre - without.centre))
        shares.append((100.0 * with_lesions.alpha_share, 100.0 * (with_lesions.alpha_share - without.alpha_share)))
        progress("predicting the alpha rhythm", _SHARE + (1.0 - _SHARE) * (number + 1) / len(chosen))
    return {
        "mean-delay": plain + extra,
        "lesion-delay": extra,
        "alpha-peak": np.array(peaks),
        "alpha-frequency": np.array(centres)[:, 0],
        "alpha-frequency-change": np.array(centres)[:, 1],
        "alpha-share": np.array(shares)[:, 0],
        "alpha-share-change": np.array(shares)[:, 1],
    }


def _inferred(
    wiring: Wiring,
    view: SensorView,
    sampling_rate: float,
    used: Int[np.ndarray, " region"],
    labels: tuple[str, ...],
    rng_seed: int,
    progress: Progress,
    checkpoint: Checkpoint | None,
) -> SpectralCalibration:
    def run(likelihood: Literal["cross-spectrum", "power"], begin: float, end: float) -> SpectralCalibration:
        return calibrate_delayed_spectrum(
            wiring.weights,
            wiring.tract_lengths,
            view.signals,
            sampling_rate,
            gain=view.gain[:, used],
            lesion_fraction=wiring.lesioned if wiring.lesioned.any() else None,
            region_labels=labels,
            rng_seed=rng_seed,
            progress=lambda message, part: progress(message, begin + (end - begin) * part),
            checkpoint=None if checkpoint is None else Within(checkpoint, f"{likelihood}."),
            likelihood=likelihood,
        )

    full = run("cross-spectrum", 0.0, _FIRST)
    if full.sound or not powers_may_stand_in(full):
        return full
    powers = run("power", _FIRST, _SHARE)
    if not powers.sound:
        return full
    why = f"the cross-spectrum did not pass the checks ({'; '.join(full.reasons)}); powers alone were used"
    return dataclasses.replace(powers, warnings=(*powers.warnings, why))


def powers_may_stand_in(full: SpectralCalibration) -> bool:
    """Whether an unsound cross-spectrum failed by search, sampler or surrogate alone.

    Powers cannot see what it is that the cross-spectrum missed: channels without any coherence have powers that fit a
    velocity. A model that does not explain the cross-spectrum, or a velocity that it does not identify, is a result.
    """
    return full.fit.explained and full.diagnostics("velocity").identifiable


def _joined_regions(connectome: Connectome) -> Int[np.ndarray, " region"]:
    """Regions with a connection."""
    strength = connectome.weights.sum(axis=0) + connectome.weights.sum(axis=1)
    used = np.flatnonzero(strength > 0).astype(np.int64)
    isolated = len(strength) - len(used)
    if isolated > MOST_ISOLATED * len(strength):
        raise Rejected(
            "connectome-isolated-regions",
            rule=f"at most {MOST_ISOLATED:.0%} of the regions are without a connection",
            got=f"{isolated} of {len(strength)}",
            action="check the diffusion series; build the connectome again",
        )
    return used


def _lesion_fraction(connectome: Connectome, lesions: LesionedTracts | None) -> Float[np.ndarray, "region region"]:
    if lesions is None:
        return np.zeros(connectome.weights.shape)
    if lesions.region_labels != connectome.region_labels:
        raise Rejected(
            "lesions-of-another-connectome",
            rule="lesions are counted on the tracts of the same connectome",
            got="other regions",
            action="attach the lesion mask again",
        )
    return lesions.fraction


def _no_predictions() -> dict[str, Float[np.ndarray, " draw"]]:
    return {name: np.zeros(0) for name in PREDICTED}


def _delayed_tracts(
    calibration: SpectralCalibration, wiring: Wiring
) -> tuple[Int[np.ndarray, "tract 2"], Float[np.ndarray, " tract"], Float[np.ndarray, "tract draw"]]:
    """Tracts by the length that lesions meet, to which the extra delay is proportional in every draw."""
    both = np.triu(wiring.tract_lengths * wiring.lesioned * (wiring.weights > 0), 1)
    order = np.argsort(-both, axis=None, kind="stable")[:TRACTS]
    order = order[both.ravel()[order] > 0]
    one, two = np.unravel_index(order, both.shape)
    per_length = np.zeros(0)
    if calibration.sound:
        per_length = np.array([draw.gamma / draw.velocity for draw in conductions(calibration, 10**9)[1]])
    delays = np.outer(both[one, two], per_length)
    return np.stack([one, two], axis=1).astype(np.int64), wiring.lesioned[one, two], delays


def _checks(
    recording: SensorRecording, flagged: tuple[ChannelCheck, ...], isolated: int, lesions: LesionedTracts | None
) -> tuple[Check, ...]:
    seconds = len(recording.signals) / recording.sampling_rate
    checks = [
        Check(code="recording-length", label="Length of the recording (s)", value=seconds, limit="≥ 60", passed=True),
        Check(
            code="isolated-regions",
            label="Regions without a connection, left out",
            value=float(isolated),
            limit="≤ 0",
            passed=isolated == 0,
        ),
    ]
    if lesions is not None:
        met = float(lesions.fraction.max())
        label = "Largest share of a tract that lesions meet"
        checks.append(Check(code="lesions-on-tracts", label=label, value=met, limit="> 0", passed=met > 0.0))
    return (
        *checks,
        *(
            Check(code=check.code, label=check.label, value=check.value, limit=check.limit, passed=check.passed)
            for check in flagged
        ),
    )
