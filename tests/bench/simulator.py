"""Simulated seconds per second of one core: ours against the field's simulators on the same problem in the same run.

    python tests/bench/simulator.py [--json] [--quick] [--only single sweep …] [--peers tvboptim tvb …] [--core 1]

Makes each peer's environment under ~/.cache/vbt-bench on first use (uv or pip, a few minutes); tvb-data, among them,
brings the connectome. Everybody runs pinned to one core; time is processor time. The problem: Montbrió-Pazó-Roxin on
connectivity_76 (weights / maximum, 1560 tracts), 4 m/s, 0.1 ms, stochastic Heun, noise on r and V (nsig 1e-3), coupling
0.1; the sweep takes 64 couplings from 0 to 0.3. Rates are of all sets together. `mean` is the observable's mean: those
that solve the problem agree. A calibrator before and after each row marks rows that something else disturbed with `!`.

What differs between rows and favours one side or the other: The Virtual Brain, vbi and neurolib compute in double
precision, everyone else in single, ours in both; tvboptim and vbjax return every step, the others averages; neurolib
and brainmass run a Hopf model, brainmass without noise, vbi without delays, tvbk's Jansen-Rit without the sigmoid in
its coupling; these four rows take no part in the ratios, which are over the best of the peers that were run.
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

CACHE = Path("~/.cache/vbt-bench").expanduser()
SCRIPTS = Path(__file__).parent / "simulator_peers"
REQUIREMENTS = {
    "tvb": ["tvb-library==2.10.0", "tvb-data==3.0.0", "numba==0.68.1"],
    "tvboptim": ["tvboptim==0.4.0", "jax==0.10.2"],
    "tvbk": ["tvbk==0.5"],
    "vbjax": ["vbjax==0.0.19", "tqdm"],
    "vbi": ["vbi==0.4.4"],
    "neurolib": ["neurolib==0.6.2"],
    "brainmass": ["brainmass==0.1.1"],
}
OURS = "vbt"
SETS = 64
BEST_TVBOPTIM = "sparse preallocated"


@dataclass(frozen=True)
class Row:
    """One measurement: ``seconds`` simulated per set, about two seconds of work or more."""

    section: str
    simulator: str
    configuration: str
    seconds: float
    regions: int = 76
    velocity: float = 4.0
    model: str = "MPR"
    sets: int = 1
    least: float = 0.1
    script: str = ""
    same_problem: bool = True

    @property
    def title(self) -> str:
        return f"{self.simulator} {self.configuration}".strip()

    @property
    def couplings(self) -> list[float]:
        unit = 1.0 if self.model == "MPR" else 100.0
        return [unit * float(g) for g in (np.linspace(0.0, 0.3, self.sets) if self.sets > 1 else [0.1])]


def rows() -> Iterator[Row]:
    single = Row("single", OURS, "single", 60.0)
    yield single
    yield dataclasses.replace(single, configuration="double", seconds=30.0)
    yield dataclasses.replace(single, configuration="xla", seconds=10.0)
    for configuration, seconds in (
        (BEST_TVBOPTIM, 20.0),
        ("sparse circular", 15.0),
        ("sparse roll", 10.0),
        ("dense circular", 5.0),
    ):
        yield Row("single", "tvboptim", configuration, seconds)
    yield Row("single", "tvb", "Numba backend", 30.0, least=3.0)
    yield Row("single", "tvb", "plain", 1.5, least=0.6)
    yield Row("single", "tvbk", "one lane of 8", 10.0)
    yield Row("single", "vbjax", "", 3.0)
    yield Row("single", "neurolib", "Hopf", 20.0, same_problem=False)
    yield Row("single", "brainmass", "Hopf, no noise", 9.0, same_problem=False)
    yield Row("single", "vbi", "no delays", 20.0, same_problem=False)
    sweep = Row("sweep64", OURS, "single", 5.0, sets=SETS, least=0.5)
    yield sweep
    yield dataclasses.replace(sweep, configuration="double", seconds=2.0)
    yield Row("sweep64", "tvbk", "8 x 8 lanes", 1.0, sets=SETS)
    yield Row("sweep64", "tvboptim", BEST_TVBOPTIM, 0.5, sets=SETS)
    yield Row("sweep64", "tvboptim", "dense circular", 0.1, sets=SETS)
    yield Row("sweep64", "vbjax", "", 0.1, sets=SETS)
    for section, changed in (
        ("192 regions", {"regions": 192}),
        ("2 m/s", {"velocity": 2.0}),
        ("20 m/s", {"velocity": 20.0}),
        ("Jansen-Rit", {"model": "JR"}),
    ):
        yield dataclasses.replace(single, section=section, seconds=20.0, **changed)
        yield Row(section, "tvboptim", BEST_TVBOPTIM, 6.0, **changed)
        numba = section != "Jansen-Rit"
        if numba:
            yield Row(section, "tvb", "Numba backend", 12.0, least=3.0, **changed)
        else:
            yield Row(section, "tvb", "plain", 1.5, least=0.6, **changed)
        section += ", 64 sets"
        yield dataclasses.replace(sweep, section=section, **changed)
        yield Row(section, "tvboptim", BEST_TVBOPTIM, 0.2, sets=SETS, **changed)
        lanes = "8 x 8 lanes" if numba else "8 x 8 lanes, no sigmoid"
        yield Row(section, "tvbk", lanes, 0.5, sets=SETS, same_problem=numba, **changed)
    yield Row("gradient", OURS, "single", 2.0, least=1.0, script="gradient")
    yield Row("hour to BOLD", OURS, "single", 3600.0, least=36.0, script="hour")


class Bench:
    def __init__(self, *, core: int, quick: bool) -> None:
        os.sched_setaffinity(0, {core})
        self._quick = quick
        self._fastest = min(self._calibrator()[0] for _ in range(5))

    def measure(self, row: Row) -> dict[str, Any]:
        seconds = max(row.least, row.seconds / (10 if row.seconds < 3600 else 100)) if self._quick else row.seconds
        request = {
            "connectome": str(connectome(row.regions)),
            "model": row.model,
            "configuration": row.configuration,
            "velocity": row.velocity,
            "dt": 0.1,
            "nsig": 1e-3 if row.model == "MPR" else 1e-5,
            "couplings": row.couplings,
            "seconds": round(seconds, 1),
        }
        before = self._calibrator()
        script = SCRIPTS / f"{row.script or 'peer_' + row.simulator}.py"
        done = subprocess.run(
            [interpreter(row.simulator), str(script), json.dumps(request)],
            capture_output=True,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"},
        )
        after = self._calibrator()
        self._fastest = min(self._fastest, before[0], after[0])
        found = dataclasses.asdict(row)
        if done.returncode:
            return found | {"rate": None, "error": done.stderr.strip().splitlines()[-1] if done.stderr else "no reason"}
        found |= json.loads(done.stdout.splitlines()[-1])
        return found | {"calibrator": [before, after]}

    def clean(self, result: dict[str, Any]) -> bool:
        """The core was ours alone and as fast as ever before and after."""
        readings = result.get("calibrator", [])
        return all(cpu < 1.12 * self._fastest and wall < 1.15 * cpu for cpu, wall in readings)

    @staticmethod
    def _calibrator() -> tuple[float, float]:
        """Processor and wall seconds of a fixed loop that a simulator's step resembles: gather, multiply, sum, exp."""
        generator = np.random.default_rng(0)
        history, weights = generator.random((512, 76)), generator.random((76, 32))
        where = generator.integers(0, 76, (76, 32))
        cpu, wall = time.process_time(), time.perf_counter()
        for step in range(4000):
            afferent = (weights * history[step % 512][where]).sum(axis=1)
            history[(step + 1) % 512] = np.exp(-afferent)
        return time.process_time() - cpu, time.perf_counter() - wall


