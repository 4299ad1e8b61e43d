"""What a person decides takes effect, is on the trail, and an erased patient is nowhere left."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import obstore
import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from standalone.cli import app
from standalone.decisions import erase
from standalone.suite import suite_settings
from vbt.errors import NotYet, Rejected
from vbt.platform import audit, cases, stages, state
from vbt.platform.audit import AuditEntry, Digest
from vbt.platform.bus_sqlite import SqliteBus
from vbt.platform.cases import Status
from vbt.platform.checkpoints import StepCheckpoint
from vbt.platform.events import Message
from vbt.platform.identity import Vault
from vbt.platform.keys import SiteKeys
from vbt.platform.objects import Objects
from vbt.platform.policy import ConsentPolicy
from vbt.platform.runtime import open_objects
from vbt.platform.software import this_software
from vbt.platform.state import open_state, reading

CANARY = b"Mustermann^Erika"
runner = CliRunner()


class Site:
    """A site's directory, with cases put in by hand."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.settings = suite_settings(data)
        self.engine = open_state(self.settings.state_url)
        self.objects: Objects = open_objects(self.settings)
        self.vault = Vault(SiteKeys(self.settings.keys_directory))

    def case(self, study: str, status: Status, *contents: bytes) -> str:
        """A case with an identity, one image, and artifacts of these contents."""
        image = self.settings.spool_directory / "ab" / f"{study}.dcm"
        image.parent.mkdir(parents=True, exist_ok=True)
        image.write_bytes(CANARY + study.encode())
        artifacts = [self.objects.put(content, "text/plain", "artifact.txt") for content in contents]
        with self.engine.begin() as connection:
            case = cases.create_case(connection, study_key=study, protocol="resting_state", status=status)
            self.vault.seal(connection, case.case_id, {"name": CANARY.decode()})
            row = {"sop_key": study, "study_key": study, "series_key": "s", "sha256": "0", "path": str(image)}
            connection.execute(sa.insert(state.instance).values(**row, received_at=0.0, association="a"))
            detail = {"summary": CANARY.decode()}
            stages.finish(connection, case.case_id, 1, "dicom_ingest", Status.DONE, detail=detail)
            audit.record(
                connection,
                AuditEntry(
                    event_id=f"{study}-1",
                    case_id=case.case_id,
                    revision=1,
                    action="connectome.built",
                    outcome="success",
                    actor="t",
                    software=this_software("standalone"),
                    outputs=tuple(Digest(name=one.name, sha256=one.sha256) for one in artifacts),
                ),
            )
        SqliteBus(self.engine).send(Message(topic="t", key=case.case_id, headers={}, value=CANARY))
        report = self.data / "reports" / case.case_id / "report.pdf"
        report.parent.mkdir(parents=True)
        report.write_bytes(CANARY)
        return case.case_id

    def run(self, *arguments: str, expect: int = 0, answer: str | None = None) -> Any:
        result = runner.invoke(app, [*arguments, "--data", str(self.data)], input=answer)
        assert result.exit_code == expect, result.output
        return json.loads(result.stdout) if "--json" in arguments else result.output

    def ran(self, given: bytes, *contents: bytes) -> None:
        """A simulation on demand, which is no case, of an artifact with this content."""
        kept = [self.objects.put(content, "text/plain", "simulation.npz") for content in contents]
        source = self.objects.put(given, "text/plain", "connectome")
        entry = AuditEntry(
            event_id=f"run of {source.sha256}",
            case_id=cases.new_case_id(),
            revision=1,
            action="network.simulated",
            outcome="success",
            actor="brain_simulator",
            software=this_software("standalone"),
            inputs=(Digest(name="connectome", sha256=source.sha256),),
            outputs=tuple(Digest(name=one.name, sha256=one.sha256) for one in kept),
        )
        with self.engine.begin() as connection:
            audit.record(connection, entry)

    def actions(self, case_id: str) -> list[str]:
        with reading(self.engine) as connection:
            rows = connection.execute(sa.select(state.audit_outbox.c.entry).order_by(state.audit_outbox.c.id)).scalars()
            entries = [json.loads(row) for row in rows]
        return [entry["action"] for entry in entries if entry["case_id"] == case_id]

    def status(self, case_id: str) -> Status:
        with reading(self.engine) as connection:
            return cases.read_case(connection, case_id).status

    def holds(self, text: bytes) -> list[str]:
        """The files in which a text is found."""
        return [str(path) for path in self.data.rglob("*") if path.is_file() and text in path.read_bytes()]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    yield site
    site.engine.dispose()


