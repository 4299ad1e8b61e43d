"""A replay sees every number that moved: out of its interval, or at all where it has none."""

from __future__ import annotations

import pytest

from standalone.replay import _left
from vbt.clinical.findings import Quantity


def _number(**given) -> dict[str, Quantity]:
    return {"code": Quantity(code="code", label="a number", unit="1", **given)}


@pytest.mark.parametrize(
    ("was", "now", "said"),
    [
        ({"value": 2.0}, {"value": 2.0 + 1e-9}, ""),
        ({"value": 2.0}, {"value": 2.1}, "code changed from 2 to 2.1"),
        ({"value": 0.0}, {"value": 1e-3}, "code changed from 0 to 0.001"),
        ({"value": 2.0, "low": 1.0, "high": 3.0}, {"value": 2.9, "low": 1.0, "high": 3.0}, ""),
        ({"value": 2.0, "low": 1.0, "high": 3.0}, {"value": 3.1, "low": 1.0, "high": 3.0}, "code left its interval"),
        ({"value": 2.0}, {"withheld": "why"}, "code is reported in one run only"),
        ({"withheld": "why"}, {"value": 2.0}, "code is reported in one run only"),
        ({"withheld": "why"}, {"withheld": "why"}, ""),
    ],
)
def test_a_number_is_compared_by_its_interval_or_its_value(was, now, said):
    assert _left(_number(**was), _number(**now)) == said
