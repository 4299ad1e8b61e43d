"""The calibrating step on its own: it goes on after a shutdown, refuses what it cannot use, and clears up behind it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from google.protobuf.message import Message
from opentelemetry.trace import INVALID_SPAN

from brain_simulator.handlers import ScenarioSimulator
from twin_inference.__main__ import build
from twin_inference.handlers import TwinCalibrator
from twin_inference.settings import InferenceSettings
from twin_inference.time_left import TimeLeft
from vbt.api.event.v1 import event_pb2, step_pb2
from vbt.api.inference.v1 import inference_pb2 as api
from vbt.api.inference.v1 import inference_pb2_grpc
from vbt.clinical.findings import TwinFindings
from vbt.clinical.second_opinion import Opinion
from vbt.connectome import Connectome, RegionalBold
from vbt.errors import Rejected
from vbt.inference import AmortisedCalibration, AmortisedPosterior
from vbt.platform import cases, stages, wire
from vbt.platform.audit import ConsentDecision
from vbt.platform.cases import Status
from vbt.platform.events import CONNECTOME_BUILT, TWIN_CALIBRATED, Event
from vbt.platform.grpc_channel import open_channel
from vbt.platform.runtime import Runtime, open_runtime
from vbt.platform.server import Server
from vbt.platform.settings import read_settings
from vbt.platform.software import this_software
from vbt.platform.stage_context import Abandoned, StageContext, cancelled_by_user

PERMIT = ConsentDecision(decision="permit", basis="test")
REGIONS = 10


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[Runtime]:
    opened = open_runtime("twin_inference", read_settings(InferenceSettings, data=tmp_path), log=False)
    yield opened
    opened.close()


def built(runtime: Runtime, *, protocol: str = "resting_state", bold: bool = True) -> event_pb2.ConnectomeBuilt:
    rng = np.random.default_rng(0)
    weights = rng.lognormal(size=(REGIONS, REGIONS))
    weights = np.triu(weights, 1) + np.triu(weights, 1).T
    centres = rng.normal(size=(REGIONS, 3)) * 40.0
    labels = tuple(f"{side}.area{i}" for side in ("lh", "rh") for i in range(REGIONS // 2))
    connectome = Connectome(
        weights=weights,
        tract_lengths=np.linalg.norm(centres[:, None] - centres[None], axis=-1),
        region_labels=labels,
        centres=centres,
        is_cortical=np.ones(REGIONS, dtype=bool),
        parcellation="test",
    )
    signal = rng.normal(size=(300, REGIONS)) @ np.linalg.inv(np.eye(REGIONS) - 0.1 * weights)
    recording = RegionalBold(
        time_series=signal,
        repetition_time=2.0,
        region_labels=labels,
        framewise_displacement=np.zeros(300),
        tsnr=np.ones(REGIONS),
        voxels=np.ones(REGIONS),
    )

    def put(content: bytes, name: str) -> event_pb2.Artifact:
        return wire.to_wire(runtime.objects.put(content, "application/x-npz", name))

    return event_pb2.ConnectomeBuilt(
        protocol=protocol,
        connectome=put(connectome.to_npz(), "connectome.npz"),
        bold=put(recording.to_npz(), "bold.npz") if bold else None,
    )


class Watched(StageContext):
    """A context that keeps what it was told, and gives up where it is told to."""

    heard: list[tuple[str, float]]
    patience: Callable[[str], bool]

    def progress(self, message: str, fraction: float) -> None:
        self.heard.append((message, fraction))
        if not self.patience(message):
            raise Abandoned


def watched(runtime: Runtime, message: Message, topic: str, revision: int) -> Watched:
    event = Event(
        id="e",
        source="t",
        type=topic,
        subject=message.case_id,
        revision=revision,
        value=message.SerializeToString(deterministic=True),
    )
    context = Watched(
        engine=runtime.engine,
        event=event,
        group="twin_inference",
        stage="twin_inference",
        software=this_software("twin_inference"),
        consent=PERMIT,
        span=INVALID_SPAN,
        given_up=lambda: False,
        permit=lambda _connection: PERMIT,
    )
    context.heard, context.patience = [], lambda _message: True
    return context


def calibrate(
    runtime: Runtime,
    message: event_pb2.ConnectomeBuilt,
    patience: Callable[[str], bool] = lambda _message: True,
    *,
    revision: int = 1,
    simulations: int = 0,
):
    with runtime.engine.begin() as connection:
        found = cases.list_cases(connection)
        case = found[0] if found else cases.create_case(connection, study_key="study", protocol=message.protocol)
    message.case_id, message.revision = case.case_id, revision
    context = watched(runtime, message, CONNECTOME_BUILT, revision)
    context.patience = patience
    calibrator = TwinCalibrator(objects=runtime.objects, rng_seed=3, simulations=simulations)
    return calibrator(context.event, context), context.heard


def kept(runtime: Runtime, what: str = "chain-*") -> list[Path]:
    return list((Path(runtime.objects.url.removeprefix("file://")) / "checkpoints").rglob(what))


def test_a_calibration_that_was_shut_down_goes_on_and_gives_the_same_posterior(runtime: Runtime) -> None:
    message = built(runtime)
    undisturbed, _ = calibrate(runtime, message)
    for act in undisturbed.afterwards:
        act()
    assert kept(runtime) == []
    with pytest.raises(Abandoned):
        calibrate(runtime, message, lambda heard: not heard.startswith("sampling"))
    assert len(kept(runtime)) == 4
    resumed, heard = calibrate(runtime, message)
    assert not any(said.startswith("warm-up") for said, _ in heard)
    results = [wire.message_of(effects.detail, event_pb2.TwinCalibrated) for effects in (undisturbed, resumed)]
    assert results[0].posterior.sha256 == results[1].posterior.sha256
    assert len(kept(runtime)) == 4  # until the effect is committed
    for act in resumed.afterwards:
        act()
    assert kept(runtime) == []
    (entry,) = resumed.audit
    assert {"r-hat", "ess", "least-shrinkage", "divergences", "e-bfmi"} <= set(entry.detail["gate"])


def test_a_second_opinion_goes_on_after_a_shutdown_is_kept_used_again_and_told(runtime: Runtime) -> None:
    """A network of 48 simulations: too few to be right, enough to go the whole way."""
    message = built(runtime)
    with pytest.raises(Abandoned):
        calibrate(runtime, message, lambda heard: not heard.startswith("second opinion: training"), simulations=48)
    assert (len(kept(runtime, "simulations-*")), len(kept(runtime, "flow-*"))) == (1, 1)
    effects, heard = calibrate(runtime, message, simulations=48)
    assert [fraction for _, fraction in heard] == sorted(fraction for _, fraction in heard)
    calibrated = wire.message_of(effects.detail, event_pb2.TwinCalibrated)
    archives = {artifact.name: wire.from_wire(artifact) for artifact in calibrated.second_opinion}
    assert set(archives) == {"second-opinion.json", "second-opinion.npz", "network.npz", "network-card.json"}
    network = AmortisedPosterior.from_npz(runtime.objects.get(archives["network.npz"]))
    posterior = AmortisedCalibration.from_npz(runtime.objects.get(archives["second-opinion.npz"]))
    card = json.loads(runtime.objects.get(archives["network-card.json"]))
    assert posterior.network == network.digest == archives["network.npz"].sha256
    assert card["simulations"] == 48
    assert card["recording"]["samples"] == 150
    opinion = Opinion.from_json(runtime.objects.get(archives["second-opinion.json"]))
    assert f"second opinion {opinion.verdict}" in effects.detail["summary"]
    (entry,) = effects.audit
    assert {thing.sha256 for thing in entry.outputs} >= {archive.sha256 for archive in archives.values()}

    with runtime.engine.begin() as connection:
        stages.finish(connection, message.case_id, 1, "twin_inference", Status.DONE, detail=effects.detail)
        cases.new_revision(connection, message.case_id)
    later = watched(runtime, message, CONNECTOME_BUILT, 2)
    offered = list(TwinCalibrator(objects=runtime.objects, rng_seed=3, simulations=48).earlier_networks(later))
    assert offered == [network.to_npz()]
    later.software = dataclasses.replace(later.software, digest="0" * 64)
    assert not list(TwinCalibrator(objects=runtime.objects, rng_seed=3, simulations=48).earlier_networks(later))

    calibrated.verdict = event_pb2.VERDICT_UNSOUND  # so that no scenarios are simulated
    context = watched(runtime, calibrated, TWIN_CALIBRATED, 1)
    told = ScenarioSimulator(objects=runtime.objects, rng_seed=1, duration_seconds=1.0)(context.event, context)
    simulated = wire.message_of(told.detail, event_pb2.ScenariosSimulated)
    found = TwinFindings.from_json(runtime.objects.get(wire.from_wire(simulated.findings)))
    assert found.conclusion.endswith(opinion.conclusion)
    assert {"global-coupling", "population-coupling"} <= {quantity.code for quantity in found.parameters}
    assert {check.code for check in opinion.quality} <= {check.code for check in found.quality}


def test_what_was_cancelled_during_the_second_opinion_leaves_nothing(runtime: Runtime) -> None:
    message = built(runtime)

    def cancelled(heard: str) -> bool:
        if heard.startswith("second opinion"):
            raise cancelled_by_user()
        return True

    with pytest.raises(Rejected) as refusal:
        calibrate(runtime, message, cancelled, simulations=48)
    assert refusal.value.code == "cancelled"
    assert kept(runtime, "*-*") == []


def test_without_the_setting_there_is_no_second_opinion(runtime: Runtime, tmp_path: Path, monkeypatch) -> None:
    assert not read_settings(InferenceSettings, data=tmp_path).inference.second_opinion
    monkeypatch.setenv("VBT_INFERENCE__SECOND_OPINION", "true")
    asked = read_settings(InferenceSettings, data=tmp_path).inference
    assert (asked.second_opinion, asked.second_opinion_simulations) == (True, 2400)
    effects, _ = calibrate(runtime, built(runtime))
    assert not wire.message_of(effects.detail, event_pb2.TwinCalibrated).second_opinion


def test_an_unknown_protocol_is_refused(runtime: Runtime) -> None:
    with pytest.raises(Rejected) as refusal:
        calibrate(runtime, built(runtime, protocol="phrenology"))
    assert refusal.value.code == "protocol-unknown"


def test_a_missing_recording_is_refused_with_what_to_send(runtime: Runtime) -> None:
    with pytest.raises(Rejected) as refusal:
        calibrate(runtime, built(runtime, bold=False))
    assert (refusal.value.code, refusal.value.action) == ("no-recording", "send the study with its resting fMRI series")


def test_over_grpc_a_refusal_of_any_application_comes_back_with_its_rule(runtime: Runtime, tmp_path: Path) -> None:
    settings = read_settings(InferenceSettings, data=tmp_path)
    service = build(runtime, settings)
    server = Server(service.name, [service.add_servicer], service.workers, runtime.relay, settings.grpc)
    server.start()
    try:
        with open_channel(f"127.0.0.1:{server.port}", deadline=30.0) as channel:
            stub = inference_pb2_grpc.TwinServiceStub(channel)
            for message, told in (
                (built(runtime, protocol="phrenology"), "a protocol names an application"),
                (built(runtime, bold=False), "send the study with its resting fMRI series"),
            ):
                case_id = stub.SubmitTwin(api.SubmitTwinRequest(input=message)).case_id
                *_, last = stub.WatchTwin(api.WatchTwinRequest(case_id=case_id))
                assert last.step.state == step_pb2.STEP_STATE_STOPPED
                assert told in last.step.message
                assert not stub.GetTwin(api.GetTwinRequest(case_id=case_id)).HasField("result")
    finally:
        server.stop()


def test_the_time_left_is_told_at_the_pace_of_the_present_work() -> None:
    now, told = [0.0], []
    tell = TimeLeft(lambda message, fraction: told.append((message, fraction)), clock=lambda: now[0])
    for seconds, message, fraction in (
        (0.0, "finding the mode", 0.02),
        (100.0, "warm-up, 0 divergent", 0.1),
        (110.0, "warm-up, 0 divergent", 0.2),
        (400.0, "sampling, 1 divergent", 0.5),
        (500.0, "sampling, 1 divergent", 0.6),
        (900.0, "calibrated", 1.0),
    ):
        now[0] = seconds
        tell(message, fraction)
    assert [message for message, _ in told] == [
        "finding the mode",
        "warm-up, 0 divergent",
        "warm-up, 0 divergent, about 80 s left",
        "sampling, 1 divergent",
        "sampling, 1 divergent, about 7 min left",
        "calibrated",
    ]