def interpreter(simulator: str) -> str:
    """Python of the simulator's environment, made where it is missing."""
    if simulator == OURS:
        return sys.executable
    home, wanted = CACHE / simulator, "\n".join(REQUIREMENTS[simulator])
    stamp = home / "requirements.txt"
    python = home / "bin" / "python"
    if stamp.exists() and stamp.read_text() == wanted:
        return str(python)
    print(f"making the environment of {simulator} in {home}", file=sys.stderr, flush=True)
    shutil.rmtree(home, ignore_errors=True)
    uv = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))
    if uv:
        subprocess.run([uv, "venv", "-q", "-p", sys.executable, str(home)], check=True)
        subprocess.run([uv, "pip", "install", "-q", "-p", str(python), *REQUIREMENTS[simulator]], check=True)
    else:
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", *REQUIREMENTS[simulator]], check=True)
    stamp.write_text(wanted)
    return str(python)


def connectome(regions: int) -> Path:
    """The Virtual Brain's connectome of so many regions, weights divided by their maximum."""
    found = CACHE / f"connectivity_{regions}.npz"
    if not found.exists():
        where = "import tvb_data, pathlib; print(pathlib.Path(tvb_data.__file__).parent)"
        home = subprocess.run([interpreter("tvb"), "-c", where], check=True, capture_output=True, text=True).stdout
        archive = zipfile.ZipFile(Path(home.strip()) / "connectivity" / f"connectivity_{regions}.zip")
        names = {Path(name).name: name for name in archive.namelist()}
        weights, lengths = (
            np.loadtxt(io.BytesIO(archive.read(names[name]))) for name in ("weights.txt", "tract_lengths.txt")
        )
        np.savez(found, weights=weights / weights.max(), lengths=lengths)
    return found


