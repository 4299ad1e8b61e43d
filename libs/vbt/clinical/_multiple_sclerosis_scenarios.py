"""What would change: lesions remyelinated, conduction in them eased, and years with and without a therapy.

Over posterior draws, in the closed spectrum, without simulation. Each draw has its own rates and its own chance events;
therapies are compared over the same ones.
"""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from vbt.clinical._multiple_sclerosis_calibration import ConductionCalibration, conductions, wiring_of
from vbt.clinical._multiple_sclerosis_progression import (
    THERAPIES,
    Damage,
    Events,
    RatePriors,
    Rates,
    Therapy,
    WhiteMatter,
)
from vbt.clinical._multiple_sclerosis_rhythm import Conduction, Wiring
from vbt.clinical.application import Progress, Recordings
from vbt.connectome import Connectome
from vbt.errors import Unsound
from vbt.simulation import ReplayManifest, one_blas_thread, record

DRAWS = 100
YEARS = (0.0, 1.0, 2.0, 3.5, 5.0)
EASED = 0.5  # of the lesion delay factor, that a drug like fampridine is supposed to leave
# code: (label, UCUM unit)
ENDPOINTS = {
    "effective-velocity": ("Effective conduction velocity", "m/s"),
    "alpha-frequency": ("Alpha gravity frequency", "Hz"),
    "efficiency": ("Network efficiency relative to now", "%"),
    "demyelinated": ("Demyelinated axons", "%"),
    "lost": ("Axons lost since now", "%"),
}
IMMEDIATE = {
    "effective-velocity": ("Change of the effective conduction velocity", "m/s"),
    "mean-delay": ("Change of the mean delay", "ms"),
    "alpha-frequency": ("Change of the alpha gravity frequency", "Hz"),
    "alpha-share": ("Change of the part of the power from 8 to 13 Hz", "%"),
}
NOT_KNOWN = "how much lesions delay is not identifiable from this recording"
NO_LESIONS = "no lesion meets a tract of this connectome"


@dataclass(frozen=True, kw_only=True)
class ConductionRun:
    """Interventions on conduction, each beside the untouched twin.

    Parameters
    ----------
    withheld : why nothing was tried; empty where it was
    draws : indices of the posterior draws, chains joined end to end
    years : from now
    therapies : the first is none
    remyelinated, eased : change of each quantity of `IMMEDIATE`, one per draw
    courses : per quantity of `ENDPOINTS` its value in each future
    new_lesions : in each future until the last year
    """

    withheld: str
    draws: Int[np.ndarray, " draw"]
    years: Float[np.ndarray, " year"]
    therapies: tuple[Therapy, ...]
    remyelinated: Mapping[str, Float[np.ndarray, " draw"]]
    eased: Mapping[str, Float[np.ndarray, " draw"]]
    courses: Mapping[str, Float[np.ndarray, "therapy draw year"]]
    new_lesions: Float[np.ndarray, "therapy draw"]
    manifest: ReplayManifest

    def to_npz(self) -> bytes:
        """An ``.npz`` archive without pickles, the same bytes for the same run."""
        plain = {
            "withheld": self.withheld,
            "therapies": [dataclasses.asdict(therapy) for therapy in self.therapies],
            "manifest": dataclasses.asdict(self.manifest),
        }
        arrays = {name: getattr(self, name) for name in _ARRAYS}
        for group in _GROUPS:
            arrays |= {f"{group}/{name}": values for name, values in getattr(self, group).items()}
        buffer = io.BytesIO()
        np.savez_compressed(buffer, record=np.array(json.dumps(plain, sort_keys=True)), **arrays)
        return buffer.getvalue()

    @classmethod
    def from_npz(cls, content: bytes) -> ConductionRun:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            plain = json.loads(str(archive["record"]))
            groups: dict[str, dict[str, np.ndarray]] = {group: {} for group in _GROUPS}
            for name in archive.files:
                group, _, key = name.partition("/")
                if key:
                    groups[group][key] = archive[name]
            return cls(
                withheld=plain["withheld"],
                therapies=tuple(Therapy(**therapy) for therapy in plain["therapies"]),
                manifest=ReplayManifest.from_json(json.dumps(plain["manifest"])),
                draws=archive["draws"],
                years=archive["years"],
                new_lesions=archive["new_lesions"],
                remyelinated=groups["remyelinated"],
                eased=groups["eased"],
                courses=groups["courses"],
            )


_ARRAYS = ("draws", "years", "new_lesions")
_GROUPS = ("remyelinated", "eased", "courses")


