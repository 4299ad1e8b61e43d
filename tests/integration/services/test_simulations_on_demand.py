"""Simulate, Sweep and Continue over a real gRPC server: the library's own numbers, and an end when nobody waits."""

from __future__ import annotations

import dataclasses
import io
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from brain_simulator import experiments
from brain_simulator.__main__ import build
from brain_simulator.settings import SimulatorSettings
from vbt.api.event.v1 import event_pb2
from vbt.api.simulation.v1 import experiment_pb2 as api
from vbt.api.simulation.v1.experiment_pb2_grpc import SimulationServiceStub
from vbt.connectome import Connectome
from vbt.errors import NotYet
from vbt.platform import audit, cases, wire
from vbt.platform.cases import Status
from vbt.platform.grpc_channel import error_info, open_channel
from vbt.platform.objects import Artifact, Objects
from vbt.platform.policy import record_consent
from vbt.platform.runtime import Runtime, open_runtime
from vbt.platform.server import Server
from vbt.platform.settings import read_settings
from vbt.platform.software import this_software
from vbt.simulation import (
    Bold,
    MontbrioPazoRoxin,
    Network,
    ReplayManifest,
    Resection,
    TemporalAverage,
    digest,
    simulate,
)
from vbt.simulation.bifurcation import follow_equilibria, node

WEIGHTS = np.array([[0.0, 1.0, 0.2], [0.5, 0.0, 0.0], [0.0, 0.8, 0.0]])
LENGTHS = np.array([[0.0, 30.0, 8.0], [12.0, 0.0, 0.0], [0.0, 20.0, 0.0]])
LABELS = ("lh.a", "rh.a", "brainstem")
CONNECTOME = Connectome(
    weights=WEIGHTS,
    tract_lengths=LENGTHS,
    region_labels=LABELS,
    centres=np.zeros((3, 3)),
    is_cortical=np.array([True, True, False]),
    parcellation="three",
)
MASS = MontbrioPazoRoxin(eta=-4.6)


@dataclasses.dataclass
class Site:
    """A brain simulator with one place for simulations."""

    runtime: Runtime
    stub: Any
    connectome: event_pb2.Artifact

    def arrays(self, artifact: event_pb2.Artifact) -> dict[str, np.ndarray]:
        with np.load(io.BytesIO(self.runtime.objects.get(wire.from_wire(artifact))), allow_pickle=False) as archive:
            return dict(archive)

    def kept(self) -> set[str]:
        """Digests of all that is in the store."""
        return {path.name for path in Path(self.runtime.objects.url.removeprefix("file://")).iterdir()}

    def trail(self) -> list[dict[str, Any]]:
        with self.runtime.engine.connect() as connection:
            return [json.loads(row[0]) for row in connection.exec_driver_sql("SELECT entry FROM audit_outbox")]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    settings = read_settings(SimulatorSettings, data=tmp_path_factory.mktemp("site"), simulation={"concurrent_runs": 1})
    runtime = open_runtime("brain_simulator", settings, log=False)
    service = build(runtime, settings)
    server = Server(service.name, [service.add_servicer], service.workers, None, settings.grpc)
    server.start()
    artifact = wire.to_wire(runtime.objects.put(CONNECTOME.to_npz(), "application/x-npz", "connectome.npz"))
    with open_channel(f"127.0.0.1:{server.port}", deadline=60.0) as channel:
        yield Site(runtime, SimulationServiceStub(channel), artifact)
    server.stop()
    runtime.close()


@pytest.fixture
def model(site: Site) -> api.NetworkModel:
    return api.NetworkModel(
        neural_mass="montbrio-pazo-roxin",
        parameters=[api.ParameterValue(name="eta", values=[-4.6])],
        connectome=site.connectome,
        coupling=0.7,
        velocity_m_s=4.0,
        noise=[api.Noise(variable="V", sigma=0.05)],
    )


