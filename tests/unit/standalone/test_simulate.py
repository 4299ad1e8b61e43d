"""`vbt simulate`: the numbers of the library, the files with their units, and refusals that say what to do."""

from __future__ import annotations

import base64
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from standalone.cli import app
from vbt.api.event.v1.event_pb2 import ConnectomeBuilt
from vbt.connectome import read_tvb_connectivity
from vbt.platform import cases, stages, wire
from vbt.platform.cases import Status
from vbt.platform.objects import Objects
from vbt.platform.state import open_state
from vbt.simulation import Bold, MontbrioPazoRoxin, Network, TemporalAverage, resect, simulate

runner = CliRunner()

BASIC = ["--model", "montbrio-pazo-roxin", "--duration", "0.5", "--transient", "0.1", "--noise", "V=0.05"]


@pytest.fixture
def brain(tmp_path: Path) -> Path:
    """A TVB connectivity zip of four regions; the first drives itself."""
    path = tmp_path / "brain.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("brain/weights.txt", "2 1 0 3\n1 0 2 0\n0 2 0 1\n3 0 1 0\n")
        archive.writestr("brain/tract_lengths.txt", "0 30 0 9\n30 0 12 0\n0 12 0 50\n9 0 50 0\n")
        archive.writestr("brain/centres.txt", "lA -9 1 2\nlB -8 3 4\nrA 9 1 2\nrB 8 3 4\n")
    return path


def invoked(*arguments: object) -> Any:
    return runner.invoke(app, ["simulate", *(str(argument) for argument in arguments)])


def arrays(folder: Path, name: str = "simulation.npz") -> dict[str, np.ndarray]:
    with np.load(io.BytesIO((folder / name).read_bytes()), allow_pickle=False) as archive:
        return dict(archive)