def test_an_erased_patient_is_nowhere_left(site: Site) -> None:
    case_id = site.case("study", Status.DONE, b"derived from " + CANARY)
    assert len(site.holds(CANARY)) >= 3
    (erased,) = site.run("erase", case_id[:6], "--yes", "--json")
    assert erased == {"case_id": case_id, "images": 1, "images_missing": 0, "artifacts": 1, "shared_artifacts": 0}
    assert site.holds(CANARY) == []
    assert site.actions(case_id) == ["connectome.built", "identity.erased", "case.erased"]
    with site.engine.begin() as connection, pytest.raises(Rejected, match="no identity"):
        site.vault.open(connection, case_id, _entry(case_id))
    assert "erased" in site.run("case", "show", case_id)


def test_what_another_case_uses_is_not_erased_with_it(site: Site) -> None:
    case_id = site.case("study", Status.DONE, b"mine", b"shared")
    other = site.case("other", Status.DONE, b"shared")
    (erased,) = site.run("erase", case_id, "--yes", "--json")
    assert (erased["artifacts"], erased["shared_artifacts"]) == (1, 1)
    assert site.objects.get(site.objects.put(b"shared", "text/plain", "x")) == b"shared"
    with site.engine.begin() as connection:
        assert site.vault.open(connection, other, _entry(other)) == {"name": CANARY.decode()}
    (last,) = site.run("erase", other, "--yes", "--json")
    assert (last["artifacts"], last["shared_artifacts"]) == (1, 0)
    assert site.holds(CANARY) == []


def test_what_was_simulated_on_demand_from_the_case_is_erased_with_it(site: Site) -> None:
    case_id, other = site.case("study", Status.DONE, b"mine"), site.case("other", Status.DONE, b"of the other")
    site.ran(b"mine", b"simulated from " + CANARY, b"in both")
    site.ran(b"of the other", b"simulated from the other", b"in both")
    (erased,) = site.run("erase", case_id, "--yes", "--json")
    assert (erased["artifacts"], erased["shared_artifacts"]) == (2, 1)
    assert site.holds(b"simulated from " + CANARY) == []
    assert len(site.holds(b"simulated from the other")) == len(site.holds(b"in both")) == 1
    (last,) = site.run("erase", other, "--yes", "--json")
    assert (last["artifacts"], last["shared_artifacts"]) == (3, 0)
    assert site.holds(b"simulated from the other") == site.holds(b"in both") == []


def test_what_was_simulated_from_a_shared_connectome_goes_with_the_last_case(site: Site) -> None:
    first, last = site.case("study", Status.DONE, b"shared"), site.case("other", Status.DONE, b"shared")
    site.ran(b"shared", b"numbers of the run")
    site.run("erase", first, "--yes")
    assert len(site.holds(b"numbers of the run")) == 1
    site.run("erase", last, "--yes")
    assert site.holds(b"numbers of the run") == []


def test_what_a_long_step_kept_goes_with_the_case(site: Site) -> None:
    case_id, other = site.case("study", Status.DONE), site.case("other", Status.DONE)
    for one in (case_id, other):
        StepCheckpoint(site.objects, f"checkpoints/{one}/1-digest").save("chain-0", CANARY)
    site.run("erase", case_id, "--yes")
    assert StepCheckpoint(site.objects, f"checkpoints/{case_id}/1-digest").load("chain-0") is None
    assert StepCheckpoint(site.objects, f"checkpoints/{other}/1-digest").load("chain-0") == CANARY


