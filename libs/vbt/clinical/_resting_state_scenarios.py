"""Interventions on the resting-state twin: one region resected or stimulated, over posterior draws, paired noise."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from vbt.connectome import Connectome
from vbt.errors import Rejected, Unsound
from vbt.inference import RestingStateCalibration, band_spectra, coupling_at
from vbt.simulation import (
    Bold,
    Network,
    ReplayManifest,
    RestingTwin,
    Simulation,
    TemporalAverage,
    at_rest,
    constant,
    homotopic_pairs,
    one_blas_thread,
    record,
    resect,
    simulate,
    stimulate,
    working_point,
)

DRAWS = 16
DURATION = 300.0
TIME_STEP = 1.0  # ms; Heun's answer to slow input does not depend on the step, and 0.5 ms gives the same FC
SAMPLING_PERIOD = 2.0
TRANSIENT = 40.0
EVOKED_SD = 2.0  # response of the target in the linear model, in resting standard deviations; sets the current
_BRANCH_LIMIT = 2.0  # a mean rate above this multiple of rest means that the quiescent branch was left


@dataclass(frozen=True, kw_only=True)
class ScenarioRun:
    """Two interventions on one region, each over posterior draws, each beside the untouched twin with the same noise.

    Parameters
    ----------
    target : index of the region in ``region_labels``
    draws : indices of the posterior draws, chains joined end to end
    endpoints : per endpoint one value per draw; names in `ENDPOINTS`
    baseline_fc, resected_fc : median over draws; NaN in the row and column of the resected region
    evoked_bold : percent, median over draws; response of every region to stimulation of the target
    evoked_course : percent, median over draws; response of the target over ``time`` (s, since the stimulus began)
    manifest : of the simulation
    """

    region_labels: tuple[str, ...]
    target: int
    draws: Int[np.ndarray, " draw"]
    endpoints: Mapping[str, Float[np.ndarray, " draw"]]
    baseline_fc: Float[np.ndarray, "region region"]
    resected_fc: Float[np.ndarray, "region region"]
    evoked_bold: Float[np.ndarray, " region"]
    evoked_course: Float[np.ndarray, " time"]
    time: Float[np.ndarray, " time"]
    manifest: ReplayManifest

    @property
    def target_label(self) -> str:
        return self.region_labels[self.target]

    def to_npz(self) -> bytes:
        """An ``.npz`` archive without pickles, the same bytes for the same run."""
        buffer = io.BytesIO()
        names = list(self.endpoints)
        arrays = {name: getattr(self, name) for name in _ARRAYS}
        plain = {
            "region_labels": self.region_labels,
            "target": self.target,
            "endpoint_names": names,
            "manifest": dataclasses.asdict(self.manifest),
        }
        values = np.stack([self.endpoints[name] for name in names])
        np.savez_compressed(buffer, **arrays, endpoints=values, record=np.array(json.dumps(plain, sort_keys=True)))
        return buffer.getvalue()

    @classmethod
    def from_npz(cls, content: bytes) -> ScenarioRun:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            plain = json.loads(str(archive["record"]))
            return cls(
                region_labels=tuple(plain["region_labels"]),
                target=plain["target"],
                endpoints=dict(zip(plain["endpoint_names"], archive["endpoints"], strict=True)),
                manifest=ReplayManifest.from_json(json.dumps(plain["manifest"])),
                **{name: archive[name] for name in _ARRAYS},
            )


_ARRAYS = ("draws", "baseline_fc", "resected_fc", "evoked_bold", "evoked_course", "time")

# code: (label, UCUM unit)
ENDPOINTS = {
    "resection-mean-fc-change": ("Change of mean functional connectivity of the remaining regions", "1"),
    "resection-working-point-change": ("Change of the global coupling relative to its critical value", "1"),
    "stimulation-evoked-bold": ("BOLD response of the stimulated region", "%"),
    "stimulation-responding-regions": (
        "Other regions responding by more than half a resting standard deviation",
        "{count}",
    ),
}


_OF_COUPLING = ("g", "p", "h", "w0", "k", "b")  # what `vbt.inference.coupling_at` takes


def require_current_model(calibration: RestingStateCalibration) -> None:
    """Refuse a posterior of an earlier model, whose couplings this version does not simulate.

    Raises
    ------
    Rejected : ``calibration-outdated``
    """
    missing = [name for name in _OF_COUPLING if name not in calibration.draws]
    if missing:
        raise Rejected(
            "calibration-outdated",
            rule=f"a twin's coupling needs posterior draws of {', '.join(_OF_COUPLING)}",
            got=f"a calibration by an earlier version, without {', '.join(missing)}",
            action="calibrate the case again",
        )


def strongest_hub(connectome: Connectome, calibration: RestingStateCalibration) -> int:
    """The region with the largest in- and out-strength among those used; the default target."""
    weights = connectome.weights[np.ix_(calibration.used_regions, calibration.used_regions)]
    return int(np.argmax(weights.sum(axis=0) + weights.sum(axis=1)))


@one_blas_thread
def run_scenarios(
    connectome: Connectome,
    calibration: RestingStateCalibration,
    *,
    rng_seed: int,
    duration: float = DURATION,
    draws: int = DRAWS,
    target: str | None = None,
    progress: Callable[[str, float], None] | None = None,
) -> ScenarioRun:
    """Resect and stimulate one region of the twin, over posterior draws with paired noise.

    Parameters
    ----------
    duration : s of BOLD per run, at least 89
    draws : number of posterior draws, spread evenly over the chains
    target : label of the region; the strongest hub where none is given

    Raises
    ------
    Rejected
        ``calibration-outdated`` where an earlier version calibrated with another model.
    Unsound
        where the calibration is unsound, or the simulated network diverges or leaves its resting state.
    """
    if not calibration.sound:
        raise Unsound(
            "calibration-unsound",
            rule="scenarios are run on a calibration that passed its gate only",
            got=f"{len(calibration.reasons)} failed checks",
            action="see the calibration's reasons; do not use this twin",
        )
    require_current_model(calibration)
    region = strongest_hub(connectome, calibration) if target is None else calibration.region_labels.index(target)
    chosen = np.linspace(0, calibration.draws["g"].size - 1, draws).round().astype(int)
    twins = _Twins(connectome, calibration, chosen)
    baseline = [twins.network(draw) for draw in range(draws)]
    amplitude = twins.stimulus_amplitude(region)
    # Surgery heals: the remaining regions and their blood flow settle at the network's new resting state.
    resected = [at_rest(resect(network, (region,))) for network in baseline]
    working_points = np.array([working_point(network) for network in resected]) - twins.values["g"]
    networks = [
        *baseline,
        *resected,
        *(stimulate(network, (region,), amplitude, constant(onset=TRANSIENT)) for network in baseline),
    ]
    seeds = [int(seed) for seed in np.random.SeedSequence(rng_seed).generate_state(draws)] * 3
    tell = progress or (lambda _message, _fraction: None)
    run = simulate(
        networks,
        seeds,
        duration=duration,
        monitors=[TemporalAverage(SAMPLING_PERIOD), Bold(SAMPLING_PERIOD)],
        dt=TIME_STEP,
        transient=TRANSIENT,
        progress=lambda fraction: tell("simulating interventions", fraction),
    )
    _stop_if_off_branch(run, twins.twin)
    return _endpoints(run, twins, region, working_points, chosen, rng_seed, calibration)


class _Twins:
    """The twins of some posterior draws, all on the same tracts."""

    def __init__(self, connectome: Connectome, calibration: RestingStateCalibration, chosen: np.ndarray) -> None:
        used = np.ix_(calibration.used_regions, calibration.used_regions)
        self.labels = calibration.region_labels
        self.weights = connectome.weights[used]
        self.lengths = _tract_lengths(connectome, calibration)
        self.twin = RestingTwin(bold_sd=calibration.bold_sd)
        self.values = {name: calibration.draws[name].ravel()[chosen] for name in _OF_COUPLING}

    def coupling(self, draw: int) -> np.ndarray:
        return coupling_at(self.weights, self.labels, {name: values[draw] for name, values in self.values.items()})

    def network(self, draw: int) -> Network:
        return self.twin.lift(self.coupling(draw), self.lengths, float(self.values["g"][draw]))

    def stimulus_amplitude(self, region: int) -> float:
        """Current that moves the target's BOLD by `EVOKED_SD` in the linear model, median over the draws."""
        amplitudes = []
        for draw in range(len(self.values["g"])):
            network, g = self.network(draw), float(self.values["g"][draw])
            response = np.linalg.inv(np.eye(len(self.labels)) - g * network.weights)[region, region]
            gain = self.twin.fixed_point.static_gain(self.twin.mass)
            percent = 100.0 * network.balloon.steady_slope() * float(network.balloon.efficacy) * gain * response
            amplitudes.append(EVOKED_SD * self.twin.bold_sd / percent)
        return float(np.median(amplitudes))


