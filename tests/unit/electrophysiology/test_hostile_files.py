from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import mne
import numpy as np
import pytest

from vbt.electrophysiology import read_seeg
from vbt.errors import Rejected

Bids = Callable[..., tuple[Path, Path]]


def _code(path: Path, electrodes: Path) -> str:
    with pytest.raises(Rejected) as refused:
        read_seeg(path, electrodes)
    message = str(refused.value)
    assert path.name not in message
    assert "MUSTERMANN" not in message
    return refused.value.code


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04" + bytes(500), b"0       ", bytes(1000)])
def test_another_format_is_refused(bids: Bids, content: bytes) -> None:
    path, electrodes = bids()
    path.write_bytes(content)
    assert _code(path, electrodes) in {"recording-format-unknown", "recording-unreadable"}


@pytest.mark.parametrize("suffix", [".edf", ".fif"])
def test_half_a_file_is_refused_or_read_as_what_is_there(bids: Bids, suffix: str) -> None:
    path, electrodes = bids(suffix)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert _code(path, electrodes) in {"recording-truncated", "recording-unreadable"}


def test_more_records_than_the_file_holds_are_refused_before_memory_is_taken(bids: Bids) -> None:
    path, electrodes = bids()
    content = bytearray(path.read_bytes())
    content[236:244] = b"99999999"
    path.write_bytes(bytes(content))
    assert _code(path, electrodes) == "recording-truncated"


def test_a_recording_beyond_memory_is_refused_by_its_size(bids: Bids, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vbt.electrophysiology._files._MOST_VALUES", 1000)
    assert _code(*bids()) == "recording-too-large"


def test_gaps_are_refused(bids: Bids) -> None:
    path, electrodes = bids()
    content = bytearray(path.read_bytes())
    content[192:197] = b"EDF+D"
    path.write_bytes(bytes(content))
    assert _code(path, electrodes) == "recording-with-gaps"


@pytest.mark.parametrize("name", ["../secret.eeg", "/etc/passwd", "..\\secret.eeg", "absent.eeg", ".."])
def test_brainvision_opens_no_file_elsewhere(bids: Bids, name: str) -> None:
    path, electrodes = bids(".vhdr")
    (path.parent.parent / "secret.eeg").write_bytes(bytes(100))
    header = path.read_text()
    path.write_text(header.replace(f"DataFile={path.stem}.eeg", f"DataFile={name}"))
    assert path.read_text() != header
    assert _code(path, electrodes) == "recording-unreadable"


def test_brainvision_follows_no_link(bids: Bids, tmp_path: Path) -> None:
    path, electrodes = bids(".vhdr")
    whole = path.with_suffix(".eeg").rename(tmp_path / "elsewhere.bin")
    path.with_suffix(".eeg").symlink_to(whole)
    assert _code(path, electrodes) == "recording-unreadable"


@pytest.mark.parametrize("key", ["DataFile", "datafile", "DATAFILE ", "MarkerFile", "markerfile"])
@pytest.mark.parametrize("decoy", ["", "[Decoy]\nDataFile={stem}.eeg\nMarkerFile={stem}.vmrk\n"])
def test_brainvision_names_are_those_that_the_reader_goes_by(bids: Bids, key: str, decoy: str) -> None:
    """The other recording is whole and readable: only its place speaks against it."""
    path, electrodes = bids(".vhdr")
    suffix = ".vmrk" if key.lower().startswith("marker") else ".eeg"
    elsewhere = path.parent / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / f"other{suffix}").write_bytes(path.with_suffix(suffix).read_bytes())
    option = key.strip().lower().replace("file", "File=").replace("data", "Data").replace("marker", "Marker")
    header = path.read_text()
    hostile = header.replace(f"{option}{path.stem}{suffix}", f"{key}=elsewhere/other{suffix}")
    assert hostile != header
    first = hostile.index("[Common Infos]")
    path.write_text(hostile[:first] + decoy.format(stem=path.stem) + hostile[first:])
    assert _code(path, electrodes) == "recording-unreadable"


def test_brainvision_in_text_is_refused_before_its_header_says_how_many_lines_to_skip(bids: Bids) -> None:
    path, electrodes = bids(".vhdr")
    path.write_text(path.read_text().replace("=BINARY", "=ASCII") + "\n[ASCII Infos]\nSkipLines=999999999999\n")
    assert _code(path, electrodes) == "recording-unreadable"


def test_a_split_fif_opens_no_other_file(bids: Bids, monkeypatch: pytest.MonkeyPatch) -> None:
    path, electrodes = bids(".fif")
    raw = mne.io.read_raw_fif(path, preload=True, verbose="ERROR")
    raw = mne.concatenate_raws([raw, *(raw.copy() for _ in range(3))], verbose="ERROR")
    raw.save(path, split_size="2MB", overwrite=True, buffer_size_sec=1.0, verbose="ERROR")
    assert len(mne.io.read_raw_fif(path, verbose="ERROR").filenames) > 1
    monkeypatch.setattr(mne.io, "read_raw_fif", lambda *_, **__: pytest.fail("read before it was refused"))
    assert _code(path, electrodes) == "recording-unreadable"


@pytest.mark.parametrize("suffix", [".edf", ".vhdr", ".fif"])
def test_a_header_with_any_byte_changed_is_read_or_refused_and_never_crashes(bids: Bids, suffix: str) -> None:
    path, electrodes = bids(suffix)
    whole = path.read_bytes()
    rng = np.random.default_rng(7)
    for _ in range(60):
        changed = bytearray(whole)
        for where in rng.integers(0, min(len(whole), 3000), size=3):
            changed[where] = rng.integers(256)
        path.write_bytes(bytes(changed))
        try:
            said = repr(read_seeg(path, electrodes))
        except Rejected as refusal:
            said = str(refusal)
        assert "MUSTERMANN" not in said
