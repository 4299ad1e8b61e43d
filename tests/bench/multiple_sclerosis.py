"""Is the conduction velocity that a recording gives the true one, and what is refused?

    python tests/bench/multiple_sclerosis.py velocity --seeds 20 --source exact --json velocity.json
    python tests/bench/multiple_sclerosis.py velocity --seeds 20 --source simulated
    python tests/bench/multiple_sclerosis.py connectome --regions 24 --seeds 20
    python tests/bench/multiple_sclerosis.py order --seeds 20
    python tests/bench/multiple_sclerosis.py peak --seconds 300
    python tests/bench/multiple_sclerosis.py refusals --seeds 20

``velocity``: truths drawn at random, recordings drawn from the model's exact cross-spectrum or simulated by the suite
(delayed, noisy Stuart-Landau masses at .2 ms), each calibrated by the production path (NUTS and gate).
``connectome``: recordings of one connectome, calibrated with a wrong one. ``order``: patients with and without slowed
lesions, and with slower conduction throughout, under one connectome. ``peak``: the alpha peak of the closed form
against simulations. ``refusals``: recordings that must not give a number.

The connectome is The Virtual Brain's connectivity_76 less its two unconnected regions (``--connectome FILE`` with
``weights`` and ``lengths``), or a synthetic one of ``--regions`` regions.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import scipy.signal

from vbt.errors import Rejected
from vbt.inference import SpectralCalibration, calibrate_delayed_spectrum, delayed_spectrum, strength_scaled
from vbt.inference._delayed_spectrum import DelayedNetwork
from vbt.inference._delayed_spectrum_likelihood import SpectralLikelihood
from vbt.inference._delayed_spectrum_sbc import draw_signals, small_connectome
from vbt.simulation import Network, Trajectory, simulate
from vbt.simulation.neural_masses.stuart_landau import StuartLandau

RATE = 250.0
NAMES = ("velocity", "coupling", "gamma")
Truth = dict[str, float]


class Subject:
    """A connectome with lesions on some of its tracts."""

    def __init__(self, arguments: argparse.Namespace, seed: int) -> None:
        rng = np.random.default_rng([seed, 1])
        if arguments.regions:
            self.weights, self.lengths, self.lesions = small_connectome(arguments.regions, seed)
        else:
            archive = np.load(arguments.connectome)
            weights = archive["weights"] * ~np.eye(len(archive["weights"]), dtype=bool)
            connected = np.flatnonzero(weights.sum(axis=0) + weights.sum(axis=1) > 0)
            self.weights = weights[np.ix_(connected, connected)]
            self.lengths = archive["lengths"][np.ix_(connected, connected)]
            shape = self.weights.shape
            lesions = np.triu((rng.random(shape) < 0.15) * rng.uniform(0.1, 0.8, shape), 1)
            self.lesions = lesions + lesions.T
        self.labels = tuple(f"area{i}" for i in range(len(self.weights)))
        self.scaled = strength_scaled(self.weights)

    def truth(self, rng: np.random.Generator) -> Truth:
        return {
            "velocity": rng.uniform(4.0, 12.0),
            "coupling": rng.uniform(600.0, 1400.0),
            "frequency": rng.uniform(37.0, 43.0),
            "decay": rng.uniform(4.0, 7.0),
            "noise": rng.uniform(0.02, 0.1),
            "gamma": rng.uniform(0.3, 2.0),
        }

    def exact(self, truth: Truth, seconds: float, rng: np.random.Generator) -> np.ndarray:
        regions = len(self.weights)
        network = DelayedNetwork.of(self.scaled, self.lengths, self.lesions)
        frequencies = np.arange(2.0, 42.0)
        likelihood = SpectralLikelihood(network, frequencies, np.ones(40), np.zeros((40, regions, regions), complex))
        x = np.array([v if name in ("frequency", "gamma") else np.log(v) for name, v in truth.items()])
        return draw_signals(likelihood, x, int(seconds * RATE), RATE, rng)

    def simulated(
        self, truth: Truth, seconds: float, rng: np.random.Generator, *, sigma: float = 1e-4, spread: float = 0.0
    ) -> np.ndarray:
        """Recorded at 250 Hz behind an anti-aliasing filter, with the same white noise on every channel."""
        regions = len(self.weights)
        natural = truth["frequency"] + spread * rng.normal(size=regions)
        network = Network(
            mass=StuartLandau(a=np.full(regions, -truth["decay"]), omega=2.0 * np.pi * natural),
            weights=self.scaled,
            tract_lengths=self.lengths * (1.0 + truth["gamma"] * self.lesions),
            velocity=truth["velocity"],
            coupling=truth["coupling"],
            sigma=(sigma, sigma),
            instantaneous_below_step=True,
        )
        seed = int(rng.integers(2**31))
        run = simulate([network], [seed], duration=seconds, transient=4.0, monitors=[Trajectory(0.001)], dt=0.2)
        x = run.observations[0].values[0][:, :regions].astype(float)
        x = scipy.signal.decimate(x, 4, ftype="fir", axis=0)
        return np.asarray(x + np.sqrt(truth["noise"]) * x.std() * rng.normal(size=x.shape))

    def calibrated(self, signals: np.ndarray, seed: int, **settings: Any) -> SpectralCalibration:
        settings = {"lesion_fraction": self.lesions, **settings}
        return calibrate_delayed_spectrum(
            self.weights, self.lengths, signals, RATE, region_labels=self.labels, rng_seed=seed, **settings
        )


def _row(found: SpectralCalibration, truth: Truth, began: tuple[float, float]) -> dict[str, Any]:
    row: dict[str, Any] = {
        "sound": found.sound,
        "reasons": found.reasons,
        "chi_square": found.fit.chi_square,
        "connectome_error": found.connectome_error,
        "efficiency": found.fidelity.efficiency,
        "error": found.fidelity.error,
        "starts_agreeing": found.fit.starts_agreeing,
        "cpu": time.process_time() - began[0],
        "wall": time.perf_counter() - began[1],
        "truth": truth,
    }
    for name in (*NAMES, "frequency", "decay"):
        draws = found.draws[name]
        row[name] = {
            "median": float(np.median(draws)),
            "quantile": float((draws < truth[name]).mean()),
            "sd": float(draws.std()),
            "shrinkage": found.diagnostics(name).shrinkage,
        }
    return row


def velocity(arguments: argparse.Namespace) -> dict[str, Any]:
    rows = []
    for seed in range(arguments.first, arguments.first + arguments.seeds):
        rng = np.random.default_rng([seed, 2])
        subject = Subject(arguments, seed)
        truth = subject.truth(rng)
        make = subject.exact if arguments.source == "exact" else subject.simulated
        signals = make(truth, arguments.seconds, rng)
        began = time.process_time(), time.perf_counter()
        rows.append(_row(subject.calibrated(signals, seed, likelihood=arguments.likelihood), truth, began))
        _say(seed, rows[-1])
    return {"rows": rows, "summary": _summary(rows)}


def connectome(arguments: argparse.Namespace) -> dict[str, Any]:
    """Weights, edges or lengths that are wrong in the calibration."""
    tables, every = {}, {}
    for kind, spoil in SPOILT.items():
        if arguments.kind not in kind:
            continue
        rows = []
        for seed in range(arguments.first, arguments.first + arguments.seeds):
            rng = np.random.default_rng([seed, 2])
            subject = Subject(arguments, seed)
            truth = subject.truth(rng)
            signals = subject.exact(truth, arguments.seconds, rng)
            subject.weights, subject.lengths = spoil(subject.weights, subject.lengths, np.random.default_rng([seed, 7]))
            began = time.process_time(), time.perf_counter()
            rows.append(_row(subject.calibrated(signals, seed), truth, began))
            _say(seed, rows[-1])
        every[kind], tables[kind] = rows, _summary(rows)
        print(kind, json.dumps(tables[kind]), flush=True)
    return {"rows": every, "summary": tables}


def _factors(spread: float, regions: int, rng: np.random.Generator) -> np.ndarray:
    upper = np.triu(rng.normal(size=(regions, regions)), 1)
    return np.asarray(np.exp(spread * (upper + upper.T)))


def _lost(weights: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    lost = np.triu(rng.random(weights.shape) < share, 1)
    return np.where(lost | lost.T, 0.0, weights)


SPOILT: dict[str, Callable[[np.ndarray, np.ndarray, np.random.Generator], tuple[np.ndarray, np.ndarray]]] = {
    "weights x lognormal(.3)": lambda w, lengths, rng: (w * _factors(0.3, len(w), rng), lengths),
    "a tenth of edges lost": lambda w, lengths, rng: (_lost(w, 0.1, rng), lengths),
    "a fifth of edges lost": lambda w, lengths, rng: (_lost(w, 0.2, rng), lengths),
    "lengths x lognormal(.05)": lambda w, lengths, rng: (w, lengths * _factors(0.05, len(w), rng)),
}


def _say(seed: int, row: dict[str, Any]) -> None:
    of = " ".join(f"{n} {row['truth'][n]:.3g}~{row[n]['median']:.3g}±{row[n]['sd']:.2g}" for n in NAMES)
    print(f"{seed:3d} {'sound' if row['sound'] else row['reasons']} {of} chi {row['chi_square']:.2f}", end=" ")
    print(f"weights off {row['connectome_error']:.2f} eff {row['efficiency']:.3f}", end=" ")
    print(f"cpu {row['cpu']:.0f} s wall {row['wall']:.0f} s", flush=True)


def _summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    sound = [row for row in rows if row["sound"]]
    table: dict[str, Any] = {"recordings": len(rows), "sound": len(sound)}
    for name in NAMES:
        error = np.array([abs(row[name]["median"] / row["truth"][name] - 1.0) for row in sound])
        quantile = np.array([row[name]["quantile"] for row in sound])
        z = np.array([(row[name]["median"] - row["truth"][name]) / row[name]["sd"] for row in sound])
        table[name] = {
            "median_error": float(np.median(error)),
            "largest_error": float(error.max()),
            "within_10_percent": float((error <= 0.1).mean()),
            "cover90": float(((quantile > 0.05) & (quantile < 0.95)).mean()),
            "cover50": float(((quantile > 0.25) & (quantile < 0.75)).mean()),
            "rms_z": float(np.sqrt((z**2).mean())),
            "relative_sd": float(np.median([row[name]["sd"] / row["truth"][name] for row in sound])),
        }
    for name in ("cpu", "wall", "chi_square", "efficiency", "error", "connectome_error"):
        values = [row[name] for row in rows]
        table[name] = {"median": float(np.median(values)), "least": float(min(values)), "most": float(max(values))}
    return table


def order(arguments: argparse.Namespace) -> dict[str, Any]:
    rows = []
    for seed in range(arguments.first, arguments.first + arguments.seeds):
        rng = np.random.default_rng([seed, 3])
        subject = Subject(arguments, seed)
        truth = subject.truth(rng)
        cases = {
            "healthy": {**truth, "gamma": 0.0},
            "lesioned": {**truth, "gamma": rng.uniform(0.5, 2.0)},
            "slowed": {**truth, "gamma": 0.0, "velocity": 0.85 * truth["velocity"]},
        }
        found = {
            name: subject.calibrated(subject.simulated(case, arguments.seconds, rng), seed)
            for name, case in cases.items()
        }
        median = {name: {n: fit.interval(n)[0] for n in ("velocity", "gamma")} for name, fit in found.items()}
        rows.append(
            {
                "lesioned_above_healthy": median["lesioned"]["gamma"] > median["healthy"]["gamma"],
                "slowed_below_healthy": median["slowed"]["velocity"] < median["healthy"]["velocity"],
                "sound": {name: fit.sound for name, fit in found.items()},
                "reasons": {name: fit.reasons for name, fit in found.items()},
                "median": median,
                "truth": cases,
            }
        )
        print(seed, {k: v for k, v in rows[-1].items() if k not in ("truth",)}, flush=True)
    summary = {
        "pairs": len(rows),
        "lesioned_above_healthy": sum(row["lesioned_above_healthy"] for row in rows),
        "slowed_below_healthy": sum(row["slowed_below_healthy"] for row in rows),
        "sound": sum(all(row["sound"].values()) for row in rows),
    }
    return {"rows": rows, "summary": summary}


def peak(arguments: argparse.Namespace) -> dict[str, Any]:
    """The highest point within 4 to 20 Hz of the median power over regions: of the closed form and of simulations.

    A periodogram of minutes places a maximum many Hz wide no better than to a Hz. So every region's simulated power is
    the closed form times the exponential of a parabola in frequency, fitted by Whittle's likelihood to the bins within
    4 Hz of the closed form's peak: free to move the peak either way, and without the noise of single bins.
    """
    subject, rows = Subject(arguments, 0), []
    for at, speed in enumerate((5.0, 6.0, 8.0, 10.0, 12.0, 15.0)):
        rng = np.random.default_rng([at, 4])
        truth = {"velocity": speed, "coupling": 1000.0, "frequency": 40.0, "decay": 5.0, "noise": 0.0, "gamma": 0.0}
        x = subject.simulated(truth, arguments.seconds, rng)
        fine = np.arange(2.0, 24.0, 0.02)
        settings = {name: truth[name] for name in ("velocity", "coupling", "frequency", "decay")}
        closed = delayed_spectrum(subject.scaled, subject.lengths, frequencies=fine, **settings)
        expected = np.diagonal(closed, axis1=1, axis2=2).real
        closed_form = _peak(fine, expected)
        near = np.abs(fine - closed_form) <= PEAK_WINDOW
        simulated = _peak(fine[near], _parabolic(x, fine[near], expected[near], closed_form))
        rows.append(
            {
                "velocity": speed,
                "closed_form": closed_form,
                "simulated": simulated,
                "difference": simulated - closed_form,
            }
        )
        print(rows[-1], flush=True)
    return {"rows": rows, "summary": {"largest_difference": max(abs(row["difference"]) for row in rows)}}


PEAK_WINDOW = 4.0


def _parabolic(x: np.ndarray, fine: np.ndarray, expected: np.ndarray, centre: float) -> np.ndarray:
    """Each region's power on ``fine``, the closed form corrected by the recording."""
    grid = np.fft.rfftfreq(len(x), 1.0 / RATE)
    inside = (grid >= fine[0]) & (grid <= fine[-1])
    power = np.abs(np.fft.rfft(x, axis=0)[inside]) ** 2
    design, smooth = (np.vander((f - centre) / PEAK_WINDOW, 3) for f in (grid[inside], fine))
    corrected = []
    for measured, shape in zip(power.T, expected.T, strict=True):
        ratio = measured / np.interp(grid[inside], fine, shape)
        beta = np.array([0.0, 0.0, np.log(ratio.mean())])
        for _ in range(20):  # Fisher scoring of an exponential regression: the information is that of the design
            beta = beta + np.linalg.lstsq(design, ratio * np.exp(-design @ beta) - 1.0, rcond=None)[0]
        corrected.append(shape * np.exp(smooth @ beta))
    return np.stack(corrected, axis=1)


