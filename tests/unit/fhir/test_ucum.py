"""Units by the grammar of UCUM, section 2."""

import pytest

from vbt.fhir._ucum import is_ucum

GOOD = "1 % m/s mm ms /s 1/s Hz s-1 mm2/s kg.m2 10*3/uL {spikes}/s mV mm[Hg] um2/ms Cel rad/s dB 10^3 (m/s)/s m{tract}"
BAD = ["", "sec", "m//s", "m/", "m s", "foo", "(m", "m)", "m^2", "{a", "a.", "µm", "m{a}b", ".m", "()", "kmin"]


@pytest.mark.parametrize("unit", GOOD.split())
def test_unit_is_ucum(unit):
    assert is_ucum(unit)


@pytest.mark.parametrize("unit", BAD)
def test_unit_is_not_ucum(unit):
    assert not is_ucum(unit)