def ratios(results: list[dict[str, Any]]) -> dict[str, float]:
    """Ours, single precision, over the best of others on the same problem."""

    def best(section: str, simulator: str | None = None, configuration: str | None = None) -> float:
        rates = [
            found["rate"]
            for found in results
            if found["section"] == section and found["rate"] and found["same_problem"]
            if (found["simulator"] != OURS if simulator is None else found["simulator"] == simulator)
            if configuration is None or found["configuration"] == configuration
        ]
        return max(rates, default=float("nan"))

    wanted = {
        "single_delays_vs_best_peer": ("single", None, None),
        "single_delays_vs_tvb_numba": ("single", "tvb", "Numba backend"),
        "sweep64_vs_best_peer": ("sweep64", None, None),
        "sweep64_vs_tvboptim_vmap": ("sweep64", "tvboptim", None),
        "sweep64_vs_tvboptim_vmap_dense_circular": ("sweep64", "tvboptim", "dense circular"),
    }
    for section in dict.fromkeys(found["section"] for found in results):
        if section not in ("single", "sweep64", "gradient", "hour to BOLD"):
            wanted[f"{section} vs best peer"] = (section, None, None)
    found = {name: best(section[0], OURS, "single") / best(*section) for name, section in wanted.items()}
    return {name: round(value, 2) for name, value in found.items() if value == value}


def line(found: dict[str, Any], clean: bool) -> str:
    title = f"{found['simulator']} {found['configuration']}".strip()
    if found["rate"] is None:
        return f"  {title:32s} failed: {found['error'][:90]}"
    known = {field.name for field in dataclasses.fields(Row)} | {
        "rate",
        "compile_seconds",
        "mean",
        "peak_gib",
        "calibrator",
    }
    more = ", ".join(f"{name.replace('_', ' ')} {found[name]}" for name in found if name not in known)
    return (
        f"  {title:32s} {found['rate']:9.2f} {found['compile_seconds']:9.1f} {found['peak_gib']:8.2f} "
        f"{found['mean']:11.5f} {' ' if clean else '!'} {more}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true", help="a tenth of the simulated time")
    parser.add_argument("--peers", nargs="*", choices=sorted(REQUIREMENTS), default=sorted(REQUIREMENTS))
    parser.add_argument("--only", nargs="*", help="sections, such as single or sweep64")
    parser.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)))
    asked = parser.parse_args()
    chosen = [
        row
        for row in rows()
        if row.simulator in (OURS, *asked.peers) and (asked.only is None or row.section in asked.only)
    ]
    for row in chosen:
        interpreter(row.simulator)
        connectome(row.regions)
    bench, results, section = Bench(core=asked.core, quick=asked.quick), [], ""
    for row in chosen:
        results.append(bench.measure(row))
        if not asked.json:
            if row.section != section:
                section = row.section
                print(f"{section:32s}   sim-s/s  first-run s  GiB       mean", flush=True)
            print(line(results[-1], bench.clean(results[-1])), flush=True)
    for found in results:
        found["clean"] = bench.clean(found)
    if asked.json:
        print(json.dumps({"rows": results, "ratios": ratios(results)}, indent=1))
        return
    for name, ratio in ratios(results).items():
        print(f"{name:48s} {ratio:7.2f}")


if __name__ == "__main__":
    main()
