"""What the epileptic twin tells the clinician: where seizures may start, and what removing that does in the model."""

from __future__ import annotations

import numpy as np

from vbt.clinical._epilepsy_gain import SHARE
from vbt.clinical._epilepsy_resections import RegionSet
from vbt.clinical._epilepsy_rest import isolated_threshold
from vbt.clinical._epilepsy_scenarios import RANDOM_SETS, SUSPECTS, SeizureScenarios
from vbt.clinical._epilepsy_seen import coupling_unknown, prior_of_onset, seen, shrinkage_of_silence
from vbt.clinical._epilepsy_stimulation import RESERVE, TRAINS
from vbt.clinical._epilepsy_tables import (
    LEVEL,
    coverage_table,
    epileptogenicity,
    fraction,
    monte_carlo_error,
    ranked_regions,
    region_table,
    resection_quantities,
    resection_table,
    spread_of,
    starts_alone,
    withheld,
)
from vbt.clinical.findings import Check, Quantity, Scenario, Table, TwinFindings
from vbt.inference import SeizureCalibration, gate_checks
from vbt.simulation import Epileptor2D

NAME = "epilepsy"
_SEIZES = 0.5  # of the draws: below, the untouched twin does not seize and a resection has nothing to prevent
_NAMED = 3  # regions in the conclusion
_FEWEST_SEEN = 0.5
# Units of model time, of an isolated region with an excitability of -1.9 to -1.6.
_BURST, _RECURS = (4.6, 5.8), (12.3, 14.0)
_RESERVE = (
    "network-reserve", "Excitability that the network could gain before it loses its rest; negative where it has none",
    "1",
)  # fmt: skip
_EIGENVALUE = ("critical-eigenvalue", "Growth of the network's fastest disturbance, per unit of model time", "1")


def findings(quality: tuple[Check, ...], calibration: SeizureCalibration, run: SeizureScenarios | None) -> TwinFindings:
    """The report's content. An unsound calibration gives reasons in place of numbers, and no tables.

    Parameters
    ----------
    quality : checks of the input and of the connectome, passed through
    run : None where no scenarios were run; left out where the calibration is unsound or leaves the coupling open
    """
    unknown = coupling_unknown(calibration) if calibration.sound else ""
    run = run if calibration.sound and not unknown else None
    return TwinFindings(
        application=NAME,
        context_of_use=(
            "Research use only: hypotheses from one recorded seizure about which regions start seizures, for "
            "discussion by an epilepsy team beside all other evidence. It recommends no surgery and no treatment."
        ),
        verdict=calibration.verdict,
        conclusion=_conclusion(calibration, run),
        parameters=_parameters(calibration, run, unknown),
        tables=_tables(calibration, run),
        scenarios=_unknown(unknown) if unknown else _scenarios(run) if run is not None else (),
        quality=(*quality, *_checks(calibration)),
        methods=_methods(calibration, run),
        limits=_limits(calibration),
        evidence=(
            "None in patients. Checked against closed forms and on synthetic seizures with known onset zones only; "
            "no outcome of surgery has been compared with this model."
        ),
        level=LEVEL,
    )


def seizes(run: SeizureScenarios) -> bool:
    """Whether the untouched twin seizes in most draws, so that a resection has something to prevent."""
    return run.free(0) <= _SEIZES


