"""A number is rounded once, here, so that FHIR, PDF, pictures and terminal show the same digits."""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal

from vbt.clinical.findings import Quantity

_UNITS = {"1": "", "{count}": "", "/s": "s⁻¹", "1/s": "s⁻¹", "um": "µm", "Cel": "°C", "deg": "°"}


@dataclass(frozen=True)
class PrintedQuantity:
    """The digits of a `Quantity` as every output shows them; all None where the value is withheld."""

    value: Decimal | None
    low: Decimal | None
    high: Decimal | None
    r_hat: Decimal | None
    ess: Decimal | None


def printed(quantity: Quantity) -> PrintedQuantity:
    """Round a quantity to the digits its uncertainty supports.

    Value and bounds share one decimal place, at which the half width of the interval keeps two significant digits.
    Rounding is monotone, so low ≤ value ≤ high survives it. Without an interval four significant digits are kept.
    """
    r_hat = None if quantity.r_hat is None else rounded(quantity.r_hat, -3)
    ess = None if quantity.ess is None else rounded(quantity.ess, 0)
    if quantity.value is None:
        return PrintedQuantity(None, None, None, r_hat, ess)
    half_width = 0.0
    if quantity.low is not None and quantity.high is not None:
        half_width = (quantity.high - quantity.low) / 2
    exponent = _last_place(half_width, 2) if half_width > 0 else _last_place(quantity.value, 4)

    def at_place(bound: float | None) -> Decimal | None:
        return None if bound is None else rounded(bound, exponent)

    return PrintedQuantity(at_place(quantity.value), at_place(quantity.low), at_place(quantity.high), r_hat, ess)


def significant(value: float, digits: int = 4) -> Decimal:
    """`value` to a number of significant digits, without an exponent and without trailing zeros."""
    return Decimal(format(rounded(value, _last_place(value, digits)).normalize(), "f"))


def rounded(value: float, exponent: int) -> Decimal:
    """`value` to the decimal place 10**exponent, written without an exponent and never as minus zero."""
    if not math.isfinite(value):
        raise ValueError(f"only finite numbers are reported, got {value}")
    exact = Decimal(repr(float(value))).quantize(Decimal((0, (1,), exponent)), rounding=ROUND_HALF_EVEN)
    return Decimal(format(abs(exact) if exact == 0 else exact, "f"))


def unit_text(unit: str) -> str:
    """A UCUM unit as people write it; nothing for a plain number or a count."""
    return _UNITS.get(unit, unit)


def _last_place(value: float, digits: int) -> int:
    if value == 0 or not math.isfinite(value):
        return 0
    # FHIR decimals hold 18 significant digits; nothing we infer is known below 1e-12 of its unit.
    return max(math.floor(math.log10(abs(value))) - digits + 1, -12)
