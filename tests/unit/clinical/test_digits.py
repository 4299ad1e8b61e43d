"""Digits are decided once, by the uncertainty."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vbt.clinical.digits import printed, significant
from vbt.clinical.findings import Quantity


def quantity(value, low=None, high=None):
    return Quantity(code="q", label="q", unit="1", value=value, low=low, high=high)


@pytest.mark.parametrize(
    ("value", "low", "high", "digits"),
    [
        (0.43214, 0.3121, 0.5512, ("0.43", "0.31", "0.55")),
        (12345.6, 11000.0, 13000.0, ("12300", "11000", "13000")),
        (1.1, 1.05, 1.15, ("1.100", "1.050", "1.150")),
        (-0.0004, -0.1, 0.1, ("0.00", "-0.10", "0.10")),
        (3.14159, None, None, ("3.142", "None", "None")),
    ],
)
def test_interval_half_width_keeps_two_digits(value, low, high, digits):
    found = printed(quantity(value, low, high))
    assert tuple(map(str, (found.value, found.low, found.high))) == digits


finite = st.floats(-1e9, 1e9, allow_nan=False)


@given(finite, finite, finite)
def test_rounding_keeps_the_value_inside_its_interval(a, b, c):
    low, value, high = sorted((a, b, c))
    found = printed(quantity(value, low, high))
    assert found.low <= found.value <= found.high


@pytest.mark.parametrize(
    ("value", "text"), [(64.0, "64"), (0.0, "0"), (21.3749, "21.37"), (1200.0, "1200"), (-0.0, "0")]
)
def test_significant_digits_have_no_trailing_zeros(value, text):
    assert str(significant(value)) == text
    assert isinstance(significant(value), Decimal)


def test_numbers_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="finite"):
        printed(quantity(float("inf")))