@one_blas_thread
def run_scenarios(
    connectome: Connectome,
    recordings: Recordings,
    calibration: ConductionCalibration,
    /,
    *,
    rng_seed: int,
    duration: float = 0.0,
    progress: Progress,
    draws: int = DRAWS,
    years: tuple[float, ...] = YEARS,
    therapies: tuple[Therapy, ...] = THERAPIES,
    rates: RatePriors | None = None,
) -> ConductionRun:
    """Remyelination, eased conduction, and the coming years under each therapy.

    Parameters
    ----------
    duration : not used; the spectra are closed forms
    years : ascending, the first is 0
    therapies : the first is the one that the others are compared with

    Raises
    ------
    Unsound : where the calibration is unsound
    """
    del duration
    if not calibration.sound:
        raise Unsound(
            "calibration-unsound",
            rule="scenarios are run on a calibration that passed its gate only",
            got=f"{len(calibration.reasons)} failed checks",
            action="see the calibration's reasons; do not use this twin",
        )
    wiring = wiring_of(connectome, recordings, calibration)
    withheld = ""
    if not calibration.gamma_known:
        withheld = NOT_KNOWN if wiring.lesioned.any() else NO_LESIONS
    chosen, points = conductions(calibration, 0 if withheld else draws)
    futures = _Futures(connectome, recordings, calibration, wiring, np.array(years), therapies, rates or RatePriors())
    seeds = np.random.SeedSequence(rng_seed).spawn(len(points))
    with ThreadPoolExecutor(2) as pool:
        found = []
        work = [pool.submit(futures.of, point, seed) for point, seed in zip(points, seeds, strict=True)]
        for number, future in enumerate(work):
            found.append(future.result())
            progress("years with and without therapies", (number + 1) / len(work))
    remyelinated, eased = _immediate(wiring, points)
    courses = {
        name: np.array([[one[t][name] for one, _ in found] for t in range(len(therapies))]) for name in ENDPOINTS
    }
    new_lesions = np.array([[count[t] for _, count in found] for t in range(len(therapies))], dtype=float)
    return ConductionRun(
        withheld=withheld,
        draws=chosen,
        years=np.array(years),
        therapies=therapies,
        remyelinated=remyelinated,
        eased=eased,
        courses=courses,
        new_lesions=new_lesions,
        manifest=record(
            "vbt.clinical.multiple_sclerosis.run_scenarios",
            inputs={"weights": connectome.weights, "tract_lengths": connectome.tract_lengths},
            outputs={name: np.asarray(values) for name, values in courses.items()},
            parameters={"draws": draws, "years": list(years), "therapies": [t.code for t in therapies]},
            seeds=(rng_seed,),
            dt=None,
            precision="double",
            batch_shape=(len(points),),
            prng="PCG64",
        ),
    )


def _immediate(wiring: Wiring, points: list[Conduction]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Changes when lesions delay no more, and when they delay half as much."""
    now = [_quantities(wiring, point) for point in points]
    changes = []
    for left in (0.0, EASED):
        then = [_quantities(wiring, dataclasses.replace(point, gamma=left * point.gamma)) for point in points]
        changes.append(
            {
                name: np.array([after[name] - before[name] for before, after in zip(now, then, strict=True)])
                for name in IMMEDIATE
            }
        )
    return changes[0], changes[1]


def _quantities(wiring: Wiring, point: Conduction) -> dict[str, float]:
    rhythm = wiring.rhythm(point)
    return {
        "effective-velocity": wiring.effective_velocity(point),
        "mean-delay": wiring.mean(wiring.plain_delays(point) + wiring.extra_delays(point)),
        "alpha-frequency": rhythm.centre,
        "alpha-share": 100.0 * rhythm.alpha_share,
    }


class _Futures:
    """The futures of one patient's network."""

    def __init__(
        self,
        connectome: Connectome,
        recordings: Recordings,
        calibration: ConductionCalibration,
        wiring: Wiring,
        years: Float[np.ndarray, " year"],
        therapies: tuple[Therapy, ...],
        rates: RatePriors,
    ) -> None:
        self._wiring, self._years, self._therapies, self._rates = wiring, years, therapies, rates
        self._white = WhiteMatter(
            wiring.weights,
            wiring.tract_lengths,
            connectome.centres[calibration.used_regions],
            lesioned=wiring.lesioned,
            lesions=recordings.lesions.lesions if recordings.lesions else 0,
        )
        self._efficiency = wiring.efficiency()

    def of(self, point: Conduction, seed: np.random.SeedSequence) -> tuple[list[dict[str, list[float]]], list[int]]:
        """Every therapy's course over the years in one future, and how many new lesions it lets through."""
        rng = np.random.default_rng(seed)
        rates = self._rates.drawn(rng)
        events = self._white.events(float(self._years[-1]), rates, rng)
        seen: dict[object, dict[str, float]] = {}
        courses = [self._course(point, rates, events, therapy, seen) for therapy in self._therapies]
        return courses, [int((events.marks < therapy.relative_risk).sum()) for therapy in self._therapies]

    def _course(
        self, point: Conduction, rates: Rates, events: Events, therapy: Therapy, seen: dict[object, dict[str, float]]
    ) -> dict[str, list[float]]:
        start = Damage(self._wiring.lesioned, np.zeros(self._wiring.lesioned.shape))
        states = self._white.course(start, events, rates, therapy, self._years)
        values = []
        for year, state in zip(self._years, states, strict=True):
            kept = np.flatnonzero((events.marks < therapy.relative_risk) & (events.times <= year))
            # Therapies under which the same lesions came have the same brain.
            key = (float(year), therapy.repair, kept.tobytes())
            if key not in seen:
                seen[key] = self._values(point, state)
            values.append(seen[key])
        return {name: [value[name] for value in values] for name in ENDPOINTS}

    def _values(self, point: Conduction, state: Damage) -> dict[str, float]:
        wiring = dataclasses.replace(
            self._wiring, weights=self._wiring.weights * (1.0 - state.lost), lesioned=state.of_survivors
        )
        return {
            "effective-velocity": wiring.effective_velocity(point),
            "alpha-frequency": wiring.rhythm(point).centre,
            "efficiency": 100.0 * wiring.efficiency() / self._efficiency,
            "demyelinated": 100.0 * self._white.share(state.demyelinated),
            "lost": 100.0 * self._white.share(state.lost),
        }
