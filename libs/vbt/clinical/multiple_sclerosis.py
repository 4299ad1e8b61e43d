"""The conduction twin: how fast signals travel between regions, what lesions add, what years may bring."""

from __future__ import annotations

from vbt.clinical._multiple_sclerosis_calibration import ConductionCalibration as ConductionCalibration
from vbt.clinical._multiple_sclerosis_calibration import calibrate as calibrate
from vbt.clinical._multiple_sclerosis_findings import NAME as NAME
from vbt.clinical._multiple_sclerosis_findings import findings as findings
from vbt.clinical._multiple_sclerosis_pictures import pictures as pictures
from vbt.clinical._multiple_sclerosis_progression import NO_THERAPY as NO_THERAPY
from vbt.clinical._multiple_sclerosis_progression import THERAPIES as THERAPIES
from vbt.clinical._multiple_sclerosis_progression import RatePriors as RatePriors
from vbt.clinical._multiple_sclerosis_progression import Therapy as Therapy
from vbt.clinical._multiple_sclerosis_scenarios import ConductionRun as ConductionRun
from vbt.clinical._multiple_sclerosis_scenarios import run_scenarios as run_scenarios
from vbt.clinical.application import Application

APPLICATION = Application(
    name=NAME,
    title="Multiple sclerosis",
    needs="a resting EEG or MEG, and a lesion mask to tell what lesions delay",
    credibility=NAME,
    calibration=ConductionCalibration,
    scenarios=ConductionRun,
    calibrate=calibrate,
    run_scenarios=run_scenarios,
    findings=findings,
    pictures=pictures,
    requires=(("eeg", "meg"),),
)
