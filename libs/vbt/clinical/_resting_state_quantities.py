"""One inferred parameter as the report gives it: a number with its interval, or the reason why there is none."""

from __future__ import annotations

from vbt.clinical.findings import Quantity
from vbt.inference import Calibration

LEVEL = 0.90


def parameter_quantity(
    calibration: Calibration,
    name: str,
    *,
    code: str,
    label: str,
    refused: str = "the calibration did not pass its checks",
) -> Quantity:
    """A dimensionless parameter with one value.

    Parameters
    ----------
    name : of the draws; ``code`` and ``label`` in the report
    refused : why no number of an unsound calibration is given
    """
    diagnostics = calibration.diagnostics(name)
    withheld = None
    if not calibration.sound:
        withheld = refused
    elif not diagnostics.identifiable:
        withheld = f"not identifiable from this recording (shrinkage {diagnostics.shrinkage:.2f}, limit 0.30)"
    elif not diagnostics.converged:
        withheld = f"its chains did not mix (R-hat {diagnostics.r_hat:.3f}, limit 1.01; fewest independent draws 400)"
    if withheld is not None:
        return Quantity(code=code, label=label, unit="1", withheld=withheld, level=LEVEL)
    median, low, high = calibration.interval(name, LEVEL)
    return Quantity(
        code=code,
        label=label,
        unit="1",
        value=median,
        low=low,
        high=high,
        level=LEVEL,
        r_hat=diagnostics.r_hat,
        ess=diagnostics.ess_bulk,
    )