def test_simulate_gives_progress_and_then_the_librarys_own_numbers(site: Site, model: api.NetworkModel) -> None:
    request = api.SimulateRequest(network=model, protocol=protocol(), seeds=[3, 4])
    answers = list(site.stub.Simulate(request))
    assert [answer.WhichOneof("update") for answer in answers[:1]] == ["progress"]
    assert [answer.WhichOneof("update") for answer in answers].index("result") == len(answers) - 1
    result = answers[-1].result
    arrays = site.arrays(result.result)
    expected = simulate([network(), network()], [3, 4], duration=1.0, transient=0.5, dt=0.1, monitors=MONITORS)
    for index, observation in enumerate(expected.observations):
        np.testing.assert_array_equal(arrays[f"observation_{index}_values"], observation.values)
        np.testing.assert_array_equal(arrays[f"observation_{index}_time"], observation.time)
    np.testing.assert_array_equal(arrays["final_state"], expected.final_state)
    assert [(seen.name, seen.unit, seen.runs, seen.samples, seen.channels) for seen in result.observations] == [
        ("temporal-average", "1", 2, 50, 3),
        ("bold", "%", 2, 2, 3),
    ]
    manifest = ReplayManifest.from_json(site.runtime.objects.get(wire.from_wire(result.manifest)))
    assert manifest.outputs["final_state"] == digest(arrays["final_state"])
    assert json.loads(str(arrays["request"]))["network"]["neural_mass"] == "montbrio-pazo-roxin"


def test_the_same_request_gives_the_same_artifact(site: Site, model: api.NetworkModel) -> None:
    request = api.SimulateRequest(network=model, protocol=protocol(), seeds=[3])
    first, second = (ended(site.stub.Simulate(request)) for _ in range(2))
    assert first.result.sha256 == second.result.sha256
    assert first.case_id != second.case_id


def test_sweep_runs_every_variant_with_the_seeds_innermost(site: Site, model: api.NetworkModel) -> None:
    resection = Resection(regions=("rh.a",))
    request = api.SweepRequest(
        network=model,
        protocol=protocol(),
        axes=[api.Axis(name="coupling", values=[0.1, 0.9]), api.Axis(name="eta", values=[-5.0])],
        condition_sets=[
            api.ConditionSet(),
            api.ConditionSet(conditions=[api.Condition(record_json=resection.to_json())]),
        ],
        seeds=[1, 2],
    )
    arrays = site.arrays(ended(site.stub.Sweep(request)).result)
    runs = [json.loads(run) for run in arrays["runs"]]
    assert [(run["parameters"]["coupling"], len(run["conditions"]), run["seed"]) for run in runs] == [
        (0.1, 0, 1), (0.1, 0, 2), (0.1, 1, 1), (0.1, 1, 2), (0.9, 0, 1), (0.9, 0, 2), (0.9, 1, 1), (0.9, 1, 2),
    ]  # fmt: skip
    varied = dataclasses.replace(network(), coupling=0.9, mass=MontbrioPazoRoxin(eta=-5.0))
    expected = simulate([resection(varied)], [1], duration=1.0, transient=0.5, dt=0.1, monitors=MONITORS)
    np.testing.assert_array_equal(arrays["observation_0_values"][6], expected.observations[0].values[0])
    assert np.isnan(arrays["observation_0_values"][6][:, 1]).all()


def test_parameter_sets_change_together(site: Site, model: api.NetworkModel) -> None:
    sets = [
        api.ParameterSet(parameters=[
            api.ParameterValue(name="eta", values=[-5.0, -4.9, eta]),
            api.ParameterValue(name="velocity", values=[speed]),
        ])
        for eta, speed in ((-4.8, 3.0), (-4.7, 6.0))
    ]  # fmt: skip
    request = api.SweepRequest(network=model, protocol=protocol(), parameter_sets=sets)
    arrays = site.arrays(ended(site.stub.Sweep(request)).result)
    own = dataclasses.replace(network(), velocity=6.0, mass=MontbrioPazoRoxin(eta=np.array([-5.0, -4.9, -4.7])))
    expected = simulate([own], [0], duration=1.0, transient=0.5, dt=0.1, monitors=MONITORS)
    np.testing.assert_array_equal(arrays["final_state"][1], expected.final_state[0])


def test_continue_finds_the_folds_of_the_library(site: Site) -> None:
    request = api.ContinueRequest(
        network=api.NetworkModel(neural_mass="montbrio-pazo-roxin"),
        parameter="eta",
        lowest=-10.0,
        highest=0.0,
        starts=32,
    )
    answers = list(site.stub.Continue(request))
    result = answers[-1].result
    assert answers[0].WhichOneof("update") == "progress"
    expected = follow_equilibria(node(MontbrioPazoRoxin(), "eta"), -10.0, 0.0, starts=32)
    assert [point.parameter for point in result.bifurcations] == [point.parameter for point in expected.bifurcations]
    assert [point.kind for point in result.bifurcations] == [api.BIFURCATION_KIND_FOLD] * 2
    arrays = site.arrays(result.result)
    np.testing.assert_array_equal(arrays["branch_0_states"], expected.branches[0].states)
    assert site.runtime.objects.get(wire.from_wire(result.diagram)).startswith(b"\x89PNG")


