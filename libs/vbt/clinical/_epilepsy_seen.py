"""What one seizure seen by one implantation says enough about for a number: which regions, and whether the coupling."""

from __future__ import annotations

import numpy as np
import scipy.stats
from jaxtyping import Bool

from vbt.clinical._epilepsy_gain import hidden
from vbt.clinical._epilepsy_rest import isolated_threshold
from vbt.inference import SeizureCalibration


def seen(calibration: SeizureCalibration) -> Bool[np.ndarray, " region"]:
    """Regions that the recording informs and that some channel sees.

    Shrinkage alone does not do: that a region does not seize cuts the upper end off its prior, which is a shrinkage of
    about 0.4 without a contact near it.
    """
    return np.asarray(calibration.identifiable_regions & ~hidden(calibration.gain))


def shrinkage_of_silence(calibration: SeizureCalibration) -> float:
    """Shrinkage of a region of which nothing is known but that it starts no seizure by itself."""
    _, mean, scale = calibration.priors["eta"]
    limit = (isolated_threshold() - mean) / scale
    return float(1.0 - scipy.stats.truncnorm.var(-np.inf, limit))


def prior_of_onset(calibration: SeizureCalibration) -> float:
    """Probability, before the recording, that a region starts seizures by itself."""
    _, mean, scale = calibration.priors["eta"]
    return float(scipy.stats.norm.sf(isolated_threshold(), mean, scale))


def coupling_unknown(calibration: SeizureCalibration) -> str:
    """Why nothing that follows from the coupling of the network may be reported; empty where the coupling is known."""
    diagnostics = calibration.diagnostics("K")
    if diagnostics.identifiable:
        return ""
    return f"coupling K not identifiable from this recording (shrinkage {diagnostics.shrinkage:.2f}, limit 0.30)"
