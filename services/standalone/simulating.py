"""What `vbt simulate` was asked becomes a request, the request a run, and the run files with their units."""

from __future__ import annotations

import hashlib
import json
import math
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from brain_simulator import continuations, experiments, networks
from brain_simulator.continuations import Continued
from brain_simulator.experiments import Cancelled, Experiment, Progress, Simulated
from brain_simulator.simulation_servicer import observations_of
from standalone import simulation_pictures
from standalone.progress import stage_bars
from vbt.api.event.v1.event_pb2 import Artifact
from vbt.api.simulation.v1 import experiment_pb2 as api
from vbt.connectome import Connectome, read_connectome
from vbt.simulation import Resection, SimulationCancelled
from vbt.simulation.neural_masses import neural_masses

_SCALES = {
    "none": api.WEIGHT_SCALING_NONE,
    "max": api.WEIGHT_SCALING_LARGEST,
    "in-strength": api.WEIGHT_SCALING_IN_STRENGTH,
}
_SCALED = {"none": "", "max": "; divided by the largest", "in-strength": "; divided by the largest in-strength"}
_INTEGRATORS = {"heun": api.INTEGRATOR_HEUN, "rk4": api.INTEGRATOR_RK4}
_USUAL_DT, _SAMPLING, _TR, _SEGMENT = 0.1, 0.004, 0.72, 2.0  # ms, s, s, s
# Haemodynamics start at rest; before they have settled their common rise is all that a correlation sees.
_SETTLING, _SETTLING_OF_BLOOD = 1.0, 20.0  # s


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The options, as they were typed."""

    model: str
    parameters: list[str]
    coupling: float
    velocity: float
    scale: str
    instantaneous_below_step: bool
    noise: list[str]
    resect: list[str]
    conditions: list[Path]
    duration: float
    transient: float | None
    dt: float | None
    monitors: list[str]
    seeds: list[int]
    sweep: list[str]
    integrator: str
    double: bool
    continued: str
    cycles: bool
    delayed: bool
    region: str


@dataclass(frozen=True, kw_only=True)
class Written:
    """What a run gave, for people and for scripts.

    Parameters
    ----------
    facts : JSON; with the unit in each name
    files : each with what is in it
    """

    headline: str
    lines: tuple[str, ...]
    facts: dict[str, Any]
    files: tuple[tuple[Path, str], ...]

    def to_json(self) -> dict[str, Any]:
        return {**self.facts, "files": {path.name: str(path) for path, _ in self.files}}

    def show(self, console: Console) -> None:
        console.print(self.headline, markup=False)
        for line in self.lines:
            console.print(f"  {line}", markup=False)
        table = Table(box=None, pad_edge=False, show_header=False)
        for path, what in self.files:
            table.add_row(str(path), what)
        console.print(table)


def list_models(model: str, console: Console, *, as_json: bool) -> None:
    """The parameter tables of all neural masses, or of one."""
    with networks.refusing():
        if model and model not in neural_masses():
            raise ValueError(f"--model is one of {', '.join(neural_masses())}, got {model!r}")
    found = {name: kind for name, kind in neural_masses().items() if model in ("", name)}
    if as_json:
        console.print_json(data={name: _described(kind) for name, kind in found.items()})
        return
    for name, kind in found.items():
        told = _described(kind)
        console.print(Text.assemble((name, "bold"), f"  {told['about']}"), soft_wrap=True)
        console.print(
            f"variables {', '.join(told['variables'])}; noise on {', '.join(told['noise_variables'])}; "
            f"dt at most {told['largest_dt_ms']:g} ms",
            style="dim",
        )
        console.print(_parameter_table(told["parameters"]))
        for number, source in enumerate(_sources(told["parameters"]), start=1):
            console.print(f"[{number}] {source}", style="dim", markup=False, soft_wrap=True)
        console.print()


def _parameter_table(rows: list[dict[str, Any]]) -> Table:
    """The rows of a neural mass, their sources by number."""
    sources = _sources(rows)
    table = Table(box=None, pad_edge=False, padding=(0, 1))
    for heading in ("name", "symbol", "meaning", "unit", "default", "domain", "source"):
        table.add_column(heading, overflow="fold")
    for row in rows:
        cells = [f"{cell:g}" if isinstance(cell, float) else cell for cell in row.values()]
        table.add_row(*(Text(cell) for cell in (*cells[:-1], f"[{sources.index(row['source']) + 1}]")))
    return table


def _sources(rows: list[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(row["source"] for row in rows))


def connectome_from(path: Path | None, case: str, data: Path) -> Connectome | None:
    """The connectome of a file or of a case; None where neither is named."""
    if path is not None and case:
        raise typer.BadParameter("give one of them", param_hint="--connectome, --case")
    if path is not None:
        return read_connectome(path.read_bytes())
    if not case:
        return None
    from standalone.cli import case_connectome

    found: Connectome = case_connectome(case, data)
    return found


def run(asked: Asked, connectome: Connectome | None, out: Path, console: Console) -> Written:
    """Run what was asked and write it.

    Raises
    ------
    Rejected, Unsound : as the gRPC service has it
    """
    if not asked.model:
        raise typer.BadParameter("name a neural mass; --list-models shows all", param_hint="--model")
    if asked.continued:
        return _continue(asked, connectome, out, console)
    if connectome is None:
        raise typer.BadParameter("give --connectome FILE or --case CASE", param_hint="--connectome")
    experiment = _experiment(asked, connectome)
    begun = time.perf_counter()
    simulated = _with_bar("simulate", console, lambda tell, stop: experiments.run(experiment, tell, stop))
    return _simulated(asked, simulated, connectome, time.perf_counter() - begun, out)


def _experiment(asked: Asked, connectome: Connectome) -> Experiment:
    network, protocol = _network(asked, connectome), _protocol(asked)
    if not asked.sweep:
        return experiments.simulation_of(
            api.SimulateRequest(network=network, protocol=protocol, seeds=asked.seeds), connectome
        )
    axes = [_axis(text) for text in asked.sweep]
    return experiments.sweep_of(
        api.SweepRequest(network=network, protocol=protocol, axes=axes, seeds=asked.seeds), connectome
    )


def _continue(asked: Asked, connectome: Connectome | None, out: Path, console: Console) -> Written:
    name, text = _pair(asked.continued, "--continue", "NAME=FROM:TO")
    ends = _numbers(text, ":", "--continue")
    if len(ends) != 2:
        raise typer.BadParameter("write NAME=FROM:TO, for example eta=-10:0", param_hint="--continue")
    request = api.ContinueRequest(
        network=_network(asked, connectome), parameter=name, lowest=min(ends), highest=max(ends),
        region_label=asked.region, delayed=asked.delayed, cycles=asked.cycles,
    )  # fmt: skip
    system = continuations.system_of(request, connectome)
    begun = time.perf_counter()
    continued = _with_bar("continue", console, lambda tell, stop: continuations.follow(request, system, tell, stop))
    return _continued(asked, continued, time.perf_counter() - begun, out)


def _network(asked: Asked, connectome: Connectome | None) -> api.NetworkModel:
    model = api.NetworkModel(neural_mass=asked.model)
    for text in asked.parameters:
        name, value = _pair(text, "--set", "NAME=VALUE")
        model.parameters.add(name=name, values=_numbers(value, ",", "--set"))
    if connectome is None:
        return model
    if asked.scale not in _SCALES:
        raise typer.BadParameter(f"one of {', '.join(_SCALES)}", param_hint="--scale")
    model.weight_scaling = _SCALES[asked.scale]
    model.coupling, model.velocity_m_s = asked.coupling, asked.velocity
    model.instantaneous_below_step = asked.instantaneous_below_step
    model.noise.extend(_noise(asked))
    content = connectome.to_npz()
    model.connectome.CopyFrom(
        Artifact(
            name="connectome.npz",
            sha256=hashlib.sha256(content).hexdigest(),
            size_bytes=len(content),
            media_type="application/x-npz",
        )
    )
    for path in asked.conditions:
        # What is not UTF-8 is no JSON either, and is refused as such.
        model.conditions.add(record_json=path.read_text(encoding="utf-8", errors="replace"))
    if asked.resect:
        model.conditions.add(record_json=Resection(regions=tuple(asked.resect)).to_json())
    return model


def _noise(asked: Asked) -> Iterator[api.Noise]:
    with networks.refusing():
        kind = networks.mass_of(api.NetworkModel(neural_mass=asked.model))
    for text in asked.noise:
        name, _, value = text.rpartition("=")
        (sigma,) = _numbers(value, None, "--noise")
        for variable in [name] if name else [kind.variables[index] for index in kind.noise_variables]:
            yield api.Noise(variable=variable, sigma=sigma)


def _protocol(asked: Asked) -> api.Protocol:
    if asked.integrator not in _INTEGRATORS:
        raise typer.BadParameter(f"one of {', '.join(_INTEGRATORS)}", param_hint="--integrator")
    with networks.refusing():
        mass = networks.mass_of(api.NetworkModel(neural_mass=asked.model))
    usual = min(_USUAL_DT, mass.largest_dt * mass.milliseconds_per_unit)
    return api.Protocol(
        duration_s=asked.duration,
        transient_s=_transient(asked),
        dt_ms=usual if asked.dt is None else asked.dt,
        monitors=[_monitor(text, asked.duration) for text in asked.monitors],
        integrator=_INTEGRATORS[asked.integrator],
        precision=api.PRECISION_DOUBLE if asked.double else api.PRECISION_SINGLE,
    )


def _transient(asked: Asked) -> float:
    if asked.transient is not None:
        return asked.transient
    return _SETTLING_OF_BLOOD if any(text.startswith("bold") for text in asked.monitors) else _SETTLING


def _monitor(text: str, duration: float) -> api.Monitor:
    name, _, value = text.partition("=")
    period = _numbers(value, None, "--monitor")[0] if value else 0.0
    if name == "average":
        return api.Monitor(temporal_average=api.TemporalAverage(period_s=period or _SAMPLING))
    if name == "bold":
        return api.Monitor(bold=api.Bold(period_s=period or _TR))
    if name == "psd":
        whole = max(1, math.floor(duration / _SAMPLING + 1e-9)) * _SAMPLING if math.isfinite(duration) else duration
        return api.Monitor(
            power_spectrum=api.PowerSpectrum(
                period_s=period or whole, sampling_interval_s=_SAMPLING, segment_s=min(_SEGMENT, period or whole)
            )
        )
    raise typer.BadParameter(f"one of average, bold, psd; got {name!r}", param_hint="--monitor")


def _axis(text: str) -> api.Axis:
    name, value = _pair(text, "--sweep", "NAME=FROM:TO:COUNT")
    if ":" not in value:
        return api.Axis(name=name, values=_numbers(value, ",", "--sweep"))
    ends = _numbers(value, ":", "--sweep")
    if len(ends) != 3 or not (ends[2] == int(ends[2]) and 1 <= ends[2] <= experiments.MOST_RUNS):
        raise typer.BadParameter("write NAME=FROM:TO:COUNT, for example coupling=0:1:16", param_hint="--sweep")
    return api.Axis(name=name, values=np.linspace(ends[0], ends[1], int(ends[2])).tolist())


def _pair(text: str, option: str, form: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise typer.BadParameter(f"write {form}, got {text!r}", param_hint=option)
    return name, value


def _numbers(text: str, separator: str | None, option: str) -> list[float]:
    try:
        return [float(part) for part in (text.split(separator) if separator else [text])]
    except ValueError:
        raise typer.BadParameter(f"must be a number, got {text!r}", param_hint=option) from None


def _with_bar(title: str, console: Console, work: Callable[[Progress, Cancelled], Any]) -> Any:
    """The work under a progress bar; Ctrl-C stops it as a cancelled call does."""
    with _interruptible() as stop, stage_bars(console) as bars:
        task = bars.add_task(title, total=1.0, says="")
        try:
            result = work(lambda fraction, says: bars.update(task, completed=fraction, says=says), stop.is_set)
        except SimulationCancelled:
            raise typer.Exit(130) from None
        bars.update(task, completed=1.0)
        bars.stop_task(task)
        return result


@contextmanager
def _interruptible() -> Iterator[threading.Event]:
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = signal.signal(signal.SIGINT, lambda *_: stop.set())
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)


def _simulated(asked: Asked, simulated: Simulated, connectome: Connectome, seconds: float, out: Path) -> Written:
    experiment = simulated.experiment
    runs, regions = len(experiment.runs), len(connectome.region_labels)
    per_run = asked.duration + _transient(asked)
    pictures = simulation_pictures.pictures_of(simulated)
    manifest = simulated.simulation.manifest
    files = _write(out, {
        "simulation.npz": (simulated.to_npz(), "arrays; observation_<n>_values is run × time × channel"),
        "simulation.json": (manifest.to_json().encode(), "replay manifest: what went in and came out, by digest"),
        **pictures,
    })  # fmt: skip
    seen = [
        f"{one.name}: {one.samples} samples × {one.channels} channels every {one.period_s:g} s, unit {one.unit}"
        for one in observations_of(simulated)
    ]
    facts = {
        "model": asked.model, "regions": regions, "parcellation": connectome.parcellation,
        "weights": connectome.normalisation, "scale": asked.scale,
        "runs": [json.loads(one.to_json()) for one in experiment.runs],
        "duration_s": asked.duration, "transient_s": _transient(asked), "dt_ms": experiment.protocol.dt_ms,
        "wall_s": round(seconds, 3), "simulated_s_per_wall_s": round(runs * per_run / seconds, 2),
        "observations": [
            {
                "name": one.name, "unit": one.unit, "samples": one.samples, "channels": one.channels,
                "period_s": one.period_s,
            }
            for one in observations_of(simulated)
        ],
    }  # fmt: skip
    weights = connectome.normalisation + _SCALED[asked.scale]
    headline = f"{asked.model} on {regions} regions ({connectome.parcellation}; weights {weights})"
    how_many = f"{runs} run{'s' if runs > 1 else ''} of {per_run:g} s at dt {experiment.protocol.dt_ms:g} ms"
    speed = f"{how_many} in {seconds:.1f} s: {runs * per_run / seconds:.1f} simulated s per wall s, compiling included"
    return Written(headline=headline, lines=(speed, *seen), facts=facts, files=files)


def _continued(asked: Asked, continued: Continued, seconds: float, out: Path) -> Written:
    diagram = continued.diagram
    axis = diagram.system.parameter
    unit = "" if axis.unit in ("", "1") else f" {axis.unit}"
    files = _write(out, {
        "continuation.npz": (continued.to_npz(), "branches, cycles and bifurcations"),
        "continuation.json": (continued.manifest.to_json().encode(), "replay manifest"),
        "bifurcations.png": (continued.to_png(), f"bifurcation diagram over {axis.name}"),
    })  # fmt: skip
    points = [
        {
            "kind": point.name, "parameter": point.parameter, "unit": axis.unit, "frequency_hz": point.frequency,
            "coefficient": None if math.isnan(point.coefficient) else point.coefficient,
        }
        for point in diagram.bifurcations
    ]  # fmt: skip
    lines = [
        f"{point.name} at {axis.name} = {point.parameter:.6g}{unit}"
        + ("" if point.frequency is None else f", {point.frequency:.4g} Hz")
        for point in diagram.bifurcations
    ]
    folds = [
        {"parameter": fold.parameter, "unit": axis.unit, "lowest": fold.observed_low, "highest": fold.observed_high}
        for family in continued.cycles
        for fold in family.folds
    ]
    lines += [f"fold of cycles at {axis.name} = {fold['parameter']:.6g}{unit}" for fold in folds]
    facts = {
        "model": asked.model, "parameter": axis.name, "lowest": diagram.low, "highest": diagram.high,
        "branches": len(diagram.branches), "bifurcations": points, "folds_of_cycles": folds,
        "wall_s": round(seconds, 3),
    }  # fmt: skip
    of = f"{len(diagram.branches)} branch{'es' if len(diagram.branches) != 1 else ''} of equilibria"
    headline = f"{asked.model}: {of} over {axis.name} from {diagram.low:g} to {diagram.high:g}{unit} in {seconds:.1f} s"
    return Written(headline=headline, lines=tuple(lines or ["no bifurcation"]), facts=facts, files=files)


def _write(out: Path, files: dict[str, tuple[bytes, str]]) -> tuple[tuple[Path, str], ...]:
    out.mkdir(parents=True, exist_ok=True)
    written = []
    for name, (content, what) in files.items():
        (out / name).write_bytes(content)
        written.append((out / name, what))
    return tuple(written)


def _described(kind: Any) -> dict[str, Any]:
    mass = kind()
    return {
        "about": re.split(r"\.\s|\n\n", (kind.__doc__ or "").strip())[0].replace("\n", " "),
        "variables": list(mass.variables),
        "noise_variables": [mass.variables[index] for index in mass.noise_variables],
        "largest_dt_ms": mass.largest_dt * mass.milliseconds_per_unit,
        "parameters": [
            {
                "name": name, "symbol": row.symbol, "meaning": row.meaning, "unit": row.unit,
                "default": float(row.default), "domain": row.domain, "source": row.source,
            }
            for name, row in networks.named_parameters(kind)
        ],
    }  # fmt: skip
