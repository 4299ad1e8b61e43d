"""The epileptic twin: a seizure seen by SEEG becomes excitabilities of regions, and hypotheses about resections."""

from __future__ import annotations

import dataclasses

import numpy as np

from vbt.clinical._epilepsy_findings import NAME as NAME
from vbt.clinical._epilepsy_findings import findings as findings
from vbt.clinical._epilepsy_gain import hidden as hidden
from vbt.clinical._epilepsy_gain import seeg_gain as seeg_gain
from vbt.clinical._epilepsy_pictures import pictures as pictures
from vbt.clinical._epilepsy_scenarios import SeizureScenarios as SeizureScenarios
from vbt.clinical._epilepsy_scenarios import require_labels
from vbt.clinical._epilepsy_scenarios import run_scenarios as run_scenarios
from vbt.clinical._epilepsy_twins import coupling_weights as coupling_weights
from vbt.clinical.application import Application, Progress, Recordings
from vbt.connectome import Connectome
from vbt.electrophysiology import Envelope, SensorRecording, bipolar, require_usable, seizure_envelope, without
from vbt.errors import Rejected
from vbt.inference import Checkpoint, SeizureCalibration, calibrate_seizure

BEFORE, AFTER = 20.0, 10.0  # s of the recording kept around a marked seizure
LONGEST = 300.0  # s; longer than a seizure with its surroundings is
# Values so far apart that the noise of one says nothing of the next one's, as the likelihood has it: on white noise
# their lag-one correlation is below 0.02, with the smoother default of `seizure_envelope` it is 0.9.
SMOOTHING, SAMPLING_RATE = 0.3, 1.0  # s, Hz


def calibrate(
    connectome: Connectome,
    recordings: Recordings,
    /,
    *,
    rng_seed: int,
    progress: Progress,
    checkpoint: Checkpoint | None,
) -> SeizureCalibration:
    """Excitability of every region from the log power of one seizure in a bipolar montage.

    Parameters
    ----------
    recordings : with ``seeg`` and ``labels``

    Raises
    ------
    Rejected
        ``no-recording`` without SEEG, ``labels-missing`` without labels, ``seizure-not-marked`` where more than five
        minutes come without marks; and what `require_usable`, `bipolar` and `seizure_envelope` refuse.
    """
    if recordings.seeg is None:
        raise Rejected(
            "no-recording",
            rule="the epileptic twin is calibrated to a seizure recorded with SEEG",
            got="a case without one",
            action="attach it with `vbt attach CASE --seeg FILE --electrodes FILE`",
        )
    labels = require_labels(recordings)
    envelope = seizure_feature(recordings.seeg, recordings)
    weights = connectome.weights
    # A region that tractography left without a connection can neither recruit nor be recruited.
    used = np.flatnonzero(weights.sum(axis=0) + weights.sum(axis=1) > 0.0)
    calibration = calibrate_seizure(
        coupling_weights(weights[np.ix_(used, used)]),
        seeg_gain(labels, len(connectome.region_labels), envelope.positions)[:, used],
        envelope.values,
        envelope.sampling_period,
        region_labels=tuple(connectome.region_labels[region] for region in used),
        sensor_labels=envelope.sensor_labels,
        rng_seed=rng_seed,
        progress=progress,
        checkpoint=checkpoint,
    )
    return dataclasses.replace(calibration, used_regions=used)


def seizure_feature(recording: SensorRecording, recordings: Recordings) -> Envelope:
    """Log power of usable bipolar channels, from shortly before the marked seizure to shortly after.

    Raises
    ------
    Rejected : see `calibrate`
    """
    checks = require_usable(recording, labels=recordings.labels)
    usable = bipolar(without(recording, checks))
    envelope = seizure_envelope(usable, smoothing=SMOOTHING, sampling_rate=SAMPLING_RATE)
    times = envelope.times
    begin = times[0] if envelope.onset is None else envelope.onset - BEFORE
    end = times[-1] if envelope.onset is None else begin + LONGEST
    end = end if envelope.offset is None else envelope.offset + AFTER
    kept = (times >= begin) & (times <= end)
    if (lasts := float(np.ptp(times[kept]))) > LONGEST:
        raise Rejected(
            "seizure-not-marked",
            rule=f"the piece of the recording with the seizure lasts {LONGEST:g} s at most",
            got=f"{lasts:.0f} s",
            action="attach a shorter piece, or mark where the seizure begins and ends in the recording's events",
        )
    return dataclasses.replace(envelope, values=envelope.values[kept], start=float(times[kept][0]))


APPLICATION = Application(
    name=NAME,
    title="Epilepsy",
    needs="diffusion MRI, T1 and a seizure recorded with SEEG",
    requires=(("seeg",),),
    credibility=NAME,
    calibration=SeizureCalibration,
    scenarios=SeizureScenarios,
    calibrate=calibrate,
    run_scenarios=run_scenarios,
    findings=findings,
    pictures=pictures,
)
