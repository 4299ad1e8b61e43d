"""The epileptic twin's scenarios, findings and pictures, on a posterior that is known."""

from __future__ import annotations

import dataclasses
from collections import Counter

import nibabel as nib
import numpy as np
import pytest

from vbt.clinical import epilepsy
from vbt.clinical._epilepsy_rest import isolated_threshold
from vbt.clinical._epilepsy_scenarios import listed
from vbt.clinical._epilepsy_seen import prior_of_onset, seen, shrinkage_of_silence
from vbt.clinical._epilepsy_tables import fraction
from vbt.clinical._epilepsy_twins import RECRUITED as RECRUITED_ABOVE
from vbt.clinical._epilepsy_twins import Twins
from vbt.clinical.application import Recordings
from vbt.clinical.credibility import credibility
from vbt.clinical.findings import TwinFindings
from vbt.connectome import Connectome
from vbt.electrophysiology import SEIZURE_OFFSET, SEIZURE_ONSET, Event, SensorRecording
from vbt.errors import Rejected, Unsound
from vbt.inference import ParameterDiagnostics, SamplerDiagnostics, SeizureCalibration
from vbt.simulation import TemporalAverage, record, simulate

LABELS = (*(f"lh.area{region}" for region in range(7)), "lh.thalamusproper")
REGIONS = len(LABELS)
ONSET, RECRUITED, UNSEEN = (1, 4), 5, 6
ETA = np.array([-3.4, -1.6, -3.4, -3.3, -1.7, -2.1, -3.4, -3.2])
CHAINS, DRAWS = 2, 20


