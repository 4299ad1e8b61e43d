"""Resections and stimulation tried on an epileptic twin over posterior draws, and random resections beside them."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import nibabel as nib
import numpy as np
from jaxtyping import Bool, Float, Int

from vbt.clinical._epilepsy_gain import region_volumes
from vbt.clinical._epilepsy_resections import RegionSet, minimal, random_sets, resectable, search, tried
from vbt.clinical._epilepsy_rest import leading_eigenvalue, margin, network_thresholds
from vbt.clinical._epilepsy_seen import coupling_unknown, seen
from vbt.clinical._epilepsy_stimulation import TRAINS, provoked
from vbt.clinical._epilepsy_twins import TIME_STEP, Twins, coupling_weights, evenly, unseen_as_healthy
from vbt.clinical.application import Recordings
from vbt.connectome import Connectome
from vbt.errors import Rejected, Unsound
from vbt.inference import SeizureCalibration
from vbt.simulation import ReplayManifest, one_blas_thread, record

DRAWS = 100  # behind every number reported; 100 of 100 has a 90 % interval from 0.97
CHOOSING_DRAWS = 0.5  # for each draw reported; those that choose the best set are not those behind its number
SCREENING_DRAWS = 16  # of the search, that finds what is worth all choosing draws
SUSPECTS = 8
LARGEST = 4  # regions in a searched set
LISTED = 8  # searched sets that are run with all draws
FUTILE = 3  # sets listed although no draw is free of seizures without them
RANDOM_SETS = 20  # per size
STIMULATED = 4
_LEAST_UNITS, _MOST_UNITS = 200.0, 400.0  # in 200 units z has forgotten its start; rest is lost by then or kept

Origin = Literal["none", "searched", "clinician", "random"]


@dataclass(frozen=True, kw_only=True)
class Resection:
    """A set of regions removed from the twin, and who proposed it; indices among the regions of the calibration."""

    regions: tuple[int, ...]
    origin: Origin


@dataclass(frozen=True, kw_only=True)
class SeizureScenarios:
    """What became of the twin's seizures.

    Parameters
    ----------
    draws : indices of the posterior draws behind every number, chains joined end to end
    choosing : indices of the others, by which suspects and sets were ranked
    volumes : cm³ of every region
    resections : the untouched twin first, then the searched sets, the best by the choosing draws first, the
        clinician's, and random ones of as many regions as the best and the clinician's
    spread : how many regions seize; no seizure where 0
    reserve : by how much all excitabilities could still rise together without a seizure, negative
        where rest is lost already, NaN for random sets
    recruited : fraction of draws in which each region seizes in the untouched twin
    thresholds : excitability above which each region seizes by itself where it sits, its neighbours at rest
    leading : largest real part of the coupled Jacobian's eigenvalues, per unit of model time
    unseen : regions taken not to start seizures, since the recording does not inform them
    stimulated : regions; provoked : whether a seizure followed, for trains of 50 and of 1 Hz
    searched : how many sets the search tried
    withheld : why nothing was run, with no draws then; empty otherwise
    """

    region_labels: tuple[str, ...]
    draws: Int[np.ndarray, " draw"]
    choosing: Int[np.ndarray, " choosing_draw"]
    volumes: Float[np.ndarray, " region"]
    resections: tuple[Resection, ...]
    spread: Int[np.ndarray, "resection draw"]
    reserve: Float[np.ndarray, "resection draw"]
    recruited: Float[np.ndarray, " region"]
    thresholds: Float[np.ndarray, "draw region"]
    leading: Float[np.ndarray, " draw"]
    unseen: Bool[np.ndarray, " region"]
    stimulated: Int[np.ndarray, " target"]
    provoked: Bool[np.ndarray, "train target draw"]
    searched: int
    manifest: ReplayManifest
    withheld: str = ""

    def free(self, index: int) -> float:
        """Fraction of draws without a seizure after a resection."""
        return float((self.spread[index] == 0).mean())

    def volume(self, index: int) -> float:
        """cm³ removed."""
        return float(self.volumes[list(self.resections[index].regions)].sum())

    def of(self, origin: Origin) -> list[int]:
        """Indices of the resections of one origin."""
        return [index for index, resection in enumerate(self.resections) if resection.origin == origin]

    def name(self, index: int) -> str:
        """The regions removed, as a clinician reads them."""
        return " + ".join(self.region_labels[region] for region in self.resections[index].regions) or "none"

    def to_npz(self) -> bytes:
        """An ``.npz`` archive without pickles, the same bytes for the same scenarios."""
        buffer = io.BytesIO()
        plain = {
            "region_labels": self.region_labels,
            "resections": [dataclasses.asdict(resection) for resection in self.resections],
            "searched": self.searched,
            "withheld": self.withheld,
            "manifest": dataclasses.asdict(self.manifest),
        }
        arrays = {name: getattr(self, name) for name in _ARRAYS}
        np.savez_compressed(buffer, record=np.array(json.dumps(plain, sort_keys=True)), **arrays)
        return buffer.getvalue()

    @classmethod
    def from_npz(cls, content: bytes) -> SeizureScenarios:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            plain = json.loads(str(archive["record"]))
            return cls(
                region_labels=tuple(plain["region_labels"]),
                resections=tuple(
                    Resection(regions=tuple(r["regions"]), origin=r["origin"]) for r in plain["resections"]
                ),
                searched=plain["searched"],
                withheld=plain["withheld"],
                manifest=ReplayManifest.from_json(json.dumps(plain["manifest"])),
                **{name: archive[name] for name in _ARRAYS},
            )


_ARRAYS = (
    "draws", "choosing", "volumes", "spread", "reserve", "recruited", "thresholds", "leading", "unseen", "stimulated",
    "provoked",
)  # fmt: skip


@one_blas_thread
def run_scenarios(
    connectome: Connectome,
    recordings: Recordings,
    calibration: SeizureCalibration,
    /,
    *,
    rng_seed: int,
    duration: float,
    progress: Callable[[str, float], None],
    draws: int = DRAWS,
) -> SeizureScenarios:
    """Remove and stimulate regions of the twin over posterior draws, from the quiet time between seizures on.

    Nothing is run where the recording does not tell the coupling, since all of this follows from it.

    Parameters
    ----------
    recordings : with ``labels``, and with the clinician's ``resection`` where there is one
    duration : s of each run; no less than 200 and no more than 400 units of model time are run
    draws : number of posterior draws behind every number, two or more, spread evenly over the chains; half as many
        again choose what is reported. Where the posterior has fewer, a third of it chooses

    Raises
    ------
    Rejected
        ``labels-missing`` without a labels image; ``resection-unknown-region`` where the clinician's set names one.
    Unsound
        where the calibration is unsound.
    """
    if not calibration.sound:
        raise Unsound(
            "calibration-unsound",
            rule="scenarios are run on a calibration that passed its gate only",
            got=f"{len(calibration.reasons)} failed checks",
            action="see the calibration's reasons; do not use this twin",
        )
    laboratory = _Laboratory(connectome, recordings, calibration, duration, draws, progress)
    if why := coupling_unknown(calibration):
        return laboratory.nothing(why, rng_seed)
    laboratory.rank_suspects()
    resections, searched = laboratory.candidates(rng_seed)
    return laboratory.measured(resections, searched, rng_seed)


class _Laboratory:
    """The twins of some posterior draws, and what is to be known of them before anything is removed."""

    def __init__(
        self,
        connectome: Connectome,
        recordings: Recordings,
        calibration: SeizureCalibration,
        duration: float,
        draws: int,
        progress: Callable[[str, float], None],
    ) -> None:
        self.labels, self.progress = calibration.region_labels, progress
        used = calibration.used_regions
        total = calibration.draws["K"].size
        spread = evenly(total, round((1.0 + CHOOSING_DRAWS) * draws))
        self.choosing, self.chosen = spread[1::3], np.delete(spread, slice(1, None, 3))
        self.unseen = ~seen(calibration)
        self.seconds_per_unit = calibration.seconds_per_unit
        weights = coupling_weights(connectome.weights[np.ix_(used, used)])
        units = float(np.clip(duration / self.seconds_per_unit, _LEAST_UNITS, _MOST_UNITS))

        def twins_of(indices: Int[np.ndarray, " draw"]) -> Twins:
            eta = calibration.draws["eta"].reshape(total, -1)[indices]
            return Twins(
                eta=unseen_as_healthy(eta, ~self.unseen),
                coupling=calibration.draws["K"].ravel()[indices],
                weights=weights,
                units=units,
            )

        self.scouts, self.twins = twins_of(self.choosing), twins_of(self.chosen)
        self.volumes = region_volumes(require_labels(recordings), len(connectome.region_labels))[used]
        self.clinician = _indices(recordings.resection, self.labels)
        self.suspects: list[int] = []

    @property
    def size(self) -> int:
        return len(self.chosen)

    def rank_suspects(self) -> None:
        """Find which regions to suspect, by the choosing draws."""
        self.progress("untouched twin", 0.0)
        self.suspects = _suspects(self.scouts)

    def nothing(self, why: str, rng_seed: int) -> SeizureScenarios:
        """No draws, and the reason."""
        regions = len(self.labels)
        outcomes: dict[str, Any] = {
            "spread": np.zeros((1, 0), dtype=int), "reserve": np.zeros((1, 0)),
            "recruited": np.full(regions, np.nan), "thresholds": np.zeros((0, regions)), "leading": np.zeros(0),
            "provoked": np.zeros((len(TRAINS), 0, 0), dtype=bool),
        }  # fmt: skip
        none, self.chosen, self.choosing = [Resection(regions=(), origin="none")], self.chosen[:0], self.choosing[:0]
        return self._scenarios(none, outcomes, [], 0, rng_seed, why)

    def candidates(self, rng_seed: int) -> tuple[list[Resection], int]:
        """What is to be run with all draws, and how many sets were tried to find it."""
        equal = [int(region) for region in np.flatnonzero(resectable(self.labels) & ~self.unseen)]
        pool = [region for region in self.suspects if region in equal][:SUSPECTS]
        pool += [region for region in self.clinician if region not in pool]
        screening = min(SCREENING_DRAWS, len(self.choosing))

        def recruit(sets: Sequence[RegionSet]) -> Int[np.ndarray, "set draw"]:
            found = self.scouts.recruited(
                sets, screening, lambda done: self.progress("searching resections", 0.3 * done)
            )
            return np.asarray(found.sum(axis=2))

        found = search(pool, recruit, self.volumes, LARGEST) if pool else ()
        worth = [one for place, one in enumerate(minimal(found)[:LISTED]) if one.free > 0.0 or place < FUTILE]
        return listed(self._ranked([one.regions for one in worth]), self.clinician, equal, rng_seed), len(found)

    def _ranked(self, sets: list[RegionSet]) -> list[RegionSet]:
        """The best first, by all choosing draws."""
        if not sets:
            return []
        counts = self.scouts.recruited(
            sets, len(self.choosing), lambda done: self.progress("searching resections", 0.3 + 0.1 * done)
        ).sum(axis=2)
        return [one.regions for one in sorted(tried(sets, counts, self.volumes), key=lambda one: one.rank)]

    def measured(self, resections: list[Resection], searched: int, rng_seed: int) -> SeizureScenarios:
        """Every resection with all draws, and stimulation."""
        recruited = self.twins.recruited(
            [resection.regions for resection in resections],
            self.size,
            lambda done: self.progress("resections", 0.4 + 0.4 * done),
        )
        self.progress("reserves", 0.8)
        reserve = np.array([self._reserve(resection) for resection in resections])
        targets = [region for region in self.suspects if not self.unseen[region]][:STIMULATED]
        answers = provoked(
            self.twins,
            targets,
            self.size,
            self.seconds_per_unit,
            lambda done: self.progress("stimulation", 0.9 + 0.1 * done),
        )
        leading = np.array(
            [
                leading_eigenvalue(self.twins.eta[draw], float(self.twins.coupling[draw]), self.twins.weights)
                for draw in range(self.size)
            ]
        )
        outcomes = {
            "spread": recruited.sum(axis=2), "reserve": reserve, "recruited": recruited[0].mean(axis=0),
            "thresholds": _thresholds(self.twins), "leading": leading, "provoked": answers,
        }  # fmt: skip
        return self._scenarios(resections, outcomes, targets, searched, rng_seed)

    def _scenarios(
        self,
        resections: list[Resection],
        outcomes: dict[str, Any],
        targets: list[int],
        searched: int,
        rng_seed: int,
        withheld: str = "",
    ) -> SeizureScenarios:
        return SeizureScenarios(
            region_labels=self.labels,
            draws=self.chosen,
            choosing=self.choosing,
            volumes=self.volumes,
            resections=tuple(resections),
            unseen=self.unseen,
            stimulated=np.array(targets, dtype=int),
            searched=searched,
            withheld=withheld,
            manifest=record(
                "vbt.clinical.epilepsy.run_scenarios",
                inputs={"eta": self.twins.eta, "K": self.twins.coupling, "weights": self.twins.weights},
                outputs=outcomes,
                parameters={
                    "draws": [int(draw) for draw in self.chosen],
                    "choosing": [int(draw) for draw in self.choosing],
                    "units": self.twins.units,
                    "resections": [list(resection.regions) for resection in resections],
                    "trains": {f"{frequency:g} Hz": seconds for frequency, seconds in TRAINS.items()},
                },
                seeds=(rng_seed,),
                dt=TIME_STEP,
                precision="single",
                batch_shape=(len(self.labels),),
            ),
            **outcomes,
        )

    def _reserve(self, resection: Resection) -> list[float]:
        left = np.delete(np.arange(len(self.labels)), list(resection.regions))
        if resection.origin == "random" or not len(left):
            return [float("nan")] * self.size
        weights = self.twins.weights[np.ix_(left, left)]
        return [
            margin(eta[left], float(coupling), weights)
            for eta, coupling in zip(self.twins.eta, self.twins.coupling, strict=True)
        ]


def listed(
    searched: Sequence[RegionSet], clinician: RegionSet, candidates: Sequence[int], seed: int
) -> list[Resection]:
    """The untouched twin, the searched sets, the clinician's, and random sets of as many regions.

    Parameters
    ----------
    searched : the best first
    candidates : regions that the search may propose, of which random sets are drawn
    """
    found = [Resection(regions=(), origin="none")]
    found += [Resection(regions=regions, origin="searched") for regions in searched]
    if clinician:
        found.append(Resection(regions=clinician, origin="clinician"))
    for size in sorted({len(regions) for regions in (*searched[:1], clinician) if regions}):
        if size < len(candidates):
            sets = random_sets(candidates, size, RANDOM_SETS, seed)
            found += [Resection(regions=regions, origin="random") for regions in sets]
    return found


def _suspects(twins: Twins) -> list[int]:
    """Regions by how often they start seizures on their own, then by how often and how nearly they seize."""
    above = twins.eta - _thresholds(twins)
    seizes = twins.recruited([()], len(twins.eta))[0].mean(axis=0)
    return [int(region) for region in np.lexsort((-np.median(above, axis=0), -seizes, -(above > 0.0).mean(axis=0)))]


def _thresholds(twins: Twins) -> Float[np.ndarray, "draw region"]:
    found = [
        network_thresholds(eta, float(coupling), twins.weights)
        for eta, coupling in zip(twins.eta, twins.coupling, strict=True)
    ]
    return np.stack(found)


def require_labels(recordings: Recordings) -> nib.Nifti1Image:
    """The labels image.

    Raises
    ------
    Rejected : ``labels-missing``
    """
    if recordings.labels is None:
        raise Rejected(
            "labels-missing",
            rule="an epileptic twin needs the labelled brain that its connectome was built on",
            got="a connectome without its labels",
            action="build the connectome of the case again",
        )
    return recordings.labels


def _indices(chosen: tuple[str, ...], labels: tuple[str, ...]) -> tuple[int, ...]:
    unknown = [label for label in chosen if label not in labels]
    if unknown:
        raise Rejected(
            "resection-unknown-region",
            rule="a planned resection names regions of the twin, such as lh.hippocampus",
            got=f"{len(unknown)} of {len(chosen)} names that are none",
            action="attach the plan again with the labels of the parcellation",
        )
    return tuple(sorted({labels.index(label) for label in chosen}))