def test_continue_tells_where_cycles_fold(site: Site) -> None:
    """Jansen and Rit's spikes end at 137.38 s⁻¹ (Grimbert & Faugeras 2006), which no equilibrium tells."""
    request = api.ContinueRequest(
        network=api.NetworkModel(neural_mass="jansen-rit"), parameter="p", lowest=-0.02, highest=0.2, cycles=True
    )
    result = ended(site.stub.Continue(request))
    (fold,) = [point for point in result.bifurcations if point.kind == api.BIFURCATION_KIND_FOLD_OF_CYCLES]
    assert fold.parameter == pytest.approx(0.13738, rel=1e-4)
    assert 1.0 < fold.frequency_hz < 10.0


def test_continue_follows_a_networks_coupling(site: Site, model: api.NetworkModel) -> None:
    request = api.ContinueRequest(network=model, parameter="coupling", lowest=0.0, highest=1.0, starts=8)
    arrays = site.arrays(ended(site.stub.Continue(request)).result)
    assert arrays["branch_0_states"].shape[1] == 6
    assert arrays["branch_0_parameter"].min() == 0.0


def test_cancelling_stops_the_computation_and_frees_its_place(site: Site, model: api.NetworkModel) -> None:
    call = site.stub.Simulate(api.SimulateRequest(network=model, protocol=protocol(duration=100_000.0, period=100.0)))
    waited_for(call, lambda progress: progress.fraction > 0.0)
    another = site.stub.Simulate(api.SimulateRequest(network=model, protocol=protocol()))
    assert ends_with(another) is grpc.StatusCode.UNAVAILABLE
    call.cancel()
    assert seconds_until_free(site, model) < 5.0
    assert {"code": "cancelled"}.items() <= site.trail()[-2]["detail"].items()


def test_a_deadline_stops_the_computation(site: Site, model: api.NetworkModel) -> None:
    request = api.SimulateRequest(network=model, protocol=protocol(duration=100_000.0, period=100.0))
    with pytest.raises(grpc.RpcError) as late:
        list(site.stub.Simulate(request, timeout=1.5))
    assert late.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert seconds_until_free(site, model) < 5.0


def test_a_deadline_stops_a_continuation_too(site: Site, model: api.NetworkModel) -> None:
    large = Connectome(
        weights=1.0 - np.eye(50),
        tract_lengths=20.0 * (1.0 - np.eye(50)),
        region_labels=tuple(f"r{i}" for i in range(50)),
        centres=np.zeros((50, 3)),
        is_cortical=np.ones(50, dtype=bool),
        parcellation="fifty",
    )
    kept = site.runtime.objects.put(large.to_npz(), "application/x-npz", "connectome.npz")
    network = api.NetworkModel(neural_mass="jansen-rit", connectome=wire.to_wire(kept), coupling=0.1, velocity_m_s=4.0)
    request = api.ContinueRequest(network=network, parameter="coupling", lowest=0.0, highest=1.0, starts=1024)
    with pytest.raises(grpc.RpcError) as late:
        list(site.stub.Continue(request, timeout=3.0))
    assert late.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert seconds_until_free(site, model) < 10.0


def test_every_run_is_on_the_trail_without_a_word_of_the_caller(site: Site, model: api.NetworkModel) -> None:
    model.connectome.name = "Doe^Jane.npz"
    result = ended(site.stub.Simulate(api.SimulateRequest(network=model, protocol=protocol())))
    entry = next(entry for entry in site.trail() if entry["case_id"] == result.case_id)
    assert (entry["action"], entry["outcome"], entry["purpose"]) == ("network.simulated", "success", "HRESCH")
    assert entry["inputs"] == [{"name": "connectome", "sha256": site.connectome.sha256}]
    assert result.result.sha256 in {output["sha256"] for output in entry["outputs"]}
    assert "Doe" not in json.dumps(site.trail())


