"""Entries have one byte form, and their place in the log is part of it."""

from datetime import UTC, datetime

import pytest

from vbt.errors import Rejected
from vbt.ledger import MAX_ENTRY_BYTES, canonical_entry, parse_entry, sequenced_entry, timestamp

AT = datetime(2026, 11, 22, 8, 1, 12, 345, tzinfo=UTC)


FIELDS = {
    "event_id": "e1",
    "at": "2026-11-22T08:01:11.000000Z",
    "case_id": None,
    "action": "study.ingested",
    "outcome": "success",
    "actor": "dicom-ingest",
}


def test_a_leaf_says_its_place_and_its_time():
    leaf = sequenced_entry(canonical_entry(FIELDS), seq=7, at=AT)
    assert leaf == (
        b'{"action":"study.ingested","actor":"dicom-ingest","at":"2026-11-22T08:01:11.000000Z","case_id":null,'
        b'"event_id":"e1","outcome":"success","seq":7,"sequenced_at":"2026-11-22T08:01:12.000345Z"}'
    )


@pytest.mark.parametrize("more", [{"sequel": 1}, {"zebra": 1}, {"detail": {"seq": 7, "sequenced_at": timestamp(AT)}}])
def test_the_place_stands_beside_any_other_key(more):
    leaf = parse_entry(sequenced_entry(canonical_entry({**FIELDS, **more}), seq=7, at=AT))
    assert leaf == {**FIELDS, **more, "seq": 7, "sequenced_at": timestamp(AT)}


@pytest.mark.parametrize("missing", FIELDS)
def test_an_entry_without_what_every_reader_needs_gets_no_place(missing):
    fields = {name: value for name, value in FIELDS.items() if name != missing}
    with pytest.raises(Rejected):
        sequenced_entry(canonical_entry(fields), seq=0, at=AT)


@pytest.mark.parametrize(
    "change", [(b'"e1"', b'"e1" '), (b'"e1"', b'"\\u0065"'), (b"null", b" null"), (b"null", b"1.0")]
)
def test_another_spelling_of_an_entry_gets_no_place(change):
    with pytest.raises(Rejected):
        sequenced_entry(canonical_entry(FIELDS).replace(*change), seq=0, at=AT)


@pytest.mark.parametrize("key", ["seq", "sequenced_at"])
def test_an_entry_does_not_choose_its_place(key):
    with pytest.raises(Rejected, match="sequencer gives"):
        sequenced_entry(canonical_entry({**FIELDS, key: 7}), seq=7, at=AT)


def test_the_order_of_keys_does_not_matter():
    assert canonical_entry({"b": 1, "a": 2}) == canonical_entry({"a": 2, "b": 1})


def test_text_order_of_timestamps_is_time_order():
    on_the_second = AT.replace(microsecond=0)
    assert timestamp(on_the_second) < timestamp(AT)
    assert len(timestamp(on_the_second)) == len(timestamp(AT))


@pytest.mark.parametrize(
    "entry",
    [
        b"",
        b"[]",
        b'{"action":"x"}',
        b'{"event_id":1}',
        b'{"event_id":"e", "action":"x"}',
        b'{"event_id":"e","action":"x"}',
        b'{"event_id":"e","seq":3}',
        b'{"event_id":"e","sequenced_at":"x"}',
        b'{"event_id":"' + b"e" * MAX_ENTRY_BYTES + b'"}',
        b"[" * 100_000,
    ],
)
def test_what_is_not_a_canonical_entry_gets_no_place(entry):
    with pytest.raises(Rejected):
        sequenced_entry(entry, seq=0, at=AT)


def test_numbers_without_one_json_form_are_refused():
    for value in (float("nan"), 2**60):
        with pytest.raises(Rejected):
            canonical_entry({"event_id": "e", "detail": value})


def test_an_entry_reads_back():
    assert parse_entry(canonical_entry({"event_id": "e", "detail": {"é": [1, 2]}}))["detail"] == {"é": [1, 2]}