def _conclusion(calibration: SeizureCalibration, run: SeizureScenarios | None) -> str:
    if not calibration.sound:
        return f"No twin is reported: {'; '.join(calibration.reasons)}."
    unseen = int((~seen(calibration)).sum())
    starts = starts_alone(calibration, run)
    alone = [region for region in ranked_regions(calibration, run) if starts[region] >= 0.5]
    named = ", ".join(calibration.region_labels[region] for region in alone[:_NAMED])
    more = f" and {len(alone) - _NAMED} more" if len(alone) > _NAMED else ""
    if alone:
        text = f"In the model, seizures start in {named}{more}; {_count(calibration)} in the recorded seizure."
    else:
        text = f"In the model no region starts seizures by itself; {_count(calibration)} in the recorded seizure."
    if run is not None and seizes(run) and run.of("searched"):
        best = run.of("searched")[0]
        text += f" The model stays free of seizures in {run.free(best):.0%} of its draws without {run.name(best)}"
        text += f", and in {_random_mean(run, best):.0%} without as many random regions." if _rivals(run, best) else "."
    elif run is not None and not seizes(run):
        text += " Left alone the model seldom seizes, so that it says nothing of resections."
    elif run is None and coupling_unknown(calibration):
        text += " It says nothing of resections, since this recording does not tell how strongly regions are coupled."
    if unseen:
        text += (
            f" This implantation says nothing about {unseen} of {len(calibration.region_labels)} regions; "
            "seizures may start there."
        )
    return f"{text} This is a hypothesis, not advice."


def _count(calibration: SeizureCalibration) -> str:
    number = int((epileptogenicity(calibration)[seen(calibration)] >= 0.5).sum())
    return "one region takes part" if number == 1 else f"{number} regions take part"


def _parameters(calibration: SeizureCalibration, run: SeizureScenarios | None, unknown: str) -> tuple[Quantity, ...]:
    coupling = _coupling(calibration)
    if unknown:
        return (coupling, withheld(*_RESERVE, unknown), withheld(*_EIGENVALUE, unknown))
    if run is None:
        return (coupling,)
    return (coupling, spread_of(*_RESERVE, run.reserve[0]), spread_of(*_EIGENVALUE, run.leading))


def _coupling(calibration: SeizureCalibration) -> Quantity:
    code, label = "permittivity-coupling", "Coupling K: how strongly a seizing neighbour recruits"
    diagnostics = calibration.diagnostics("K")
    if not calibration.sound:
        return withheld(code, label, "1", "the calibration did not pass its checks")
    if why := coupling_unknown(calibration):
        return withheld(code, label, "1", why)
    median, low, high = calibration.interval("K", LEVEL)
    return Quantity(
        code=code, label=label, unit="1", value=median, low=low, high=high, level=LEVEL,
        r_hat=diagnostics.r_hat, ess=diagnostics.ess_bulk,
    )  # fmt: skip


def _tables(calibration: SeizureCalibration, run: SeizureScenarios | None) -> tuple[Table, ...]:
    if not calibration.sound:
        return ()
    tables = [region_table(calibration, run)]
    if run is not None and seizes(run):
        tables.append(resection_table(run))
    coverage = coverage_table(calibration)
    return (*tables, coverage) if coverage else tuple(tables)


def _unknown(why: str) -> tuple[Scenario, ...]:
    """All that follows from the coupling, without numbers."""
    free, provokes = "Probability of no seizure in the model", "Probability that stimulation provokes a seizure"
    kinds = (
        ("untouched", "No intervention", "untouched-seizure-freedom", free),
        ("resection", "Resections", "resection-seizure-freedom", free),
        ("stimulation", "Stimulation", "stimulation-provocation", provokes),
    )
    return tuple(
        Scenario(code=code, label=label, description="Not reported.", endpoints=(withheld(key, said, "1", why),))
        for code, label, key, said in kinds
    )


def _scenarios(run: SeizureScenarios) -> tuple[Scenario, ...]:
    untouched = Scenario(
        code="untouched",
        label="No intervention",
        description="The twin as calibrated, from the quiet time after a seizure on.",
        endpoints=resection_quantities(run, 0, "untouched")[:3],
    )
    if not seizes(run):
        why = f"the untouched twin seizes in {1.0 - run.free(0):.0%} of its draws only"
        nothing = withheld("resection-seizure-freedom", "Probability of no seizure in the model", "1", why)
        kept = Scenario(code="resection", label="Resections", description="Not reported.", endpoints=(nothing,))
        return (untouched, kept, *_stimulations(run))
    best, planned = run.of("searched")[:1], run.of("clinician")[:1]
    return (
        untouched,
        *(_resected(run, index, "best-resection", "Best set found") for index in best),
        *(_resected(run, index, "planned-resection", "Planned set") for index in planned),
        *_stimulations(run),
    )