def test_a_patients_connectome_is_not_used_without_the_patients_consent(site: Site, model: api.NetworkModel) -> None:
    other = dataclasses.replace(CONNECTOME, parcellation="of-a-case")
    model.connectome.CopyFrom(
        wire.to_wire(site.runtime.objects.put(other.to_npz(), "application/x-npz", "connectome.npz"))
    )
    with site.runtime.engine.begin() as connection:
        case = cases.create_case(connection, study_key="of-this-test", protocol="resting_state")
        audit.record(connection, _built(case.case_id, model.connectome.sha256))
        record_consent(connection, status="permit", reference="Consent/1", case_id=case.case_id)
    request = api.SimulateRequest(network=model, protocol=protocol())
    allowed = ended(site.stub.Simulate(request))
    entry = next(entry for entry in site.trail() if entry["case_id"] == allowed.case_id)
    assert entry["consent"] == {"decision": "permit", "basis": "Consent/1"}
    with site.runtime.engine.begin() as connection:
        record_consent(connection, status="deny", reference="Consent/2", case_id=case.case_id)
    with pytest.raises(grpc.RpcError) as refusal:
        list(site.stub.Simulate(request))
    facts = error_info(refusal.value)
    assert facts is not None
    assert facts.reason == "consent-withdrawn"
    assert (site.trail()[-1]["outcome"], site.trail()[-1]["outputs"]) == ("refused", [])


def _withdraw(site: Site, case_id: str) -> None:
    with site.runtime.engine.begin() as connection:
        record_consent(connection, status="deny", reference="Consent/2", case_id=case_id)


def _erase(site: Site, case_id: str) -> None:
    with site.runtime.engine.begin() as connection:
        cases.set_status(connection, case_id, Status.ERASED)


def _of_a_case(site: Site, model: api.NetworkModel, name: str, cases_of_it: int = 1) -> list[str]:
    """Give the model a connectome that was built for cases; their ids."""
    own = dataclasses.replace(CONNECTOME, parcellation=name).to_npz()
    model.connectome.CopyFrom(wire.to_wire(site.runtime.objects.put(own, "application/x-npz", "connectome.npz")))
    with site.runtime.engine.begin() as connection:
        found = [
            cases.create_case(connection, study_key=f"{name}-{n}", protocol="resting_state").case_id
            for n in range(cases_of_it)
        ]
        for case_id in found:
            audit.record(connection, _built(case_id, model.connectome.sha256))
    return found


@pytest.mark.parametrize(
    ("decide", "code"), [(_withdraw, "consent-withdrawn"), (_erase, "case-erased")], ids=["withdrawn", "erased"]
)
def test_a_decision_while_a_run_is_in_flight_leaves_nothing_of_it(
    site: Site,
    model: api.NetworkModel,
    monkeypatch: pytest.MonkeyPatch,
    decide: Callable[[Site, str], None],
    code: str,
) -> None:
    (case_id,) = _of_a_case(site, model, f"in-flight-{code}")
    run = experiments.run

    def meanwhile(*arguments: Any) -> experiments.Simulated:
        simulated = run(*arguments)
        decide(site, case_id)
        return simulated

    monkeypatch.setattr(experiments, "run", meanwhile)
    before = site.kept()
    with pytest.raises(grpc.RpcError) as refusal:
        list(site.stub.Simulate(api.SimulateRequest(network=model, protocol=protocol())))
    facts = error_info(refusal.value)
    assert facts is not None
    assert facts.reason == code
    assert site.kept() == before
    last = site.trail()[-1]
    assert (last["outcome"], last["outputs"], last["detail"]["code"]) == ("refused", [], code)


def test_a_connectome_is_used_while_one_case_stands_that_it_was_built_for(site: Site, model: api.NetworkModel) -> None:
    first, second = _of_a_case(site, model, "of-two", cases_of_it=2)
    request = api.SimulateRequest(network=model, protocol=protocol())
    _erase(site, first)
    assert ended(site.stub.Simulate(request)).case_id
    _erase(site, second)
    with pytest.raises(grpc.RpcError, match="not erased"):
        list(site.stub.Simulate(request))


