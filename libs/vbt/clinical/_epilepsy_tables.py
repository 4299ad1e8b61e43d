"""What the report says of every region and of every resection, each number with its interval, or why it has none."""

from __future__ import annotations

import math

import numpy as np
import scipy.stats
from jaxtyping import Bool, Float

from vbt.clinical._epilepsy_gain import SHARE, largest_share
from vbt.clinical._epilepsy_rest import isolated_threshold
from vbt.clinical._epilepsy_scenarios import SeizureScenarios
from vbt.clinical._epilepsy_seen import seen
from vbt.clinical.findings import Quantity, Row, Table
from vbt.inference import SeizureCalibration

LEVEL = 0.90
_REGIONS = 15  # rows; those that follow do not seize
_MAJORITY = 0.5
_FEWEST_ONSETS = 20  # draws behind an interval of an onset


def fraction(code: str, label: str, hits: Bool[np.ndarray, " draw"]) -> Quantity:
    """A posterior probability as the fraction of draws; it has no credible interval, only an error of simulation."""
    return Quantity(code=code, label=label, unit="1", value=float(hits.mean()), level=LEVEL)


def monte_carlo_error(draws: int) -> float:
    """The largest standard error of a fraction of so many independent draws."""
    return 0.5 / math.sqrt(draws)


def spread_of(code: str, label: str, unit: str, values: Float[np.ndarray, " draw"]) -> Quantity:
    """Posterior median and equal-tailed interval."""
    low, median, high = np.quantile(values, [0.5 * (1 - LEVEL), 0.5, 0.5 * (1 + LEVEL)])
    return Quantity(
        code=code, label=label, unit=unit, value=float(median), low=float(low), high=float(high), level=LEVEL
    )


def withheld(code: str, label: str, unit: str, why: str) -> Quantity:
    return Quantity(code=code, label=label, unit=unit, withheld=why, level=LEVEL)


def epileptogenicity(calibration: SeizureCalibration) -> Float[np.ndarray, " region"]:
    """P(region seizes in the recorded seizure | recording): the epileptogenicity value."""
    return np.asarray(np.isfinite(calibration.onset).mean(axis=0))


def starts_alone(calibration: SeizureCalibration, run: SeizureScenarios | None) -> Float[np.ndarray, " region"]:
    """P(excitability above the threshold), the network's where it was computed and the isolated one otherwise."""
    eta = calibration.draws["eta"].reshape(-1, len(calibration.region_labels))
    if run is None:
        return np.asarray((eta > isolated_threshold()).mean(axis=0))
    return np.asarray((eta[run.draws] > run.thresholds).mean(axis=0))


def ranked_regions(calibration: SeizureCalibration, run: SeizureScenarios | None) -> list[int]:
    """Seen regions, the most epileptogenic first: by EV, then by onset, then by excitability."""
    value, starts = epileptogenicity(calibration), starts_alone(calibration, run)
    first = _first_onsets(calibration)
    eta = np.median(calibration.draws["eta"], axis=(0, 1))
    order = np.lexsort((-eta, first, -starts, -value))
    informed = seen(calibration)
    return [int(region) for region in order if informed[region]]


def region_table(calibration: SeizureCalibration, run: SeizureScenarios | None) -> Table:
    """Epileptogenicity, onset, delay and excitability of the regions that the implantation sees."""
    ranked = ranked_regions(calibration, run)[:_REGIONS]
    starts, onsets = starts_alone(calibration, run), _first_onsets(calibration)
    places = scipy.stats.rankdata(onsets, method="min")
    rows = tuple(
        Row(
            label=calibration.region_labels[region],
            quantities=_region_quantities(calibration, region),
            flag=_flag(int(places[region]) if np.isfinite(onsets[region]) else None, starts[region] >= _MAJORITY),
        )
        for region in ranked
    )
    return Table(code="epileptogenicity", label="Epileptogenicity of the regions seen", heading="Region", rows=rows)