def _tract_lengths(connectome: Connectome, calibration: RestingStateCalibration) -> np.ndarray:
    """Lengths of both directions; homotopic pairs without a reconstructed tract take the distance of their centres."""
    used = calibration.used_regions
    lengths = connectome.tract_lengths[np.ix_(used, used)]
    both = np.maximum(lengths, lengths.T)
    centres = connectome.centres[used]
    distance = np.linalg.norm(centres[:, None] - centres[None], axis=-1)
    missing = (both == 0) & (homotopic_pairs(calibration.region_labels) > 0)
    return np.asarray(np.where(missing, distance, both))


def _stop_if_off_branch(run: Simulation, twin: RestingTwin) -> None:
    largest = float(np.nanmax(run.observations[0].values)) / twin.fixed_point.r
    if largest > _BRANCH_LIMIT:
        raise Unsound(
            "twin-left-rest",
            rule="the simulated brain stays in its resting state",
            got=f"a region at {largest:.1f} times its resting rate",
            action="do not report this scenario; the small-signal twin does not hold for it",
        )


def _fc(bold: np.ndarray) -> np.ndarray:
    correlation = band_spectra(bold, SAMPLING_PERIOD).correlation
    deviation = np.sqrt(np.diag(correlation))
    return np.asarray(correlation / np.outer(deviation, deviation))