def test_an_erasure_that_left_a_checkpoint_is_not_told_as_done(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    case_id = site.case("study", Status.DONE)
    kept = StepCheckpoint(site.objects, f"checkpoints/{case_id}/1-digest")
    kept.save("chain-0", CANARY)

    def refuses(*_: object) -> None:
        raise PermissionError("no access")

    with monkeypatch.context() as broken:
        broken.setattr(obstore, "delete", refuses)
        assert "checkpoints-left" in site.run("erase", case_id, "--yes", expect=2)
    assert "case.erased" not in site.actions(case_id)
    site.run("erase", case_id, "--yes")
    assert (kept.load("chain-0"), site.holds(CANARY)) == (None, [])
    assert site.actions(case_id)[-1] == "case.erased"


def test_nothing_is_erased_without_a_yes(site: Site) -> None:
    case_id = site.case("study", Status.DONE)
    site.run("erase", case_id, expect=1, answer="n\n")
    assert site.status(case_id) is Status.DONE
    assert site.actions(case_id) == ["connectome.built"]
    site.run("erase", case_id, answer="y\n")
    assert site.status(case_id) is Status.ERASED


def test_a_running_case_is_not_erased(site: Site) -> None:
    case_id = site.case("study", Status.RUNNING)
    assert "case-not-ended" in site.run("erase", case_id, "--yes", expect=2)
    assert site.actions(case_id) == ["connectome.built"]


@pytest.mark.parametrize("as_json", [False, True])
def test_each_case_is_told_of_when_another_is_refused(site: Site, *, as_json: bool) -> None:
    ended, running, last = (
        site.case("one", Status.DONE),
        site.case("two", Status.RUNNING),
        site.case("three", Status.DONE),
    )
    told = site.run("erase", ended, running, last, "--yes", *(["--json"] if as_json else []), expect=2)
    if as_json:
        assert [(one["case_id"], one.get("code")) for one in told] == [
            (ended, None),
            (running, "case-not-ended"),
            (last, None),
        ]
    else:
        assert sorted(line.split(":")[0] for line in told.splitlines()) == sorted([ended, running, last])
        assert f"{ended}: identity, 1 images" in told
        assert f"{running}: not erased: case-not-ended" in told
    assert [site.status(case_id) for case_id in (ended, running, last)] == [
        Status.ERASED,
        Status.RUNNING,
        Status.ERASED,
    ]


def test_a_stopped_case_is_not_erased_while_its_stop_is_being_reported(site: Site) -> None:
    """The report has the patient's name in it, and would be kept after the erasure."""
    case_id = site.case("study", Status.STOPPED)
    with site.engine.begin() as connection:
        stages.begin(connection, case_id, 1, "report_writer")
    with pytest.raises(NotYet) as refused:
        erase(site.engine, site.settings, case_id)
    assert refused.value.code == "case-not-ended"
    with site.engine.begin() as connection:
        stages.finish(connection, case_id, 1, "report_writer", Status.DONE)
    assert erase(site.engine, site.settings, case_id).images == 1


def test_a_second_run_finishes_an_erasure_that_broke_off(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    case_id = site.case("study", Status.DONE, b"derived")

    def unreachable(*_: object) -> bool:
        raise NotYet("objects-unreachable", rule="r", got="g", action="a")

    with monkeypatch.context() as broken:
        broken.setattr(Objects, "remove", unreachable)
        site.run("erase", case_id, "--yes", expect=2)
    (erased,) = site.run("erase", case_id, "--yes", "--json")
    assert (erased["artifacts"], erased["images_missing"]) == (1, 1)
    assert site.actions(case_id)[-1] == "case.erased"


def test_an_image_that_comes_during_the_erasure_leaves_no_file_without_a_row(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    case_id = site.case("study", Status.DONE, b"derived")
    late = site.settings.spool_directory / "cd" / "late.dcm"
    remove = Objects.remove

    def comes(objects: Objects, sha256: str) -> bool:
        late.parent.mkdir(exist_ok=True)
        late.write_bytes(CANARY)
        row = {"sop_key": "late", "study_key": "study", "series_key": "s", "sha256": "0", "path": str(late)}
        with site.engine.begin() as connection:
            connection.execute(sa.insert(state.instance).values(**row, received_at=0.0, association="a"))
        return remove(objects, sha256)

    monkeypatch.setattr(Objects, "remove", comes)
    (erased,) = site.run("erase", case_id, "--yes", "--json")
    assert (erased["images"], erased["images_missing"]) == (2, 0)
    assert site.holds(CANARY) == []


def test_an_erasure_that_left_something_in_the_log_file_says_so(site: Site) -> None:
    case_id = site.case("study", Status.DONE)
    site.engine.dispose()
    sa.event.listen(site.engine, "connect", lambda raw, _: raw.execute("PRAGMA busy_timeout = 50"))
    reader = open_state(site.settings.state_url)
    with reading(reader) as connection:
        cases.read_case(connection, case_id)
        with pytest.raises(NotYet, match="older state"):
            erase(site.engine, site.settings, case_id)
        assert {Path(path).name for path in site.holds(CANARY)} <= {"vbt.db", "vbt.db-wal"}
    reader.dispose()
    erase(site.engine, site.settings, case_id)
    assert site.holds(CANARY) == []


def test_nothing_is_erased_where_the_received_files_are_out_of_reach(site: Site) -> None:
    case_id = site.case("study", Status.DONE)
    site.settings.spool_directory.rename(site.data / "elsewhere")
    assert "spool-unreachable" in site.run("erase", case_id, "--yes", expect=2)
    assert site.status(case_id) is Status.DONE


def test_objects_kept_aside_are_erased_with_their_case(site: Site) -> None:
    import hashlib

    aside = site.settings.spool_directory / "quarantine" / "random.dcm"
    other = aside.with_name("other.dcm")
    aside.parent.mkdir(parents=True, exist_ok=True)
    aside.write_bytes(CANARY)
    other.write_bytes(b"of another case")
    with site.engine.begin() as connection:
        case = cases.create_case(connection, study_key="association:1", protocol="quarantine", status=Status.STOPPED)
        detail = {"objects": [{"code": "malformed", "sha256": hashlib.sha256(CANARY).hexdigest(), "bytes": 16}]}
        stages.finish(connection, case.case_id, 1, "receive", Status.STOPPED, detail=detail)
    (erased,) = site.run("erase", case.case_id, "--yes", "--json")
    assert erased["images"] == 1
    assert (aside.exists(), other.exists()) == (False, True)


def test_objects_of_a_study_that_were_kept_aside_are_erased_with_the_study(site: Site) -> None:
    import hashlib

    case_id = site.case("study", Status.DONE)
    aside = site.settings.spool_directory / "quarantine" / "random.dcm"
    aside.parent.mkdir(parents=True, exist_ok=True)
    aside.write_bytes(CANARY)
    with site.engine.begin() as connection:
        case = cases.create_case(connection, study_key="association:1", protocol="quarantine", status=Status.STOPPED)
        kept = {"code": "conflicting-duplicate", "sha256": hashlib.sha256(CANARY).hexdigest(), "bytes": 16}
        detail = {"objects": [{**kept, "study_key": "study"}]}
        stages.finish(connection, case.case_id, 1, "receive", Status.STOPPED, detail=detail)
    (erased,) = site.run("erase", case_id, "--yes", "--json")
    assert (erased["images"], aside.exists()) == (2, False)


def test_a_case_that_runs_can_be_cancelled_and_one_that_ended_cannot(site: Site) -> None:
    running, ended = site.case("one", Status.RUNNING), site.case("two", Status.DONE)
    assert site.run("case", "cancel", running, "--json") == {"case_id": running, "decision": "cancel", "taken": True}
    assert site.run("case", "cancel", ended, "--json", expect=1)["taken"] is False
    assert site.actions(running)[-1] == "case.cancel-requested"
    with reading(site.engine) as connection:
        assert cases.read_case(connection, running).cancel_requested


def test_consent_holds_for_the_study_from_the_next_step_on(site: Site) -> None:
    case_id, other = site.case("one", Status.RUNNING), site.case("two", Status.RUNNING)
    site.run("consent", "withdraw", case_id, other, "--reference", "Consent/1", "--json")
    policy = ConsentPolicy("permit")
    with site.engine.begin() as connection:
        for each in (case_id, other):
            with pytest.raises(Rejected) as refused:
                policy.decide(connection, each)
            assert refused.value.code == "consent-withdrawn"
    site.run("consent", "grant", case_id, "--reference", "Consent/2")
    with site.engine.begin() as connection:
        assert policy.decide(connection, case_id).basis == "Consent/2"
    assert site.actions(case_id)[-2:] == ["consent.recorded", "consent.recorded"]


@pytest.mark.parametrize(
    "reference", ["Consent/a-1.B", "https://ehr.example:8443/fhir/R4/Consent/4711", "B-12/2026", "4711.2"]
)
def test_a_consent_is_named_by_its_resource_or_by_a_code(site: Site, reference: str) -> None:
    site.run("consent", "grant", site.case("study", Status.RUNNING), "--reference", reference)


@pytest.mark.parametrize(
    "reference",
    [
        "", "Erika Mustermann", "Mustermann", "Mustermann^Erika", "Consent/Müller", "Consent/4711 Mustermann",
        "Consent/4711\n", "https://erika:1@ehr.example/Consent/4711", "https://ehr.example/Patient/4711?name=x",
        "https://ehr.example/fhir?patient=Mustermann/Consent/1", "Müller1", "1" * 33,
    ],
)  # fmt: skip
def test_a_name_or_a_sentence_is_no_reference_to_a_consent(site: Site, reference: str) -> None:
    case_id = site.case("study", Status.RUNNING)
    result = runner.invoke(app, ["consent", "withdraw", case_id, "--reference", reference, "--data", str(site.data)])
    assert isinstance(result.exception, Rejected)
    assert result.exception.code == "consent-reference"
    assert not reference or reference not in str(result.exception)
    assert site.actions(case_id) == ["connectome.built"]


@pytest.mark.parametrize("command", [["case", "cancel"], ["consent", "grant", "--reference", "R"], ["erase", "--yes"]])
def test_a_decision_about_no_case_is_a_wrong_usage(site: Site, command: list[str]) -> None:
    site.run(*command, "zzz", expect=2)
    case_id = site.case("study", Status.DONE)
    site.run(*command, "", expect=2)
    assert site.actions(case_id) == ["connectome.built"]


def _entry(case_id: str) -> AuditEntry:
    return AuditEntry(
        event_id="open", case_id=case_id, revision=1, action="identity.opened", outcome="success", actor="t",
        software=this_software("standalone"),
    )  # fmt: skip
