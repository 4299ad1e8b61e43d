"""From a recording of a network with known conduction to its report, and what may not be said."""

from __future__ import annotations

import dataclasses
import io

import numpy as np
import pytest
from PIL import Image

from vbt.clinical import _multiple_sclerosis_calibration, _multiple_sclerosis_scenarios
from vbt.clinical._multiple_sclerosis_calibration import (
    PREDICTED,
    ConductionCalibration,
    conductions,
    powers_may_stand_in,
)
from vbt.clinical._multiple_sclerosis_findings import _spread
from vbt.clinical._multiple_sclerosis_rhythm import Conduction, Wiring
from vbt.clinical._multiple_sclerosis_scenarios import NO_LESIONS, ConductionRun
from vbt.clinical._multiple_sclerosis_sensors import sensor_view
from vbt.clinical.application import Recordings
from vbt.clinical.findings import TwinFindings
from vbt.clinical.multiple_sclerosis import APPLICATION, NO_THERAPY, THERAPIES, RatePriors, findings, run_scenarios
from vbt.connectome import Connectome, LesionedTracts
from vbt.electrophysiology import SensorRecording
from vbt.errors import Rejected, Unsound
from vbt.inference import delayed_spectrum, gate_report, strength_scaled

REGIONS, CHANNELS = 8, 24
SECONDS, RATE = 120.0, 120.0
TRUTH = {"velocity": 6.0, "coupling": 900.0, "frequency": 40.0, "decay": 6.0, "gamma": 2.0}
LABELS = tuple(f"{side}.area{i}" for side in ("lh", "rh") for i in range(REGIONS // 2))
QUIET = {"progress": lambda _message, _fraction: None}


@pytest.fixture(scope="module")
def connectome() -> Connectome:
    rng = np.random.default_rng(4)
    centres = rng.normal(size=(REGIONS, 3))
    centres *= rng.uniform(35, 60, (REGIONS, 1)) / np.linalg.norm(centres, axis=1, keepdims=True)
    weights = np.triu(rng.lognormal(sigma=0.5, size=(REGIONS, REGIONS)), 1)
    weights += weights.T
    lengths = 1.2 * np.linalg.norm(centres[:, None] - centres[None], axis=-1)
    return Connectome(
        weights=weights,
        tract_lengths=lengths,
        region_labels=LABELS,
        centres=centres,
        is_cortical=np.ones(REGIONS, dtype=bool),
        parcellation="eight",
    )


@pytest.fixture(scope="module")
def lesions() -> LesionedTracts:
    rng = np.random.default_rng(5)
    fraction = np.triu(rng.random((REGIONS, REGIONS)) * (rng.random((REGIONS, REGIONS)) < 0.5), 1)
    return LesionedTracts(fraction=fraction + fraction.T, region_labels=LABELS, volume_ml=8.0, lesions=12)


def electrodes() -> np.ndarray:
    """Over the upper part of a sphere of 95 mm."""
    height = np.linspace(0.95, -0.3, CHANNELS)
    turn = np.arange(CHANNELS) * np.pi * (3 - np.sqrt(5))
    radius = np.sqrt(1 - height**2)
    return 95.0 * np.stack([radius * np.cos(turn), radius * np.sin(turn), height], axis=1)


def recorded(connectome: Connectome, fraction: np.ndarray | None, seed: int = 0) -> SensorRecording:
    """EEG whose spectrum is that of the network: Gaussian Fourier coefficients, and sensor noise."""
    rng = np.random.default_rng(seed)
    count = int(SECONDS * RATE)
    grid = np.fft.rfftfreq(count, 1 / RATE)
    spectra = delayed_spectrum(
        strength_scaled(connectome.weights), connectome.tract_lengths, **TRUTH, lesion_fraction=fraction,
        frequencies=grid,
    )  # fmt: skip
    white = rng.normal(size=(2, len(grid), REGIONS, 1))
    bins = np.linalg.cholesky(spectra) @ (white[0] + 1j * white[1])
    activity = np.fft.irfft(bins[..., 0], n=count, axis=0)
    blank = SensorRecording(
        kind="eeg",
        signals=np.zeros((count, CHANNELS)),
        sampling_rate=RATE,
        channel_labels=tuple(f"E{i}" for i in range(CHANNELS)),
        positions=electrodes(),
    )
    view = sensor_view(blank, connectome)
    seen = activity @ (view.basis @ view.gain).T
    seen += 0.02 * seen.std() * rng.normal(size=seen.shape)
    return dataclasses.replace(blank, signals=1e-5 * seen / seen.std())


@pytest.fixture(scope="module")
def recordings(connectome, lesions) -> Recordings:
    return Recordings(eeg=recorded(connectome, lesions.fraction), lesions=lesions)


@pytest.fixture(scope="module")
def calibration(connectome, recordings) -> ConductionCalibration:
    return APPLICATION.calibrate(connectome, recordings, rng_seed=1, checkpoint=None, **QUIET)


@pytest.fixture(scope="module")
def run(connectome, recordings, calibration) -> ConductionRun:
    return run_scenarios(connectome, recordings, calibration, rng_seed=2, draws=8, **QUIET)


def test_the_engine_recovers_what_the_recording_was_made_with(calibration):
    assert calibration.sound, calibration.reasons
    for name, width in (("velocity", 0.1), ("coupling", 0.1), ("gamma", 0.3)):
        median, low, high = calibration.interval(name, 0.99)
        assert low < TRUTH[name] < high
        assert median == pytest.approx(TRUTH[name], rel=width)


def test_channels_without_coherence_give_no_velocity_however_well_their_powers_fit(connectome):
    """Phases drawn anew in each of the directions that the engine sees keep all powers and undo every delay."""
    whole = recorded(connectome, None)
    basis = sensor_view(whole, connectome).basis
    bins = np.fft.rfft(whole.signals @ basis, axis=0)
    turned = np.abs(bins) * np.exp(2j * np.pi * np.random.default_rng(7).random(bins.shape))
    apart = dataclasses.replace(whole, signals=np.fft.irfft(turned, n=len(whole.signals), axis=0) @ basis.T)
    found = APPLICATION.calibrate(connectome, Recordings(eeg=apart), rng_seed=1, checkpoint=None, **QUIET)
    assert not found.sound
    assert found.likelihood == "cross-spectrum"
    assert not found.predicted["mean-delay"].size


def test_powers_stand_in_for_a_cross_spectrum_that_was_not_sampled_never_for_one_that_does_not_fit(calibration):
    by_sampler = dataclasses.replace(calibration, verdict="unsound", reasons=("chains disagree on velocity",))
    assert powers_may_stand_in(by_sampler)
    misfit = dataclasses.replace(by_sampler, fit=dataclasses.replace(calibration.fit, chi_square=1.06))
    assert not powers_may_stand_in(misfit)
    velocity, *others = calibration.parameters
    blind = dataclasses.replace(by_sampler, parameters=(dataclasses.replace(velocity, shrinkage=0.2), *others))
    assert not powers_may_stand_in(blind)


def test_delays_are_length_over_velocity_and_what_lesions_add(calibration, connectome, lesions):
    weights, lengths = connectome.weights, connectome.tract_lengths
    plain = (weights * lengths).sum() / weights.sum() / TRUTH["velocity"]
    extra = (weights * lengths * lesions.fraction).sum() / weights.sum() / TRUTH["velocity"] * TRUTH["gamma"]
    assert np.median(calibration.predicted["mean-delay"]) == pytest.approx(plain + extra, rel=0.05)
    assert np.median(calibration.predicted["lesion-delay"]) == pytest.approx(extra, rel=0.2)


def test_the_most_delayed_tracts_come_first(calibration, connectome, lesions):
    expected = np.triu(connectome.tract_lengths * lesions.fraction, 1)
    one, two = calibration.tracts[0]
    assert expected[one, two] == expected.max()
    medians = np.median(calibration.tract_delays, axis=1)
    assert (np.diff(medians) <= 0).all()
    np.testing.assert_allclose(calibration.tract_fractions[0], lesions.fraction[one, two])


def test_a_calibration_survives_its_archive(calibration):
    again = ConductionCalibration.from_npz(calibration.to_npz())
    assert again.to_npz() == calibration.to_npz()
    assert again.recording_checks == calibration.recording_checks
    assert again.gamma_known


def test_remyelination_and_eased_conduction_bring_velocity_back(run, calibration, connectome, lesions):
    """Without lesions the effective velocity is the velocity; with half the factor it lies between."""
    points = conductions(calibration, 8)[1]
    wiring = Wiring.of(connectome.weights, connectome.tract_lengths, lesions.fraction)
    now = np.array([wiring.effective_velocity(point) for point in points])
    velocities = np.array([point.velocity for point in points])
    np.testing.assert_allclose(now + run.remyelinated["effective-velocity"], velocities, rtol=1e-9)
    assert (run.eased["effective-velocity"] > 0).all()
    assert (run.eased["effective-velocity"] < run.remyelinated["effective-velocity"]).all()
    assert (run.remyelinated["mean-delay"] < run.eased["mean-delay"]).all()
    half = np.median(run.eased["mean-delay"] / run.remyelinated["mean-delay"])
    assert half == pytest.approx(0.5)


def test_every_course_begins_at_the_same_brain(run):
    for code, values in run.courses.items():
        np.testing.assert_array_equal(values[:, :, 0], np.broadcast_to(values[0, :, 0], values.shape[:2]), code)
    np.testing.assert_allclose(run.courses["efficiency"][:, :, 0], 100.0)
    np.testing.assert_array_equal(run.courses["lost"][:, :, 0], 0.0)


def test_a_stronger_therapy_never_slows_more_in_the_same_future(run):
    order = np.argsort([-therapy.relative_risk for therapy in run.therapies])
    velocity = run.courses["effective-velocity"][order]
    assert (np.diff(velocity, axis=0) >= -1e-9).all()
    assert (np.diff(run.new_lesions[order], axis=0) <= 0).all()
    assert run.new_lesions[0].mean() > run.new_lesions[-1].mean()


def test_a_therapy_without_effect_is_no_therapy_to_the_last_bit(connectome, recordings, calibration):
    same = dataclasses.replace(NO_THERAPY, code="same", label="Same")
    found = run_scenarios(
        connectome, recordings, calibration, rng_seed=2, draws=3, therapies=(NO_THERAPY, same), **QUIET
    )
    for values in found.courses.values():
        np.testing.assert_array_equal(values[0], values[1])


def test_without_lesions_repair_or_loss_the_years_change_nothing(connectome, recordings, calibration):
    still = RatePriors(lesions=(0.0, 0.5), repair=(0.0, 0.5), loss=(0.0, 0.5))
    found = run_scenarios(connectome, recordings, calibration, rng_seed=2, draws=3, rates=still, **QUIET)
    for values in found.courses.values():
        np.testing.assert_array_equal(values, np.broadcast_to(values[:, :, :1], values.shape))


def test_a_run_repeats_to_the_last_bit_and_survives_its_archive(run, connectome, recordings, calibration):
    content = run.to_npz()
    assert ConductionRun.from_npz(content).to_npz() == content
    again = run_scenarios(connectome, recordings, calibration, rng_seed=2, draws=8, **QUIET)
    assert again.to_npz() == content


@pytest.mark.parametrize("draws", [_multiple_sclerosis_calibration.DRAWS, _multiple_sclerosis_scenarios.DRAWS])
def test_an_interval_holds_the_next_draw_as_often_as_it_says(draws):
    """Of a sample of that size, over many samples; the mean of 4000 is known to 0.1 %."""
    rng = np.random.default_rng(0)
    found = [_spread("c", "l", "1", rng.random(draws)) for _ in range(4000)]
    assert np.mean([q.high - q.low for q in found]) == pytest.approx(0.9, abs=0.004)


def test_draws_of_scenarios_are_spread_evenly_over_all_chains(calibration, run):
    chains, length = calibration.draws["velocity"].shape
    for count in (8, 100):
        chosen, points = conductions(calibration, count)
        np.testing.assert_array_equal(np.bincount(chosen // length), np.full(chains, count // chains))
        assert [p.velocity for p in points] == calibration.draws["velocity"].ravel()[chosen].tolist()
    methods = " ".join(findings((), calibration, run).methods)
    assert "100 posterior draws, spread evenly" in methods
    assert "8 posterior draws spread evenly" in methods


def test_findings_carry_every_quantity_once_and_survive_json(calibration, run):
    report = findings((), calibration, run)
    assert TwinFindings.from_json(report.to_json()) == report
    codes = [quantity.code for quantity in report.parameters]
    codes += [quantity.code for scenario in report.scenarios for quantity in scenario.endpoints]
    codes += [quantity.code for table in report.tables for row in table.rows for quantity in row.quantities]
    assert len(set(codes)) == len(codes)
    assert {"conduction-velocity", "lesion-delay-factor", *PREDICTED} <= set(codes)
    assert report.evidence.startswith("None in patients")
    assert any("connectome" in limit for limit in report.limits)
    named = [scenario for scenario in report.scenarios if scenario.code in {t.code for t in THERAPIES}]
    assert all("hypothesis" in scenario.label for scenario in named)


def test_what_the_recording_does_not_say_of_lesions_is_withheld_alone(calibration):
    parameters = tuple(
        dataclasses.replace(p, shrinkage=0.1) if p.name == "gamma" else p for p in calibration.parameters
    )
    report = findings((), dataclasses.replace(calibration, parameters=parameters), None)
    withheld = {quantity.code for quantity in report.parameters if quantity.value is None}
    assert {"lesion-delay-factor", "lesion-delay", "alpha-frequency-change", "alpha-share-change"} <= withheld
    assert "conduction-velocity" not in withheld
    assert "withheld: not identifiable" in report.conclusion


def test_an_unsound_calibration_yields_reasons_and_no_number(connectome, recordings, calibration, run):
    unsound = dataclasses.replace(calibration, verdict="unsound", reasons=("chains disagree on velocity",))
    with pytest.raises(Unsound, match="passed its gate"):
        run_scenarios(connectome, recordings, unsound, rng_seed=0, **QUIET)
    report = findings((), unsound, run)
    assert report.scenarios == ()
    assert all(quantity.value is None for quantity in report.parameters)
    assert "chains disagree on velocity" in report.conclusion
    names = [p.name for p in APPLICATION.pictures(connectome, recordings, unsound, run, report)]
    assert names == ["connectome.png", "lesions.png"]


def test_pictures_are_the_same_bytes_for_the_same_case(connectome, recordings, calibration, run):
    report = findings((), calibration, run)
    one, two = (list(APPLICATION.pictures(connectome, recordings, calibration, run, report)) for _ in range(2))
    assert [p.name for p in one] == [f"{n}.png" for n in ("connectome", "lesions", "posterior", "fit", "progression")]
    assert [p.png for p in one] == [p.png for p in two]
    assert all(Image.open(io.BytesIO(p.png)).format == "PNG" for p in one)


def test_without_a_mask_no_lesion_is_spoken_of(connectome, calibration):
    kept = {name: draws for name, draws in calibration.draws.items() if name != "gamma"}
    bare = dataclasses.replace(
        calibration,
        draws=kept,
        parameters=tuple(p for p in calibration.parameters if p.name != "gamma"),
        tracts=np.zeros((0, 2), dtype=np.int64),
        lesions=0,
    )
    found = run_scenarios(connectome, Recordings(), bare, rng_seed=0, **QUIET)
    assert found.withheld == NO_LESIONS
    report = findings((), bare, found)
    assert report.scenarios == ()
    assert report.tables == ()
    assert any(NO_LESIONS in limit for limit in report.limits)
    assert next(q for q in report.parameters if q.code == "lesion-delay-factor").value is None
    assert ConductionRun.from_npz(found.to_npz()).to_npz() == found.to_npz()


def test_a_report_speaks_of_lesions_only_where_a_mask_was_given_and_says_what_is_assumed_of_them(calibration):
    bare = dataclasses.replace(
        calibration,
        draws={name: draws for name, draws in calibration.draws.items() if name != "gamma"},
        parameters=tuple(p for p in calibration.parameters if p.name != "gamma"),
        lesions=0,
    )
    labels = [next(q.label for q in findings((), c, None).parameters if q.code == "conduction-velocity")
              for c in (calibration, bare)]  # fmt: skip
    assert labels == ["Conduction velocity outside lesions", "Conduction velocity"]
    assumed = [any("can include zero" in limit for limit in report.limits)
               for report in (findings((), calibration, None), findings((), bare, None))]  # fmt: skip
    assert assumed == [True, False]


def test_the_fit_statistic_is_called_what_it_is(calibration):
    report = findings((), calibration, None)
    labels = {check.code: check.label for check in report.quality}
    assert labels["chi-square"] == "Largest residual statistic over its 99.9 % point"
    assert labels["residual-coherence"] == "Residual check p of coherence"
    assert not any("chi²" in label or "redictive" in label for label in labels.values())
    assert calibration.fit.label in str(gate_report(calibration)["fit"])


def test_a_case_without_eeg_or_meg_is_refused(connectome, lesions):
    with pytest.raises(Rejected) as refused:
        APPLICATION.calibrate(connectome, Recordings(lesions=lesions), rng_seed=0, checkpoint=None, **QUIET)
    assert refused.value.code == "no-resting-eeg-or-meg"


def test_lesions_counted_on_another_connectome_are_refused(connectome, recordings, lesions):
    other = dataclasses.replace(lesions, region_labels=tuple(reversed(LABELS)))
    with pytest.raises(Rejected) as refused:
        APPLICATION.calibrate(
            connectome, dataclasses.replace(recordings, lesions=other), rng_seed=0, checkpoint=None, **QUIET
        )
    assert refused.value.code == "lesions-of-another-connectome"


def test_a_connectome_with_many_regions_alone_is_refused(connectome, recordings):
    weights = connectome.weights.copy()
    weights[:3], weights[:, :3] = 0.0, 0.0
    with pytest.raises(Rejected) as refused:
        APPLICATION.calibrate(
            dataclasses.replace(connectome, weights=weights), recordings, rng_seed=0, checkpoint=None, **QUIET
        )
    assert refused.value.code == "connectome-isolated-regions"


def test_a_recording_too_short_for_the_rhythm_is_refused(connectome, recordings):
    short = dataclasses.replace(recordings.eeg, signals=recordings.eeg.signals[:1200])
    with pytest.raises(Rejected) as refused:
        APPLICATION.calibrate(
            connectome, dataclasses.replace(recordings, eeg=short), rng_seed=0, checkpoint=None, **QUIET
        )
    assert refused.value.code == "recording-too-short"


def test_a_peak_is_found_between_the_points_of_the_grid():
    """One region alone: its spectrum is a Lorentzian around its own frequency."""
    wiring = Wiring(weights=np.zeros((2, 2)), tract_lengths=np.zeros((2, 2)), lesioned=np.zeros((2, 2)))
    for frequency in (7.2, 9.9, 12.3):
        draw = Conduction(velocity=6.0, gamma=0.0, coupling=0.0, frequency=frequency, decay=4.0)
        assert wiring.rhythm(draw).peak == pytest.approx(frequency, abs=0.06)


def test_the_centre_of_gravity_follows_a_lone_rhythm_upwards():
    wiring = Wiring(weights=np.zeros((2, 2)), tract_lengths=np.zeros((2, 2)), lesioned=np.zeros((2, 2)))
    draws = [Conduction(velocity=6.0, gamma=0.0, coupling=0.0, frequency=f, decay=2.0) for f in (8.0, 10.0, 12.0)]
    centres = [wiring.rhythm(draw).centre for draw in draws]
    assert centres[1] == pytest.approx(10.0, abs=0.05)
    assert centres[0] < centres[1] < centres[2]


def test_efficiency_is_that_of_the_ring_it_is_known_for():
    """Four regions in a ring of weight 1: two neighbours at 1, one opposite at 2."""
    ring = np.roll(np.eye(4), 1, axis=1)
    wiring = Wiring(weights=ring + ring.T, tract_lengths=ring + ring.T, lesioned=np.zeros((4, 4)))
    assert wiring.efficiency() == pytest.approx((1 + 1 + 0.5) / 3)