def _resected(run: SeizureScenarios, index: int, code: str, label: str) -> Scenario:
    free = run.spread[index] == 0
    rivals = _rivals(run, index)
    better = np.array([run.free(rival) >= free.mean() for rival in rivals])
    as_good = f"{code}-random-as-good", "Random sets of as many regions that do at least as well"
    return Scenario(
        code=code,
        label=f"{label}: {run.name(index)}",
        description=(
            f"{run.name(index)} removed from the network with all connections ({run.volume(index):.0f} cm³); "
            "a property of the model, not a forecast of an operation."
        ),
        endpoints=(
            *resection_quantities(run, index, code),
            fraction(*as_good, better) if len(better) else withheld(*as_good, "1", "no other sets of this size"),
        ),
    )


def _stimulations(run: SeizureScenarios) -> tuple[Scenario, ...]:
    found = []
    for place, region in enumerate(run.stimulated):
        label = run.region_labels[region]
        found.append(
            Scenario(
                code=f"stimulation-{place + 1}",
                label=f"Hypothesis: SEEG pulses in {label}",
                description=(
                    f"Pulses of 1 ms into {label} of the twin between seizures. Their effect on a region is assumed, "
                    "not measured, and cannot be converted to a current."
                ),
                endpoints=tuple(
                    fraction(
                        f"stimulation-{place + 1}-{frequency:g}-hz",
                        f"Probability that {frequency:g} Hz for {seconds:g} s provokes a seizure in the model",
                        run.provoked[train, place],
                    )
                    for train, (frequency, seconds) in enumerate(TRAINS.items())
                ),
            )
        )
    return tuple(found)


def _rivals(run: SeizureScenarios, index: int) -> list[int]:
    size = len(run.resections[index].regions)
    return [rival for rival in run.of("random") if len(run.resections[rival].regions) == size]


def _random_mean(run: SeizureScenarios, index: int) -> float:
    return float(np.mean([run.free(rival) for rival in _rivals(run, index)]))


def _checks(calibration: SeizureCalibration) -> tuple[Check, ...]:
    informed = float(seen(calibration).mean())
    coverage = Check(
        code="regions-seen",
        label="Regions that this implantation informs",
        value=informed,
        limit=f"≥ {_FEWEST_SEEN}",
        passed=informed >= _FEWEST_SEEN,
    )
    held = [
        Check(code=one.code, label=one.label, value=one.value, limit=one.limit, passed=one.passed)
        for one in gate_checks(calibration)
        if np.isfinite(one.value)
    ]
    return (coverage, *held)