def _peak(frequencies: np.ndarray, power: np.ndarray) -> float:
    """Of the median region."""
    inside = (frequencies >= 4.0) & (frequencies <= 20.0)
    return float(frequencies[inside][np.median(power[inside], axis=1).argmax()])


def refusals(arguments: argparse.Namespace) -> dict[str, Any]:
    """Every kind of recording that must not give a number, ``--seeds`` of each; and some that should."""
    kinds: dict[str, Callable[[Subject, np.random.Generator, int], SpectralCalibration]] = {
        "good": lambda s, rng, seed: s.calibrated(s.simulated(s.truth(rng), 60.0, rng), seed),
        "not identifiable: 10 to 19 s": lambda s, rng, seed: s.calibrated(
            s.exact(s.truth(rng), rng.uniform(10.0, 19.0), rng), seed
        ),
        "not identifiable: 1 to 3 channels": _few_channels,
        "not identifiable: no rhythm": lambda s, rng, seed: s.calibrated(rng.normal(size=(15000, len(s.labels))), seed),
        "not converged: 4 x 25 draws": lambda s, rng, seed: s.calibrated(
            s.exact(s.truth(rng), 60.0, rng), seed, warmup=25, draws=25, rounds=1
        ),
        "out of distribution: 1/f": lambda s, rng, seed: s.calibrated(_pink(rng, len(s.labels)), seed),
        "out of distribution: limit cycles": lambda s, rng, seed: s.calibrated(
            s.simulated({**s.truth(rng), "decay": -rng.uniform(20.0, 60.0)}, 60.0, rng, sigma=0.3), seed
        ),
        "widened, not refused: 40 ± 8 Hz": lambda s, rng, seed: s.calibrated(
            s.simulated(s.truth(rng), 60.0, rng, spread=8.0), seed
        ),
        "out of distribution: another connectome": _permuted,
    }
    rows: dict[str, list[dict[str, Any]]] = {}
    for kind, make in kinds.items():
        if arguments.kind not in kind:
            continue
        rows[kind] = []
        for seed in range(arguments.first, arguments.first + arguments.seeds):
            subject, rng = Subject(arguments, seed), np.random.default_rng([seed, 5])
            began = time.process_time()
            try:
                found = make(subject, rng, seed)
                row = {"refused": not found.sound, "reasons": list(found.reasons), "chi_square": found.fit.chi_square}
                row |= {"connectome_error": found.connectome_error}
            except Rejected as rejection:
                row = {"refused": True, "reasons": [rejection.code], "chi_square": float("nan")}
            rows[kind].append({**row, "cpu": time.process_time() - began})
        count = sum(row["refused"] for row in rows[kind])
        print(f"{kind:45s} {count:3d} of {len(rows[kind])} refused; e.g. {rows[kind][0]}", flush=True)
    return {"rows": rows, "summary": {kind: sum(row["refused"] for row in found) for kind, found in rows.items()}}


