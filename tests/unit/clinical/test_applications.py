"""A protocol names an application; what it does not name, or cannot feed, is refused with what to do."""

from __future__ import annotations

import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest

from vbt.clinical.application import Recordings
from vbt.clinical.applications import NAMES, application_of, require_recordings
from vbt.electrophysiology import SensorRecording
from vbt.errors import Rejected


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_an_application_that_says_what_it_needs(name):
    application = application_of(name)
    assert application.name == name
    assert application.requires
    assert application.needs
    assert application.title


@pytest.mark.parametrize("name", NAMES)
def test_a_case_without_recordings_is_told_what_to_send(name):
    with pytest.raises(Rejected) as refusal:
        require_recordings(application_of(name), Recordings())
    assert refusal.value.code == "no-recording"
    assert "vbt attach" in refusal.value.action or "send the study" in refusal.value.action


def test_an_unknown_protocol_is_refused_without_repeating_it():
    with pytest.raises(Rejected) as refusal:
        application_of("os.path")
    assert refusal.value.code == "protocol-unknown"
    assert "os.path" not in str(refusal.value)


def test_the_registry_alone_loads_no_application():
    """A service starts before it needs a model."""
    code = "import sys, vbt.clinical.applications; print([m for m in sys.modules if m.startswith('vbt.clinical.')])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not any(f"vbt.clinical.{name}'" in loaded for name in NAMES)


def test_recordings_come_back_from_their_archives():
    seeg = SensorRecording(
        kind="seeg",
        signals=np.arange(6.0).reshape(3, 2),
        sampling_rate=512.0,
        channel_labels=("A1", "A2"),
        positions=np.zeros((2, 3)),
    )
    labels = nib.Nifti1Image(np.arange(8, dtype=np.int16).reshape(2, 2, 2), np.diag([2.0, 2.0, 2.0, 1.0]))
    found = Recordings.of({"seeg": seeg.to_npz(), "labels": labels.to_bytes()})
    assert found.seeg is not None
    assert found.seeg.channel_labels == ("A1", "A2")
    assert found.labels is not None
    np.testing.assert_array_equal(np.asarray(found.labels.dataobj), np.asarray(labels.dataobj))
    assert found.bold is None
    assert found.meg is None