def coverage_table(calibration: SeizureCalibration) -> Table | None:
    """Regions about which this implantation says nothing; None where it sees all."""
    unseen = np.flatnonzero(~seen(calibration))
    share = largest_share(calibration.gain)
    rows = tuple(
        Row(
            label=calibration.region_labels[region],
            quantities=(
                _plain(f"shrinkage-{_slug(calibration, region)}", "Shrinkage", calibration.shrinkage[region]),
                _plain(f"share-{_slug(calibration, region)}", "Largest share of a sensor's gain", share[region]),
            ),
            flag="hidden behind other regions" if share[region] < SHARE else "not informed by this seizure",
        )
        for region in unseen[np.argsort(calibration.shrinkage[unseen], kind="stable")]
    )
    label = "Not identifiable from this implantation"
    return Table(code="coverage", label=label, heading="Region", rows=rows) if rows else None


def resection_table(run: SeizureScenarios) -> Table:
    """Searched sets, the best by draws that are not behind these numbers first, and the clinician's."""
    listed = [*run.of("searched"), *run.of("clinician")]
    rows = tuple(
        Row(
            label=run.name(index),
            quantities=resection_quantities(run, index, f"resection-{place}"),
            flag="clinician's set" if run.resections[index].origin == "clinician" else "",
        )
        for place, index in enumerate(listed, start=1)
    )
    return Table(code="resections", label="Virtual resections", heading="Regions removed", rows=rows)


def resection_quantities(run: SeizureScenarios, index: int, prefix: str) -> tuple[Quantity, ...]:
    """Seizure freedom, spread, reserve and volume of one resection."""
    reserve = run.reserve[index]
    volume = run.volume(index)
    return (
        fraction(f"{prefix}-seizure-freedom", "Probability of no seizure in the model", run.spread[index] == 0),
        spread_of(f"{prefix}-spread", "Regions that still seize", "{count}", run.spread[index].astype(float)),
        spread_of(f"{prefix}-reserve", "Reserve of excitability before seizures return", "1", reserve)
        if np.isfinite(reserve).all()
        else withheld(f"{prefix}-reserve", "Reserve of excitability", "1", "not computed for random sets"),
        Quantity(code=f"{prefix}-volume", label="Volume removed", unit="cm3", value=volume, level=LEVEL),
    )


def _region_quantities(calibration: SeizureCalibration, region: int) -> tuple[Quantity, ...]:
    slug = _slug(calibration, region)
    onset = calibration.onset[:, region]
    seizes = np.isfinite(onset)
    delay = (onset - np.nanmin(np.where(np.isfinite(calibration.onset), calibration.onset, np.inf), axis=1))[seizes]
    often = seizes.mean() >= _MAJORITY and seizes.sum() >= _FEWEST_ONSETS
    rarely = f"seizes in {seizes.mean():.0%} of the draws only"
    onset_label, delay_label = "Onset, from the beginning of the analysed piece", "Delay behind the first region"
    eta = calibration.draws["eta"][..., region].ravel()
    return (
        fraction(f"epileptogenicity-{slug}", "Epileptogenicity value", seizes),
        spread_of(f"onset-{slug}", onset_label, "s", onset[seizes])
        if often
        else withheld(f"onset-{slug}", onset_label, "s", rarely),
        spread_of(f"delay-{slug}", delay_label, "s", delay)
        if often
        else withheld(f"delay-{slug}", delay_label, "s", rarely),
        spread_of(f"excitability-{slug}", "Excitability η", "1", eta),
    )


def _flag(place: int | None, starts: bool) -> str:
    """Order of onset among all regions, and whether the region needs others to seize."""
    if place is None:
        return "starts seizures by itself" if starts else ""
    return f"no. {place} to seize, " + ("starts seizures by itself" if starts else "recruited by others")


def _first_onsets(calibration: SeizureCalibration) -> Float[np.ndarray, " region"]:
    """Median onset of each region, infinite where it does not seize in half of the draws."""
    onset = np.where(np.isfinite(calibration.onset), calibration.onset, np.inf)
    return np.asarray(np.sort(onset, axis=0)[len(onset) // 2])


def _plain(code: str, label: str, value: float) -> Quantity:
    return Quantity(code=code, label=label, unit="1", value=float(value), level=LEVEL)


def _slug(calibration: SeizureCalibration, region: int) -> str:
    return calibration.region_labels[region].replace(".", "-").replace("_", "-")
