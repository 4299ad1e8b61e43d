"""One step on its own, over gRPC: a real report writer with its bus, its state and its artifacts."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from report_writer.__main__ import build
from report_writer.settings import ReportSettings
from vbt.api.event.v1 import event_pb2, step_pb2
from vbt.api.report.v1 import report_pb2, report_pb2_grpc
from vbt.clinical.findings import TwinFindings
from vbt.connectome import Connectome
from vbt.fhir import from_json, validate
from vbt.inference import ParameterDiagnostics, RestingStateCalibration, SamplerDiagnostics
from vbt.platform import wire
from vbt.platform.grpc_channel import error_info, open_channel
from vbt.platform.runtime import Runtime, open_runtime
from vbt.platform.server import Server
from vbt.platform.settings import read_settings
from vbt.simulation import record

UNSOUND = TwinFindings(
    application="resting_state",
    context_of_use="Research on resting-state dynamics.",
    verdict="unsound",
    conclusion="The chains did not agree.",
    methods=("NUTS.",),
    limits=("None of it is validated.",),
)


@dataclasses.dataclass
class Site:
    """A report writer that runs."""

    runtime: Runtime
    stub: Any


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    settings = read_settings(ReportSettings, data=tmp_path)
    runtime = open_runtime("report_writer", settings, log=False)
    service = build(runtime, settings)
    server = Server(service.name, [service.add_servicer], service.workers, runtime.relay, settings.grpc)
    server.start()
    with open_channel(f"127.0.0.1:{server.port}", deadline=30.0) as channel:
        yield Site(runtime, report_pb2_grpc.ReportServiceStub(channel))
    server.stop()
    runtime.close()


@pytest.fixture
def simulated(site: Site) -> event_pb2.ScenariosSimulated:
    """What the brain simulator gives for a twin whose calibration was unsound."""
    connectome = Connectome(
        weights=np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 2.0], [0.0, 2.0, 0.0]]),
        tract_lengths=np.array([[0.0, 10.0, 0.0], [10.0, 0.0, 20.0], [0.0, 20.0, 0.0]]),
        region_labels=("lh.a", "rh.a", "brainstem"),
        centres=np.zeros((3, 3)),
        is_cortical=np.array([True, True, False]),
        parcellation="three",
    )

    def put(content: bytes, name: str) -> event_pb2.Artifact:
        return wire.to_wire(site.runtime.objects.put(content, "application/octet-stream", name))

    return event_pb2.ScenariosSimulated(
        protocol="resting_state",
        connectome=put(connectome.to_npz(), "connectome.npz"),
        posterior=put(unsound_calibration().to_npz(), "posterior.npz"),
        findings=put(UNSOUND.to_json().encode(), "findings.json"),
    )


def test_a_step_on_its_own_gives_its_result_and_no_event(site: Site, simulated: event_pb2.ScenariosSimulated) -> None:
    case_id = submit(site, simulated, "r1")
    states = [answer.step.state for answer in site.stub.WatchReport(report_pb2.WatchReportRequest(case_id=case_id))]
    assert states[-1] == step_pb2.STEP_STATE_SUCCEEDED
    answer = site.stub.GetReport(report_pb2.GetReportRequest(case_id=case_id))
    bundle = from_json(site.runtime.objects.get(wire.from_wire(answer.result.bundle)))
    assert validate(bundle) == []
    assert answer.result.write_tier == event_pb2.WRITE_TIER_FILE
    with site.runtime.engine.connect() as connection:
        topics = {row[0] for row in connection.exec_driver_sql("SELECT topic FROM outbox")}
    assert topics == {"vbt.simulation.scenarios-simulated.v1"}


def test_the_same_request_starts_one_step(site: Site, simulated: event_pb2.ScenariosSimulated) -> None:
    assert submit(site, simulated, "r1") == submit(site, simulated, "r1") != submit(site, simulated, "r2")
    steps = site.stub.ListReports(report_pb2.ListReportsRequest()).steps
    assert len(steps) == 2


def test_requests_without_an_id_are_not_shared(site: Site, simulated: event_pb2.ScenariosSimulated) -> None:
    assert submit(site, simulated, "") != submit(site, simulated, "")


def test_an_ended_step_cannot_be_cancelled(site: Site, simulated: event_pb2.ScenariosSimulated) -> None:
    case_id = submit(site, simulated, "r1")
    list(site.stub.WatchReport(report_pb2.WatchReportRequest(case_id=case_id)))
    assert not site.stub.CancelReport(report_pb2.CancelReportRequest(case_id=case_id)).accepted
    with site.runtime.engine.connect() as connection:
        *_, last = connection.exec_driver_sql("SELECT entry FROM audit_outbox ORDER BY id").scalars()
    entry = json.loads(last)
    assert (entry["action"], entry["outcome"], entry["case_id"]) == ("case.cancel-requested", "refused", case_id)


def test_an_unknown_case_is_refused_with_its_rule(site: Site) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        site.stub.GetReport(report_pb2.GetReportRequest(case_id="nobody"))
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    facts = error_info(refused.value)
    assert facts is not None
    assert facts.reason == "case-unknown"


def unsound_calibration() -> RestingStateCalibration:
    return RestingStateCalibration(
        region_labels=("lh.a", "rh.a"),
        used_regions=np.arange(2),
        repetition_time=2.0,
        draws={"g": np.full((4, 5), 0.5)},
        priors={},
        parameters=(ParameterDiagnostics(name="g", r_hat=2.0, ess_bulk=4.0, ess_tail=4.0, shrinkage=0.1),),
        sampler=SamplerDiagnostics(divergences=9, draws=20, e_bfmi=0.1, saturated=0.5),
        verdict="unsound",
        reasons=("chains disagree on g: R-hat 2.000, limit 1.01",),
        warnings=(),
        empirical_fc=np.eye(2),
        fitted_fc=np.eye(2),
        fit=float("nan"),
        baselines={},
        noise_ceiling=float("nan"),
        checks=(),
        split_half_z=float("nan"),
        bold_sd=1.0,
        band_edges=(0.01, 0.1),
        band_counts=(9,),
        manifest=record(
            "test", inputs={}, outputs={}, parameters={}, seeds=(0,), dt=None, precision="double", batch_shape=(4,)
        ),
    )


def submit(site: Site, message: event_pb2.ScenariosSimulated, request_id: str) -> str:
    answer = site.stub.SubmitReport(report_pb2.SubmitReportRequest(request_id=request_id, input=message))
    return str(answer.case_id)
