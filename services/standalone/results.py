"""What the stages of a case gave, as the library's own objects."""

from __future__ import annotations

from vbt.api.event.v1.event_pb2 import ConnectomeBuilt, TwinCalibrated
from vbt.clinical.applications import application_of
from vbt.connectome import Connectome
from vbt.errors import NotYet
from vbt.inference import Calibration
from vbt.platform import wire
from vbt.platform.cases import Case
from vbt.platform.objects import Objects


def load_connectome(case: Case, objects: Objects) -> Connectome:
    """The connectome of a case.

    Raises
    ------
    NotYet : the case has none, or none yet
    """
    built = wire.result(case, "connectome_builder", ConnectomeBuilt)
    if built is None:
        raise _missing("connectome")
    return Connectome.from_npz(objects.get(wire.from_wire(built.connectome)))


def load_calibration(case: Case, objects: Objects) -> Calibration:
    """The posterior of a case, sound or not.

    Raises
    ------
    NotYet : the case has none, or none yet
    """
    calibrated = wire.result(case, "twin_inference", TwinCalibrated)
    if calibrated is None:
        raise _missing("calibration")
    posterior = objects.get(wire.from_wire(calibrated.posterior))
    found: Calibration = application_of(calibrated.protocol).calibration.from_npz(posterior)
    return found


def _missing(what: str) -> NotYet:
    return NotYet(
        f"no-{what}",
        rule=f"a case has a {what} when it has come so far",
        got="a case that stopped before, or runs",
        action="look at it with `vbt case show`",
    )