@pytest.fixture(scope="module")
def connectome() -> Connectome:
    rng = np.random.default_rng(0)
    weights = 30.0 * rng.random((REGIONS, REGIONS))
    weights[RECRUITED, ONSET[1]] = weights[ONSET[1], RECRUITED] = 200.0
    weights = np.triu(weights, 1) + np.triu(weights, 1).T
    return Connectome(
        weights=weights,
        tract_lengths=np.where(weights > 0, 40.0, 0.0),
        region_labels=LABELS,
        centres=np.array([(8.0 * (region % 2), 8.0 * (region // 2 % 2), 8.0 * (region // 4)) for region in range(8)]),
        is_cortical=np.array([True] * 7 + [False]),
        parcellation="blocks",
    )


@pytest.fixture(scope="module")
def recordings() -> Recordings:
    """Eight cubes of 512 mm³, and contacts along a line."""
    index = np.arange(8) // 4
    voxels = 1 + index[:, None, None] + 2 * index[None, :, None] + 4 * index[None, None, :]
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = -3.0
    contacts = np.stack([np.linspace(-2.0, 10.0, 9), np.zeros(9), np.zeros(9)], axis=1)
    seeg = SensorRecording(
        kind="seeg",
        signals=np.zeros((10, 9)),
        sampling_rate=256.0,
        channel_labels=tuple(f"A{contact}" for contact in range(1, 10)),
        positions=contacts,
    )
    image = nib.Nifti1Image(voxels.astype(np.int16), affine)
    return Recordings(seeg=seeg, labels=image, resection=(LABELS[4], LABELS[0]))


@pytest.fixture(scope="module")
def calibration() -> SeizureCalibration:
    rng = np.random.default_rng(1)
    eta = ETA + 0.03 * rng.normal(size=(CHAINS, DRAWS, REGIONS))
    eta[..., UNSEEN] = rng.normal(-3.0, 1.0, (CHAINS, DRAWS))
    onset = np.full((40, REGIONS), np.nan)
    onset[:, ONSET[0]], onset[:, ONSET[1]] = 10.0 + np.arange(40) / 40, 12.0 + np.arange(40) / 40
    onset[:30, RECRUITED] = 20.0
    time = np.arange(60.0)
    fitted = np.where(time[:, None] > [10.0, 12.0, 30.0], 1.5, -0.5)
    parameter = ParameterDiagnostics(name="K", r_hat=1.001, ess_bulk=900.0, ess_tail=800.0, shrinkage=0.9)
    return SeizureCalibration(
        region_labels=LABELS,
        used_regions=np.arange(REGIONS),
        draws={"eta": eta, "K": 1.0 + 0.02 * rng.normal(size=(CHAINS, DRAWS))},
        priors={"eta": ("normal", -3.0, 1.0), "K": ("softplus-normal", 0.55, 1.0)},
        parameters=(parameter,),
        sampler=SamplerDiagnostics(divergences=0, draws=CHAINS * DRAWS, e_bfmi=0.9, saturated=0.0),
        verdict="sound",
        reasons=(),
        warnings=(),
        checks=(),
        manifest=record(
            "test", inputs={}, outputs={}, parameters={}, seeds=(0,), dt=None, precision="double", batch_shape=()
        ),
        onset=onset,
        fitted=fitted,
        observed=fitted + 0.3 * rng.normal(size=fitted.shape),
        time=time,
        sensor_labels=("A1-A2", "A2-A3", "A3-A4"),
        gain=np.array([[0.1, 9, 1, 1, 1, 1, 0.1, 1], [1, 1, 1, 1, 9, 1, 0.1, 1], [5, 1, 5, 5, 1, 9, 0.1, 5]], float),
        shrinkage=np.where(np.arange(REGIONS) == UNSEEN, 0.02, 0.95),
        seconds_per_unit=2.0,
    )


@pytest.fixture(scope="module")
def run(connectome: Connectome, recordings: Recordings, calibration: SeizureCalibration) -> epilepsy.SeizureScenarios:
    return _run(connectome, recordings, calibration)


@pytest.fixture(scope="module")
def report(calibration: SeizureCalibration, run: epilepsy.SeizureScenarios) -> TwinFindings:
    return epilepsy.findings((), calibration, run)


def _run(
    connectome: Connectome, recordings: Recordings, calibration: SeizureCalibration, draws: int = 20
) -> epilepsy.SeizureScenarios:
    return epilepsy.run_scenarios(
        connectome, recordings, calibration, rng_seed=7, duration=100.0, progress=lambda _message, _fraction: None,
        draws=draws,
    )  # fmt: skip


def _unsound(calibration: SeizureCalibration) -> SeizureCalibration:
    return dataclasses.replace(calibration, verdict="unsound", reasons=("chains disagree",))


def test_removing_the_true_onset_zone_is_found_and_beats_random_sets(run: epilepsy.SeizureScenarios) -> None:
    best = run.of("searched")[0]
    assert run.resections[best].regions == ONSET
    assert run.free(best) == 1.0
    assert run.free(0) == 0.0
    rivals = [rival for rival in run.of("random") if run.resections[rival].regions != ONSET]
    assert len(rivals) == 14  # all other pairs of the six regions that may be proposed
    assert max(run.free(rival) for rival in rivals) == 0.0


def test_random_sets_are_of_regions_that_could_have_been_proposed_and_as_many_as_the_best(
    run: epilepsy.SeizureScenarios,
) -> None:
    random = {region for index in run.of("random") for region in run.resections[index].regions}
    assert random == set(range(REGIONS)) - {UNSEEN, LABELS.index("lh.thalamusproper")}
    for best, clinician, sizes in (((1,), (), {1}), ((1,), (2, 3, 4), {1, 3}), ((1, 4), (), {2})):
        found = listed([best, (0, 1, 5)], clinician, range(6), 0)
        assert {len(one.regions) for one in found if one.origin == "random"} == sizes


def test_conclusion_without_random_sets_compares_with_none(
    calibration: SeizureCalibration, run: epilepsy.SeizureScenarios, report: TwinFindings
) -> None:
    kept = [index for index in range(len(run.resections)) if run.resections[index].origin != "random"]
    alone = dataclasses.replace(
        run, resections=tuple(run.resections[index] for index in kept), spread=run.spread[kept],
        reserve=run.reserve[kept],
    )  # fmt: skip
    told = epilepsy.findings((), calibration, alone)
    assert "nan" not in told.conclusion
    assert "without lh.area1 + lh.area4." in told.conclusion
    assert "without lh.area1 + lh.area4, and in 7% without as many random regions." in report.conclusion
    assert TwinFindings.from_json(told.to_json()) == told


def test_draws_that_choose_the_best_set_are_not_those_behind_its_number(run: epilepsy.SeizureScenarios) -> None:
    assert (len(run.draws), len(run.choosing)) == (20, 10)
    assert not set(run.draws) & set(run.choosing)
    for indices in (run.draws, run.choosing):
        assert np.ptp(np.bincount(indices // DRAWS, minlength=CHAINS)) <= 1  # both chains


def test_regions_recruited_by_the_onset_zone_seize_in_the_untouched_twin(run: epilepsy.SeizureScenarios) -> None:
    assert run.recruited[[*ONSET, RECRUITED]].tolist() == [1.0, 1.0, 1.0]
    assert run.spread[0].tolist() == [3] * 20
    onset_alone = (np.median(ETA[None] - run.thresholds, axis=0) > 0).nonzero()[0]
    assert onset_alone.tolist() == list(ONSET)


def test_volume_is_that_of_the_removed_voxels(run: epilepsy.SeizureScenarios) -> None:
    planned = run.of("clinician")[0]
    assert run.resections[planned].regions == (0, 4)
    assert run.volume(planned) == pytest.approx(2 * 0.512)


def test_every_interval_is_that_of_all_draws(
    connectome: Connectome, recordings: Recordings, calibration: SeizureCalibration
) -> None:
    found = _run(connectome, recordings, calibration, draws=26)
    assert found.reserve.shape == found.spread.shape
    assert found.leading.shape == found.draws.shape
    assert found.provoked.shape[2] == len(found.draws)


def test_reserve_is_positive_just_where_rest_is_kept(run: epilepsy.SeizureScenarios) -> None:
    named = [0, *run.of("searched"), *run.of("clinician")]
    for index in named:
        reserve, free = run.reserve[index], run.spread[index] == 0
        clear = np.abs(reserve) > 0.03
        np.testing.assert_array_equal((reserve > 0)[clear], free[: len(reserve)][clear])
    assert np.isnan(run.reserve[run.of("random")]).all()


def test_same_seed_gives_the_same_bytes_and_they_are_read_back(
    connectome: Connectome, recordings: Recordings, calibration: SeizureCalibration, run: epilepsy.SeizureScenarios
) -> None:
    content = run.to_npz()
    assert _run(connectome, recordings, calibration).to_npz() == content
    again = epilepsy.SeizureScenarios.from_npz(content)
    assert again.to_npz() == content
    assert again.resections == run.resections


def test_planned_regions_that_do_not_exist_are_refused(
    connectome: Connectome, recordings: Recordings, calibration: SeizureCalibration
) -> None:
    wrong = dataclasses.replace(recordings, resection=("lh.nowhere", LABELS[0]))
    with pytest.raises(Rejected, match="1 of 2") as refused:
        _run(connectome, wrong, calibration)
    assert refused.value.code == "resection-unknown-region"
    assert "nowhere" not in str(refused.value)


def test_unsound_calibration_runs_no_scenarios_and_reports_no_number(
    connectome: Connectome, recordings: Recordings, calibration: SeizureCalibration, run: epilepsy.SeizureScenarios
) -> None:
    unsound = _unsound(calibration)
    with pytest.raises(Unsound):
        _run(connectome, recordings, unsound)
    told = epilepsy.findings((), unsound, run)
    assert told.verdict == "unsound"
    assert "chains disagree" in told.conclusion
    assert not told.tables
    assert not told.scenarios
    assert all(quantity.withheld for quantity in told.parameters)
    drawn = list(epilepsy.pictures(connectome, recordings, unsound, None, told))
    assert [picture.name for picture in drawn] == ["connectome.png"]


def test_probability_has_no_bounds_that_would_be_read_as_a_credible_interval(report: TwinFindings) -> None:
    found = fraction("ev", "EV", np.arange(20) < 15)
    assert (found.value, found.low, found.high) == (0.75, None, None)
    shown = [
        *(quantity for table in report.tables for row in table.rows for quantity in row.quantities),
        *(quantity for scenario in report.scenarios for quantity in scenario.endpoints),
    ]
    words = ("Probability", "Epileptogenicity value", "Random sets")
    probabilities = [quantity for quantity in shown if quantity.label.startswith(words)]
    assert len(probabilities) > 10
    assert all(quantity.low is None and quantity.high is None for quantity in probabilities)
    excitability = report.tables[0].rows[0].quantities[3]
    assert excitability.low is not None
    methods = " ".join(report.methods)
    assert "Monte Carlo error of 40 draws is 0.08 at most" in methods  # onsets: 0.5 / sqrt(40)
    assert "Monte Carlo error of 20 draws is 0.11 at most" in methods
    assert "Wilson" not in methods


def test_regions_are_ranked_with_onset_and_delay(report: TwinFindings) -> None:
    rows = report.tables[0].rows
    assert [row.label for row in rows[:3]] == [LABELS[1], LABELS[4], LABELS[5]]
    assert [row.flag for row in rows[:4]] == [
        "no. 1 to seize, starts seizures by itself",
        "no. 2 to seize, starts seizures by itself",
        "no. 3 to seize, recruited by others",
        "",
    ]
    value, onset, delay, excitability = rows[2].quantities
    assert value.value == 0.75
    assert onset.value == 20.0
    assert delay.value == pytest.approx(20.0 - (10.0 + 14.5 / 40))
    assert excitability.value == pytest.approx(ETA[RECRUITED], abs=0.03)
    assert rows[3].quantities[1].withheld == "seizes in 0% of the draws only"


def test_region_that_the_implantation_misses_is_listed_and_not_ranked(report: TwinFindings) -> None:
    ranked, coverage = report.tables[0], report.tables[-1]
    assert LABELS[UNSEEN] not in [row.label for row in ranked.rows]
    assert [(row.label, row.flag) for row in coverage.rows] == [(LABELS[UNSEEN], "hidden behind other regions")]
    assert "nothing about 1 of 8 regions" in report.conclusion


def test_quiet_region_that_no_channel_sees_is_not_called_seen_for_not_seizing(
    connectome: Connectome, recordings: Recordings, calibration: SeizureCalibration, run: epilepsy.SeizureScenarios
) -> None:
    silent = np.random.default_rng(3).normal(-3.0, 1.0, 200_000)
    reached = 1.0 - silent[silent < isolated_threshold()].var()
    assert reached > 0.3
    assert shrinkage_of_silence(calibration) == pytest.approx(reached, abs=0.01)
    shrinkage = np.where(np.arange(REGIONS) == UNSEEN, reached, calibration.shrinkage)
    blind = dataclasses.replace(calibration, shrinkage=shrinkage)
    assert seen(blind).tolist() == [region != UNSEEN for region in range(REGIONS)]
    told = epilepsy.findings((), blind, run)
    assert LABELS[UNSEEN] not in [row.label for row in told.tables[0].rows]
    assert [row.label for row in told.tables[-1].rows] == [LABELS[UNSEEN]]
    assert "nothing about 1 of 8 regions" in told.conclusion
    assert next(check for check in told.quality if check.code == "regions-seen").value == 7 / 8
    assert _run(connectome, recordings, blind, draws=2).unseen[UNSEEN]


def test_methods_give_the_prior_probability_of_an_onset_zone(calibration: SeizureCalibration) -> None:
    told = " ".join(epilepsy.findings((), calibration, None).methods)
    assert "a probability of 16.8% to be above" in told  # 1 - Phi((-2.0369 + 3) / 1)
    moved = dataclasses.replace(calibration, priors={**calibration.priors, "eta": ("normal", -2.036870, 0.5)})
    assert prior_of_onset(moved) == pytest.approx(0.5, abs=1e-6)


def test_nothing_that_follows_from_an_unknown_coupling_is_run_or_reported(
    connectome: Connectome, recordings: Recordings, calibration: SeizureCalibration, run: epilepsy.SeizureScenarios
) -> None:
    loose = dataclasses.replace(
        calibration, parameters=tuple(dataclasses.replace(one, shrinkage=0.12) for one in calibration.parameters)
    )
    nothing = _run(connectome, recordings, loose)
    assert "shrinkage 0.12" in nothing.withheld
    assert not nothing.draws.size
    assert epilepsy.SeizureScenarios.from_npz(nothing.to_npz()).to_npz() == nothing.to_npz()
    for given in (nothing, run):  # as it is, and as one of an earlier version would be
        told = epilepsy.findings((), loose, given)
        assert [quantity.code for quantity in told.parameters] == [
            "permittivity-coupling", "network-reserve", "critical-eigenvalue",
        ]  # fmt: skip
        endpoints = [quantity for scenario in told.scenarios for quantity in scenario.endpoints]
        assert {scenario.code for scenario in told.scenarios} == {"untouched", "resection", "stimulation"}
        assert {quantity.withheld for quantity in (*told.parameters, *endpoints)} == {nothing.withheld}
        assert "resections" not in [table.code for table in told.tables]
        assert "stays free of seizures" not in told.conclusion
        assert "says nothing of resections" in told.conclusion
        assert TwinFindings.from_json(told.to_json()) == told
        drawn = [picture.name for picture in epilepsy.pictures(connectome, recordings, loose, given, told)]
        assert drawn == ["connectome.png", "epileptogenicity.png", "fit.png"]


def test_deep_nucleus_and_unseen_region_are_never_proposed(run: epilepsy.SeizureScenarios) -> None:
    proposed = {region for index in run.of("searched") for region in run.resections[index].regions}
    assert run.searched == 6 + 15  # singles and pairs of the six others
    assert proposed
    assert not proposed & {UNSEEN, LABELS.index("lh.thalamusproper")}


def test_twin_that_does_not_seize_says_nothing_of_resections(
    connectome: Connectome, recordings: Recordings, calibration: SeizureCalibration
) -> None:
    quiet = dataclasses.replace(calibration, draws={**calibration.draws, "eta": calibration.draws["eta"] - 0.6})
    calm = _run(connectome, recordings, quiet)
    told = epilepsy.findings((), quiet, calm)
    assert calm.free(0) == 1.0
    assert [table.code for table in told.tables] == ["epileptogenicity", "coverage"]
    assert "seizes in 0% of its draws only" in str(told.scenarios[1].endpoints[0].withheld)
    names = [picture.name for picture in epilepsy.pictures(connectome, recordings, quiet, calm, told)]
    assert names == ["connectome.png", "epileptogenicity.png", "fit.png"]


def test_report_is_read_back_whole_and_every_code_is_used_once(report: TwinFindings) -> None:
    assert TwinFindings.from_json(report.to_json()) == report
    quantities = [
        *report.parameters,
        *(quantity for table in report.tables for row in table.rows for quantity in row.quantities),
        *(quantity for scenario in report.scenarios for quantity in scenario.endpoints),
    ]
    repeated = [code for code, count in Counter(quantity.code for quantity in quantities).items() if count > 1]
    assert not repeated
    assert {scenario.code for scenario in report.scenarios} >= {"untouched", "best-resection", "planned-resection"}


def test_report_claims_no_evidence_and_gives_no_advice(report: TwinFindings) -> None:
    assert report.evidence.startswith("None in patients")
    assert "not advice" in report.conclusion
    assert all("Hypothesis" in scenario.label for scenario in report.scenarios if "stimulation" in scenario.code)


def test_limits_state_the_time_scale_that_the_model_has(report: TwinFindings) -> None:
    isolated = Twins(eta=np.array([[-1.9], [-1.6]]), coupling=np.zeros(2), weights=np.zeros((1, 1)), units=200.0)
    x = simulate(
        [isolated.network(0), isolated.network(1)], [0, 0], duration=0.2, monitors=[TemporalAverage(1e-4)], dt=0.1,
    ).observations[0].values[..., 0]  # fmt: skip
    turns = [np.flatnonzero(np.diff((one > RECRUITED_ABOVE).astype(int))) for one in x]
    burst = sorted(round(0.2 * float(np.median(turn[1::2][:10] - turn[::2][:10]))) for turn in turns)  # 2 s per unit
    recurs = sorted(round(0.2 * float(np.median(np.diff(turn[::2])))) for turn in turns)
    text = f"bursts of {burst[0]} to {burst[1]} s that recur every {recurs[0]} to {recurs[1]} s"
    limits = " ".join(report.limits)
    assert text in limits
    assert "2 s per unit of model time and τ₀ = 10" in limits
    for said in ("a minute is outside the model", "neighbouring bipolar pairs", "variants of one trajectory"):
        assert said in limits
    assert "assumes that they are healthy" not in limits
    assert "Scenarios, and they alone, take them to start no seizures" in limits


def test_evidence_says_which_bench_inverts() -> None:
    bench = next(one for one in credibility("epilepsy").evidence if one.category == "bench test validation")
    assert bench.where == "tests/bench/epilepsy.py, tests/bench/epilepsy_resection.py"
    assert "without an inversion" in bench.summary


def test_pictures_are_the_same_bytes_for_the_same_findings(
    connectome: Connectome,
    recordings: Recordings,
    calibration: SeizureCalibration,
    run: epilepsy.SeizureScenarios,
    report: TwinFindings,
) -> None:
    first, second = (
        {picture.name: picture.png for picture in epilepsy.pictures(connectome, recordings, calibration, run, report)}
        for _ in range(2)
    )
    assert set(first) == {"connectome.png", "epileptogenicity.png", "fit.png", "resections.png"}
    assert first == second


def _noise(seconds: float, events: tuple[Event, ...] = ()) -> SensorRecording:
    rng = np.random.default_rng(2)
    return SensorRecording(
        kind="seeg",
        signals=2e-5 * rng.normal(size=(round(256 * seconds), 9)),
        sampling_rate=256.0,
        channel_labels=tuple(f"A{contact}" for contact in range(1, 10)),
        positions=np.stack([np.linspace(-2.0, 10.0, 9), np.ones(9), np.ones(9)], axis=1),
        events=events,
    )


def test_long_recording_without_marks_is_refused_and_with_marks_is_cut(recordings: Recordings) -> None:
    with pytest.raises(Rejected) as refused:
        epilepsy.seizure_feature(_noise(400.0), recordings)
    assert refused.value.code == "seizure-not-marked"
    marks = (Event(label=SEIZURE_ONSET, onset=150.0), Event(label=SEIZURE_OFFSET, onset=210.0))
    feature = epilepsy.seizure_feature(_noise(400.0, marks), recordings)
    assert feature.start == pytest.approx(150.0 - epilepsy.BEFORE, abs=0.5)
    assert np.ptp(feature.times) == pytest.approx(60.0 + epilepsy.BEFORE + epilepsy.AFTER, abs=1.0)


def test_case_without_seeg_or_labels_is_refused(connectome: Connectome, recordings: Recordings) -> None:
    for missing, code in (("seeg", "no-recording"), ("labels", "labels-missing")):
        with pytest.raises(Rejected) as refused:
            epilepsy.calibrate(
                connectome,
                dataclasses.replace(recordings, **{missing: None}),
                rng_seed=0,
                progress=lambda _message, _fraction: None,
                checkpoint=None,
            )
        assert refused.value.code == code
