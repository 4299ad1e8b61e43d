"""What a site sets wrong ends the process at its start, with the variable's name and what it may be."""

from __future__ import annotations

import pytest

from dicom_ingest.settings import IngestSettings
from vbt.clinical.applications import NAMES
from vbt.platform.settings import read_settings


@pytest.mark.parametrize("name", NAMES)
def test_every_application_may_be_what_studies_are_taken_for(name, monkeypatch):
    monkeypatch.setenv("VBT_DICOM__PROTOCOL", name)
    assert read_settings(IngestSettings).dicom.protocol == name


def test_a_protocol_that_names_no_application_ends_the_start_with_the_names_there_are(monkeypatch, capsys):
    monkeypatch.setenv("VBT_DICOM__PROTOCOL", "resting-state")
    with pytest.raises(SystemExit) as ended:
        read_settings(IngestSettings)
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert told.startswith("VBT_DICOM__PROTOCOL: ")
    assert all(name in told for name in NAMES)
    assert "resting-state" not in told