def _few_channels(subject: Subject, rng: np.random.Generator, seed: int) -> SpectralCalibration:
    gain = rng.normal(size=(int(rng.integers(1, 4)), len(subject.labels)))
    return subject.calibrated(subject.exact(subject.truth(rng), 60.0, rng) @ gain.T, seed, gain=gain)


def _permuted(subject: Subject, rng: np.random.Generator, seed: int) -> SpectralCalibration:
    signals = subject.simulated(subject.truth(rng), 60.0, rng)
    return subject.calibrated(signals[:, rng.permutation(signals.shape[1])], seed)


def _pink(rng: np.random.Generator, regions: int) -> np.ndarray:
    grid = np.fft.rfftfreq(15000)
    white = np.fft.rfft(rng.normal(size=(15000, regions)), axis=0)
    return np.asarray(np.fft.irfft(white / np.sqrt(np.maximum(grid, grid[1]))[:, None], n=15000, axis=0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    studies = {"velocity": velocity, "connectome": connectome, "order": order, "peak": peak, "refusals": refusals}
    parser.add_argument("study", choices=tuple(studies))
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--source", choices=("exact", "simulated"), default="exact")
    parser.add_argument("--likelihood", choices=("cross-spectrum", "power"), default="cross-spectrum")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--regions", type=int, default=0, help="a synthetic connectome of so many regions")
    parser.add_argument("--kind", default="", help="only the refusals whose name holds this")
    cached = Path.home() / ".cache" / "vbt-bench" / "connectivity_76.npz"
    parser.add_argument("--connectome", type=Path, default=cached)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    result = studies[arguments.study](arguments)
    print(json.dumps(result["summary"], indent=1))
    if arguments.json:
        arguments.json.write_text(json.dumps({"arguments": {k: str(v) for k, v in vars(arguments).items()}, **result}))


if __name__ == "__main__":
    main()
