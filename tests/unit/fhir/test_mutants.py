"""Hundreds of broken Bundles made by a generator, judged beside an independent R4 validator."""

import copy
import random
from collections.abc import Iterator

import fhirkit
import pytest

from vbt.fhir import report_bundle, to_json, validate

WRONG = (None, "", " ", [], {}, 7, -1, True, "x y\t", ["a", "a"], {"a": 1}, [None], "urn:uuid:nobody", "2026-13-45")


def places(node, path=()) -> Iterator[tuple]:
    """Every key and index below a node."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from places(value, (*path, key))


def mutants(bundle, count):
    """`count` copies of a Bundle with one element deleted, replaced, renamed or wrapped."""
    rng = random.Random(20261122)
    everywhere = list(places(bundle))
    for _ in range(count):
        broken = copy.deepcopy(bundle)
        *above, last = rng.choice(everywhere)
        holder = broken
        for key in above:
            holder = holder[key]
        kind = rng.choice(["delete", "replace", "rename", "wrap"])
        if kind == "delete":
            del holder[last]
        elif kind == "rename" and isinstance(holder, dict):
            holder[f"{last}s"] = holder.pop(last)
        elif kind == "wrap":
            holder[last] = [holder[last]]
        else:
            holder[last] = rng.choice(WRONG)
        yield kind, broken


def errors_of_fhirkit(bundle):
    return [issue for issue in fhirkit.validate(to_json(bundle).decode()) if issue.severity == "error"]


@pytest.fixture(scope="module")
def judged(findings, case, pdf):
    good = report_bundle(findings, pdf, case)
    return [
        (
            kind,
            broken,
            validate(broken),
            [i for i in fhirkit.validate(to_json(broken).decode()) if i.severity == "error"],
        )
        for kind, broken in mutants(good, 600)
    ]


def test_whatever_the_independent_validator_refuses_we_refuse(judged):
    refused = [(kind, broken) for kind, broken, ours, theirs in judged if theirs and not ours]
    assert len([1 for *_, theirs in judged if theirs]) > 250
    assert refused == []


def test_almost_every_renamed_or_mistyped_element_is_caught(judged):
    caught = [bool(ours) for kind, _, ours, _ in judged if kind in ("rename", "wrap", "replace")]
    assert len(caught) > 200
    assert sum(caught) / len(caught) >= 0.95