def _methods(calibration: SeizureCalibration, run: SeizureScenarios | None) -> tuple[str, ...]:
    sampler = calibration.sampler
    _, mean, scale = calibration.priors["eta"]
    sentences = [
        f"Feature: natural log of the power from 10 to 110 Hz of {len(calibration.sensor_labels)} bipolar SEEG "
        f"channels, smoothed, {len(calibration.observed)} samples.",
        "Model: two-dimensional Epileptors coupled by the patient's connectome through their permittivity; each "
        "channel sees every region by the inverse square of its distance, summed over the region's voxels.",
        "Inferred: excitability and initial state of every region, the coupling K, amplitude, level and noise.",
        f"Epileptogenicity value: fraction of {len(calibration.onset)} posterior draws in which the region seizes "
        f"within the recording. {_error(len(calibration.onset))}",
        f"An isolated region starts seizures above an excitability of {isolated_threshold():.3f}; in the network "
        "neighbours at rest hold it back, and "
        + ("each region is held to its own threshold there." if run is not None else "this was not computed here."),
        f"Before the recording every region has a probability of {prior_of_onset(calibration):.1%} to be above the "
        f"isolated one: its prior is normal with mean {mean:g} and standard deviation {scale:g}.",
        f"A region is informed where its shrinkage is 0.3 or more and it has at least {SHARE:.0%} of "
        f"some channel's gain. Without the second a region that nobody sees would reach "
        f"{shrinkage_of_silence(calibration):.2f} by not starting seizures alone.",
    ]
    if sampler is not None:
        sentences.append(f"Sampler: NumPyro NUTS, {sampler.draws} draws from separate searches for the mode.")
    if run is not None:
        sentences += [
            f"Resections: the twin runs from the quiet time after a seizure with {len(run.draws)} posterior draws; all "
            f"single regions and pairs of the {SUSPECTS} most suspect were tried, then larger sets grown from the best "
            f"({run.searched} sets). Sets were found and ranked by {len(run.choosing)} other draws, so that the best "
            f"one's numbers are not those that chose it. Up to {RANDOM_SETS} random sets of as many regions stand "
            "beside it, of the regions that could have been proposed: those that the implantation informs, save deep "
            "grey nuclei and the brainstem. A planned set may hold any region.",
            f"Probabilities of scenarios are fractions of these draws. {_error(len(run.draws))}",
            f"Stimulation: the twin between seizures is the calibrated one with all excitabilities lowered until its "
            f"rest has a reserve of {RESERVE:g}, an assumption.",
        ]
        if run.unseen.any():
            sentences.append(
                f"Scenarios take the {int(run.unseen.sum())} regions that the implantation does not inform not to "
                "start seizures on their own."
            )
    return tuple(sentences)


def _error(draws: int) -> str:
    return (
        "A probability is itself what the posterior says, so that it has no credible interval; the Monte Carlo error "
        f"of {draws} draws is {monte_carlo_error(draws):.2f} at most (standard error of independent draws)."
    )


def _limits(calibration: SeizureCalibration) -> tuple[str, ...]:
    unseen: RegionSet = tuple(int(region) for region in np.flatnonzero(~seen(calibration)))
    unit = calibration.seconds_per_unit
    coverage = (
        (
            f"{len(unseen)} regions are not identifiable from this implantation. Scenarios, and they alone, take them "
            "to start no seizures; epileptogenicity, onset, excitability and coupling are averaged over all that the "
            "prior allows there.",
        )
        if unseen
        else ()
    )
    return (
        "Research use only; not a medical device. No result here has been compared with an outcome in patients.",
        *coverage,
        "Intervals hold what the recording leaves open if the model, the connectome and the places of the electrodes "
        "are right; errors of these are not in them. A probability of 1 is certainty about the model only.",
        f"The time scale is fixed, not inferred: {unit:g} s per unit of model time and τ₀ = {Epileptor2D().tau0:g}. A "
        f"region that seizes by itself does so in bursts of {_BURST[0] * unit:.0f} to {_BURST[1] * unit:.0f} s that "
        f"recur every {_RECURS[0] * unit:.0f} to {_RECURS[1] * unit:.0f} s; a discharge sustained over a minute is "
        "outside the model.",
        "Channels are taken as independent of each other; neighbouring bipolar pairs share a contact and are not, so "
        "that intervals may be too narrow.",
        "The searches for the mode start from variants of one trajectory that is derived from the channels; that they "
        "agree does not show that no other explanation of the recording exists.",
        "One seizure was used; seizures of another kind may start elsewhere.",
        "Regions are those of an atlas, larger than what is removed in surgery, and are removed whole.",
        "Which regions carry language, movement or memory is not known to the model.",
        "The model is deterministic and does not change after a resection; the brain's adaptation is not in it.",
        "Field strengths of stimulation are assumed; probabilities to provoke compare regions and predict no seizure.",
    )