def test_it_gives_the_librarys_own_numbers(brain: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = invoked(
        "--connectome", brain, *BASIC, "--set", "eta=-4.6", "--coupling", 0.4, "--scale", "max", "--velocity", 5,
        "--seed", 3, "--monitor", "average", "--monitor", "bold=0.25", "--resect", "rB", "--out", out, "--json",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    connectome = read_tvb_connectivity(brain)
    network = Network(
        mass=MontbrioPazoRoxin(eta=-4.6),
        weights=connectome.weights / 3.0,
        tract_lengths=connectome.tract_lengths,
        velocity=5.0,
        coupling=0.4,
        sigma=(0.0, 0.05),
        region_labels=connectome.region_labels,
    )
    expected = simulate(
        [resect(network, ("rB",))], [3], duration=0.5, transient=0.1, dt=0.1,
        monitors=[TemporalAverage(period=0.004), Bold(period=0.25)],
    )  # fmt: skip
    found = arrays(out)
    np.testing.assert_array_equal(found["observation_0_values"], expected.observations[0].values)
    np.testing.assert_array_equal(found["observation_1_values"], expected.observations[1].values)
    facts = json.loads(result.stdout)
    assert facts["observations"][1] == {
        "name": "bold", "unit": "%", "samples": 2, "channels": 4, "period_s": 0.25
    }  # fmt: skip
    assert "1 self-connections left out" in facts["weights"]
    for path in facts["files"].values():
        assert Path(path).stat().st_size > 0
    assert (out / "temporal-average.png").read_bytes().startswith(b"\x89PNG")


def test_the_same_command_writes_the_same_bytes(brain: Path, tmp_path: Path) -> None:
    for folder in ("one", "two"):
        assert invoked("--connectome", brain, *BASIC, "--out", tmp_path / folder).exit_code == 0
    one, two = ({path.name: path.read_bytes() for path in (tmp_path / folder).iterdir()} for folder in ("one", "two"))
    assert one == two


def test_what_was_written_is_told_with_its_unit(brain: Path, tmp_path: Path) -> None:
    result = invoked(
        "--connectome",
        brain,
        *BASIC,
        "--scale",
        "max",
        "--duration",
        4,
        "--monitor",
        "bold=0.1",
        "--monitor",
        "psd",
        "--out",
        tmp_path / "o",
    )
    assert result.exit_code == 0, result.output
    assert "bold: 40 samples × 4 channels every 0.1 s, unit %" in result.output
    assert "unit Hz-1" in result.output
    assert "divided by the largest" in " ".join(result.output.split())
    assert {path.name for path in (tmp_path / "o").iterdir()} == {
        "simulation.npz", "simulation.json", "bold.png", "bold-fc.png", "spectrum.png",
    }  # fmt: skip


def test_a_sweep_spans_a_grid(brain: Path, tmp_path: Path) -> None:
    result = invoked(
        "--connectome",
        brain,
        *BASIC,
        "--sweep",
        "coupling=0:1:3",
        "--sweep",
        "eta=-6,-5",
        "--out",
        tmp_path / "o",
        "--json",
    )
    assert result.exit_code == 0, result.output
    points = [(run["parameters"]["coupling"], run["parameters"]["eta"]) for run in json.loads(result.stdout)["runs"]]
    assert points == [(0.0, -6.0), (0.0, -5.0), (0.5, -6.0), (0.5, -5.0), (1.0, -6.0), (1.0, -5.0)]
    assert (tmp_path / "o" / "sweep.png").exists()


def test_a_continuation_names_its_folds(tmp_path: Path) -> None:
    result = invoked("--model", "montbrio-pazo-roxin", "--continue", "eta=-10:0", "--out", tmp_path / "o", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)["bifurcations"]
    assert [point["kind"] for point in found] == ["fold", "fold"]
    # On the equilibria V = −Δ/(2πs) with s = τr, so that η(s) = π²s² − Js − (Δ/2πs)² − I; the folds are its extremes.
    mass, s = MontbrioPazoRoxin(), np.linspace(0.02, 2.0, 2_000_001)
    eta = (np.pi * s) ** 2 - mass.J * s - (mass.Delta / (2.0 * np.pi * s)) ** 2 - mass.I
    turns = np.flatnonzero(np.diff(np.sign(np.diff(eta)))) + 1
    np.testing.assert_allclose([point["parameter"] for point in found], sorted(eta[turns]), rtol=1e-6)
    assert {path.name for path in (tmp_path / "o").iterdir()} == {
        "continuation.npz", "continuation.json", "bifurcations.png",
    }  # fmt: skip


def test_a_continuation_with_cycles_says_where_they_fold(tmp_path: Path) -> None:
    """Jansen and Rit's spikes end at 137.38 s⁻¹ (Grimbert & Faugeras 2006), which no equilibrium tells."""
    result = invoked(
        "--model", "jansen-rit", "--continue", "p=-0.02:0.2", "--cycles", "--out", tmp_path / "o", "--json"
    )
    assert result.exit_code == 0, result.output
    (fold,) = json.loads(result.stdout)["folds_of_cycles"]
    assert fold["parameter"] == pytest.approx(0.13738, rel=1e-4)
    assert fold["unit"] == "1/ms"


def test_the_models_are_listed_with_unit_domain_and_source() -> None:
    result = invoked("--list-models", "--json")
    assert result.exit_code == 0
    listed = json.loads(result.stdout)
    rows = {row["name"]: row for row in listed["montbrio-pazo-roxin"]["parameters"]}
    assert {"symbol", "meaning", "unit", "default", "domain", "source"} < set(rows["eta"])
    assert "jansen-rit" in listed
    assert "η" in invoked("--list-models", "--model", "montbrio-pazo-roxin").output


def test_a_cases_connectome_is_found_by_its_first_characters(brain: Path, tmp_path: Path) -> None:
    objects = Objects((tmp_path / "objects").as_uri())
    content = read_tvb_connectivity(brain).to_npz()
    kept = wire.to_wire(objects.put(content, "application/x-npz", "connectome.npz"))
    engine = open_state(f"sqlite:///{tmp_path / 'vbt.db'}")
    with engine.begin() as connection:
        case = cases.create_case(connection, study_key="study", protocol="resting_state", status=Status.DONE)
        built = base64.b64encode(ConnectomeBuilt(connectome=kept).SerializeToString()).decode()
        stages.finish(
            connection, case.case_id, 1, "connectome_builder", Status.DONE, detail={"result": built}, message=""
        )
    engine.dispose()
    for source, folder in ((("--connectome", brain), "a"), (("--case", case.case_id[:6], "--data", tmp_path), "b")):
        result = invoked(*source, *BASIC, "--out", tmp_path / folder)
        assert result.exit_code == 0, result.output
    one, two = (arrays(tmp_path / folder)["observation_0_values"] for folder in ("a", "b"))
    np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--set", "mu=3"], "has the parameters"),
        (["--set", "Delta=-1"], "Delta must lie in [0, inf); got -1"),
        (["--set", "eta"], "write NAME=VALUE"),
        (["--set", "eta=x"], "must be a number"),
        (["--velocity", "0"], "velocity must be positive; got 0 m/s"),
        (["--dt", "30"], "dt must lie in (0, 1] ms"),
        (["--monitor", "eeg"], "one of average, bold, psd"),
        (["--sweep", "coupling=0:1"], "NAME=FROM:TO:COUNT"),
        (["--sweep", "mu=0:1:3"], "what is varied must be one of"),
        (["--resect", "nowhere"], "network must have the region"),
        (["--continue", "eta=-10"], "NAME=FROM:TO"),
        (["--scale", "row"], "none, max, in-strength"),
        (["--model", "hodgkin-huxley"], "known are"),
        (["--duration", "nan"], "duration_s must be finite"),
        (["--velocity", "600"], "instantaneous_below_step); got 0.015 ms"),
    ],
)
def test_bad_usage_says_the_rule_and_ends_with_2(brain: Path, tmp_path: Path, arguments: list[str], says: str) -> None:
    result = runner.invoke(
        app,
        ["simulate", "--connectome", str(brain), *BASIC, *arguments, "--out", str(tmp_path / "o")],
        terminal_width=200,
    )
    assert result.exit_code == 2
    assert says in " ".join(result.output.replace("│", " ").split())
    assert not (tmp_path / "o").exists()


def test_a_run_that_diverges_writes_nothing_and_ends_with_1(brain: Path, tmp_path: Path) -> None:
    result = invoked(
        "--connectome", brain, "--model", "linear", "--coupling", "1e6", "--noise", "1", "--out", tmp_path / "o"
    )
    assert result.exit_code == 1
    assert "simulation-diverged" in result.output
    assert not (tmp_path / "o").exists()


def test_a_file_that_is_no_connectome_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.zip").write_text("mine")
    result = invoked("--connectome", tmp_path / "thesis.zip", *BASIC)
    assert result.exit_code == 2
    assert "TVB connectivity zip" in " ".join(result.output.split())


def test_without_a_connectome_it_asks_for_one() -> None:
    result = invoked("--model", "montbrio-pazo-roxin")
    assert result.exit_code == 2
    assert "--case CASE" in result.output