def _mean_off_diagonal(matrix: np.ndarray) -> float:
    return float(matrix[np.triu_indices(len(matrix), 1)].mean())


def _endpoints(
    run: Simulation,
    twins: _Twins,
    region: int,
    working_points: np.ndarray,
    chosen: np.ndarray,
    rng_seed: int,
    calibration: RestingStateCalibration,
) -> ScenarioRun:
    count, regions = len(chosen), len(twins.labels)
    time, bold = run.observations[1].time, run.observations[1].values
    rest, resected, stimulated = (bold[i * count : (i + 1) * count] for i in range(3))
    left = np.delete(np.arange(regions), region)
    before = np.stack([_fc(bold) for bold in rest])
    after = np.full_like(before, np.nan)
    for draw in range(count):
        after[draw][np.ix_(left, left)] = _fc(resected[draw][:, left])
    evoked = stimulated - rest
    steady = evoked[:, time > time[-1] / 2].mean(axis=1)
    responding = steady[:, left] > 0.5 * rest.std(axis=1)[:, left]
    endpoints = {
        "resection-mean-fc-change": np.array(
            [
                _mean_off_diagonal(after[d][np.ix_(left, left)]) - _mean_off_diagonal(before[d][np.ix_(left, left)])
                for d in range(count)
            ]
        ),
        "resection-working-point-change": working_points,
        "stimulation-evoked-bold": steady[:, region],
        "stimulation-responding-regions": responding.sum(axis=1).astype(float),
    }
    medians = {
        "baseline_fc": np.median(before, axis=0),
        "resected_fc": np.median(after, axis=0),
        "evoked_bold": np.median(steady, axis=0),
        "evoked_course": np.median(evoked[:, :, region], axis=0),
    }
    manifest = record(
        "vbt.clinical.resting_state.run_scenarios",
        inputs={"draws": np.stack(list(calibration.draws.values())), **{"tract_lengths": twins.lengths}},
        outputs={**medians, **endpoints},
        parameters={"target": region, "draws": [int(d) for d in chosen], "simulation": dict(run.manifest.inputs)},
        seeds=(rng_seed,),
        dt=run.manifest.dt,
        precision=run.manifest.precision,
        batch_shape=run.manifest.batch_shape,
    )
    return ScenarioRun(
        region_labels=twins.labels,
        target=region,
        draws=chosen,
        endpoints=endpoints,
        time=time,
        manifest=manifest,
        **medians,
    )