def test_a_store_that_fails_half_way_leaves_on_the_trail_what_it_took(
    site: Site, model: api.NetworkModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    _of_a_case(site, model, "half-way")
    put = Objects.put

    def full(objects: Objects, content: bytes, media_type: str, name: str) -> Artifact:
        if name == "simulation.json":
            raise NotYet("objects-unreachable", rule="r", got="g", action="a")
        return put(objects, content, media_type, name)

    before = site.kept()
    with monkeypatch.context() as broken:
        broken.setattr(Objects, "put", full)
        with pytest.raises(grpc.RpcError) as failed:
            list(site.stub.Simulate(api.SimulateRequest(network=model, protocol=protocol())))
    assert failed.value.code() is grpc.StatusCode.UNAVAILABLE
    last = site.trail()[-1]
    assert last["outcome"] == "failed"
    assert {output["sha256"] for output in last["outputs"]} == site.kept() - before != set()


def _built(case_id: str, sha256: str) -> audit.AuditEntry:
    return audit.AuditEntry(
        event_id=audit.entry_id("test", case_id),
        case_id=case_id,
        revision=1,
        action="connectome.built",
        outcome="success",
        actor="connectome_builder",
        software=this_software("connectome_builder"),
        outputs=(audit.Digest(name="connectome.npz", sha256=sha256),),
    )


def test_a_run_that_diverges_gives_no_numbers(site: Site, model: api.NetworkModel) -> None:
    model.neural_mass = "linear"
    del model.parameters[:], model.noise[:]
    model.coupling = 1e6
    model.noise.add(variable="x", sigma=1.0)
    with pytest.raises(grpc.RpcError) as unsound:
        list(site.stub.Simulate(api.SimulateRequest(network=model, protocol=protocol())))
    assert unsound.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    facts = error_info(unsound.value)
    assert facts is not None
    assert facts.reason == "simulation-diverged"
    assert site.trail()[-1]["detail"]["code"] == "simulation-diverged"


def _set(**values: Any) -> Callable[[api.SimulateRequest], None]:
    def change(request: api.SimulateRequest) -> None:
        for path, value in values.items():
            *parents, name = path.split("__")
            target: Any = request
            for parent in parents:
                target = getattr(target, parent)
            setattr(target, name, value)

    return change


def _add(path: str, **values: Any) -> Callable[[api.SimulateRequest], None]:
    def change(request: api.SimulateRequest) -> None:
        target: Any = request
        for name in path.split("__"):
            target = getattr(target, name)
        target.add(**values)

    return change


@pytest.mark.parametrize(
    ("change", "rule", "got"),
    [
        (_set(network__neural_mass="hodgkin"), "no neural mass is called 'hodgkin'", ""),
        (_add("network__parameters", name="mu", values=[1.0]), "has the parameters", "'mu'"),
        (_add("network__parameters", name="eta", values=[1.0]), "given once", "'eta'"),
        (_add("network__parameters", name="Delta", values=[-1.0]), "Delta must lie in", "-1"),
        (_add("network__parameters", name="Delta", values=[1.0, 2.0]), "one number or (3,)", "(2,)"),
        (_add("network__parameters", name="J", values=[float("nan")]), "J must have one finite value", "nan"),
        (_set(network__velocity_m_s=0.0), "velocity must be positive", "0 m/s"),
        (_set(network__coupling=float("inf")), "coupling must be finite", "inf"),
        (_set(network__weight_scaling=9), "weight_scaling must be", "9"),
        (_add("network__noise", variable="w", sigma=1.0), "noise belongs on one of r, V", "'w'"),
        (_add("network__noise", variable="r", sigma=-1.0), "sigma must be finite and not negative", "-1"),
        (_set(network__connectome__sha256="../etc/passwd"), "with its sha256", "no digest"),
        (_add("network__conditions", record_json="{}"), "not the record of a condition", ""),
        (_add("network__conditions", record_json='{"kind":"Resection","regions":["x"]}'), "must have the region", "x"),
        (_add("network__conditions", record_json='{"kind":"Resection","regions":7}'), "not the record", "TypeError"),
        (_add("network__conditions", record_json="[" * 100_000), "not the record", "RecursionError"),
        (_set(protocol__dt_ms=0.0), "dt_ms must be finite and above zero", "0"),
        (_set(protocol__dt_ms=50.0), "dt must lie in (0, 1] ms", "50 ms"),
        (_set(protocol__duration_s=float("nan")), "duration_s must be finite", "nan"),
        (_set(protocol__duration_s=0.001), "at least one sampling period", "0.001 s"),
        (_set(protocol__transient_s=-1.0), "transient_s must be", "-1"),
        (_set(protocol__integrator=1, protocol__precision=7), "among those declared", "7"),
        (_set(protocol__integrator=api.INTEGRATOR_RK4), "without noise", ""),
        (_add("protocol__monitors"), "must say what it observes", "none"),
        (_add("protocol__monitors", bold=api.Bold(period_s=-1.0)), "bold.period_s must be", "-1"),
        (_set(network__velocity_m_s=1e-6), "signals under way", ""),
        (_set(protocol__duration_s=1e9), "samples of temporal-average", ""),
    ],
)  # fmt: skip
def test_bad_input_is_refused_by_its_rule(
    site: Site, model: api.NetworkModel, change: Callable[[api.SimulateRequest], None], rule: str, got: str
) -> None:
    request = api.SimulateRequest(network=model, protocol=protocol())
    change(request)
    with pytest.raises(grpc.RpcError) as refusal:
        list(site.stub.Simulate(request))
    assert refusal.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    facts = error_info(refusal.value)
    assert facts is not None
    assert rule in facts.metadata["rule"]
    assert got in facts.metadata["got"]


def test_labels_of_another_parcellation_are_refused(site: Site, model: api.NetworkModel) -> None:
    model.region_labels.extend(["a", "b", "c"])
    with pytest.raises(grpc.RpcError, match="region_labels must be the connectome's"):
        list(site.stub.Simulate(api.SimulateRequest(network=model, protocol=protocol())))


@pytest.mark.parametrize(
    ("changed", "rule"),
    [
        ({"lowest": 1.0, "highest": 0.0}, "lowest is below highest"),
        ({"parameter": "mu"}, "mu"),
        ({"parameter": "Delta", "lowest": -1.0, "highest": 1.0}, "Delta must lie in"),
        ({"delayed": True}, "belong to a network"),
        ({"starts": 1 << 20}, "starts are at most"),
    ],
)
def test_a_continuation_that_cannot_be_is_refused(site: Site, changed: dict[str, Any], rule: str) -> None:
    request = {"parameter": "eta", "lowest": -10.0, "highest": 0.0, **changed}
    with pytest.raises(grpc.RpcError) as refusal:
        list(site.stub.Continue(api.ContinueRequest(
            network=api.NetworkModel(neural_mass="montbrio-pazo-roxin"), **request
        )))  # fmt: skip
    assert refusal.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert rule in str(refusal.value.details())


def test_too_many_runs_are_refused_before_one_is_made(site: Site, model: api.NetworkModel) -> None:
    axes = [api.Axis(name=name, values=list(range(1, 101))) for name in ("coupling", "velocity")]
    with pytest.raises(grpc.RpcError, match="at most 4096 runs"):
        list(site.stub.Sweep(api.SweepRequest(network=model, protocol=protocol(), axes=axes)))


MONITORS = (TemporalAverage(period=0.02), Bold(period=0.5))


def network() -> Network:
    return Network(
        mass=MASS,
        weights=WEIGHTS,
        tract_lengths=LENGTHS,
        velocity=4.0,
        coupling=0.7,
        sigma=(0.0, 0.05),
        region_labels=LABELS,
    )


def protocol(duration: float = 1.0, period: float = 0.02) -> api.Protocol:
    return api.Protocol(
        duration_s=duration,
        transient_s=0.5,
        dt_ms=0.1,
        monitors=[
            api.Monitor(temporal_average=api.TemporalAverage(period_s=period)),
            api.Monitor(bold=api.Bold(period_s=max(0.5, period))),
        ],
    )


def ended(stream: Any) -> Any:
    *_, last = stream
    return last.result


def waited_for(call: Any, condition: Callable[[api.Progress], bool]) -> None:
    for answer in call:
        if condition(answer.progress):
            return
    raise AssertionError("the run ended")


def ends_with(stream: Any) -> grpc.StatusCode:
    try:
        list(stream)
    except grpc.RpcError as error:
        return error.code()
    return grpc.StatusCode.OK


def seconds_until_free(site: Site, model: api.NetworkModel) -> float:
    """Until a short simulation is taken again."""
    begun = time.monotonic()
    while time.monotonic() < begun + 30.0:
        if ends_with(site.stub.Simulate(api.SimulateRequest(network=model, protocol=protocol()))) is grpc.StatusCode.OK:
            break
        time.sleep(0.2)
    return time.monotonic() - begun
