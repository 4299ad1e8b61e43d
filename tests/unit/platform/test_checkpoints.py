"""A checkpoint belongs to one step on one input, comes back whole or not at all, and goes with the case."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import obstore
import pytest
import sqlalchemy as sa
from opentelemetry.trace import INVALID_SPAN

from vbt.errors import NotYet
from vbt.platform.audit import ConsentDecision
from vbt.platform.checkpoints import remove_checkpoints, step_checkpoint
from vbt.platform.events import Event
from vbt.platform.objects import Objects, S3Options
from vbt.platform.software import Software
from vbt.platform.stage_context import StageContext

PERMIT = ConsentDecision(decision="permit", basis="test")


@pytest.fixture
def objects(tmp_path: Path) -> Objects:
    return Objects((tmp_path / "objects").as_uri())


@pytest.fixture
def context(engine: sa.Engine, software: Software) -> StageContext:
    return StageContext(
        engine=engine,
        event=Event(id="e", source="t", type="t", subject="case-1", revision=1, value=b"connectome and recording"),
        group="twin_inference",
        stage="twin_inference",
        software=software,
        consent=PERMIT,
        span=INVALID_SPAN,
        given_up=lambda: False,
        permit=lambda _connection: PERMIT,
    )


def files(objects: Objects) -> list[Path]:
    return [path for path in Path(objects.url.removeprefix("file://")).rglob("*") if path.is_file()]


def test_what_is_kept_comes_back_in_another_process(objects: Objects, context: StageContext) -> None:
    step_checkpoint(objects, context, "7").save("chain-0", b"draws")
    again = step_checkpoint(Objects(objects.url), context, "7")
    assert again.load("chain-0") == b"draws"
    assert again.load("chain-1") is None
    again.save("chain-0", b"more draws")
    assert again.load("chain-0") == b"more draws"


@pytest.mark.parametrize("change", ["seed", "input", "revision", "software"])
def test_another_input_finds_nothing_and_clears_it_away(objects: Objects, context: StageContext, change: str) -> None:
    step_checkpoint(objects, context, "7").save("chain-0", b"draws")
    seed = "8" if change == "seed" else "7"
    if change == "input":
        context.event = replace(context.event, value=b"another recording")
    if change == "revision":
        context.event = replace(context.event, revision=2)
    if change == "software":
        context.software = replace(context.software, digest="1" * 64)
    assert step_checkpoint(objects, context, seed).load("chain-0") is None
    assert files(objects) == []


def test_a_damaged_checkpoint_is_as_good_as_none(objects: Objects, context: StageContext) -> None:
    checkpoint = step_checkpoint(objects, context)
    checkpoint.save("chain-0", b"draws")
    (path,) = files(objects)
    path.write_bytes(path.read_bytes()[:-1])
    assert checkpoint.load("chain-0") is None


def test_removal_leaves_other_cases_and_the_artifacts(objects: Objects, context: StageContext) -> None:
    artifact = objects.put(b"weights", "application/octet-stream", "connectome.npz")
    step_checkpoint(objects, context).save("chain-0", b"draws")
    context.event = replace(context.event, subject="case-10")
    other = step_checkpoint(objects, context)
    other.save("chain-0", b"draws")
    assert remove_checkpoints(objects, "case-1") == 1
    assert other.load("chain-0") == b"draws"
    assert objects.get(artifact) == b"weights"
    assert remove_checkpoints(objects, "case-10") == 1
    assert [path.name for path in files(objects)] == [artifact.sha256]


def test_a_step_removes_what_it_kept_and_not_what_a_newer_revision_keeps(
    objects: Objects, context: StageContext
) -> None:
    old = step_checkpoint(objects, context)
    context.event = replace(context.event, revision=2)
    new = step_checkpoint(objects, context)
    new.save("chain-0", b"newer draws")
    old.save("chain-0", b"late draws")
    old.remove()
    assert old.load("chain-0") is None
    assert new.load("chain-0") == b"newer draws"


def test_a_store_that_cannot_be_written_costs_the_checkpoint_only(objects: Objects, context: StageContext) -> None:
    checkpoint = step_checkpoint(objects, context)
    place = Path(objects.url.removeprefix("file://")) / "checkpoints"
    place.write_bytes(b"in the way")
    checkpoint.save("chain-0", b"draws")
    assert checkpoint.load("chain-0") is None


def stubborn(monkeypatch: pytest.MonkeyPatch, ending: str) -> None:
    """Let the store refuse to remove what has this name."""
    delete = obstore.delete

    def refuses(store: obstore.store.ObjectStore, name: str) -> None:
        if name.endswith(ending):
            raise PermissionError("no access")
        delete(store, name)

    monkeypatch.setattr(obstore, "delete", refuses)


def test_an_erasure_says_that_a_checkpoint_is_left_and_removes_the_others(
    objects: Objects, context: StageContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = step_checkpoint(objects, context)
    for name in ("chain-0", "chain-1", "chain-2"):
        checkpoint.save(name, b"draws")
    with monkeypatch.context() as broken:
        stubborn(broken, "/chain-1")
        with pytest.raises(NotYet) as left:
            remove_checkpoints(objects, "case-1")
    assert left.value.code == "checkpoints-left"
    assert [path.name for path in files(objects)] == ["chain-1"]
    assert remove_checkpoints(objects, "case-1") == 1
    assert files(objects) == []


def test_an_erasure_does_not_take_a_store_out_of_reach_for_an_empty_one(context: StageContext) -> None:
    away = S3Options(endpoint="http://127.0.0.1:9", region="x", access_key_id="x", secret_access_key="x")
    objects = Objects("s3://nowhere", away)
    with pytest.raises(NotYet):
        remove_checkpoints(objects, "case-1")
    step_checkpoint(objects, context).remove()  # a step goes on


def test_a_step_goes_on_when_old_checkpoints_cannot_be_removed(
    objects: Objects, context: StageContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = step_checkpoint(objects, context)
    for name in ("chain-0", "chain-1"):
        old.save(name, b"draws")
    context.event = replace(context.event, revision=2)
    stubborn(monkeypatch, "/chain-0")
    new = step_checkpoint(objects, context)
    new.save("chain-0", b"newer draws")
    assert new.load("chain-0") == b"newer draws"
    assert old.load("chain-1") is None
