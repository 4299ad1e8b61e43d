"""Connectivity zips of The Virtual Brain are read as TVB reads them, or refused with the rule they break."""

from __future__ import annotations

import bz2
import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from vbt.connectome import Connectome, read_connectome, read_tvb_connectivity
from vbt.errors import Rejected

# The second region drives the first, over 30 mm; nothing goes back.
WEIGHTS = "0 2.5 0\n0 0 1\n0 0 0\n"
LENGTHS = "0 30 0\n0 0 12.5\n0 0 0\n"
CENTRES = "lA -10 1.5 2\nrA 10 1.5 2\nTH 0 0 0\n"
FILES = {"weights.txt": WEIGHTS, "tract_lengths.txt": LENGTHS, "centres.txt": CENTRES, "cortical.txt": "1\n1\n0\n"}


def archive(files: dict[str, str | bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as out:
        for name, content in files.items():
            out.writestr(name, content)
    return buffer.getvalue()


def test_rows_are_targets_and_columns_sources(tmp_path: Path) -> None:
    path = tmp_path / "connectivity.zip"
    path.write_bytes(archive({**FILES}))
    connectome = read_tvb_connectivity(path)
    assert connectome.region_labels == ("lA", "rA", "TH")
    assert connectome.weights[0, 1] == 2.5
    assert connectome.weights[1, 0] == 0.0
    assert connectome.tract_lengths[0, 1] == 30.0
    assert connectome.centres.tolist() == [[-10, 1.5, 2], [10, 1.5, 2], [0, 0, 0]]
    assert connectome.is_cortical.tolist() == [True, True, False]


def test_packed_members_folders_and_resource_forks_change_nothing() -> None:
    packed = {f"brain/{name}.bz2": bz2.compress(content.encode()) for name, content in FILES.items()}
    forks: dict[str, str | bytes] = {"__MACOSX/brain/._weights.txt": b"\x00\x05", "__MACOSX/weights.txt": b"\xff"}
    plain, nested = read_tvb_connectivity(archive({**FILES})), read_tvb_connectivity(archive({**forks, **packed}))
    assert nested.to_npz() == plain.to_npz()


def test_self_connections_are_left_out_and_counted() -> None:
    connectome = read_tvb_connectivity(archive({**FILES, "weights.txt": "3 2.5 0\n0 0 1\n0 0 1\n"}))
    assert not np.diag(connectome.weights).any()
    assert "2 self-connections" in connectome.normalisation


def test_without_tissue_all_regions_count_as_cortex() -> None:
    files = {name: content for name, content in FILES.items() if name != "cortical.txt"}
    assert read_tvb_connectivity(archive({**files})).is_cortical.all()


def test_our_own_archive_is_told_from_a_tvb_zip() -> None:
    connectome = read_connectome(archive({**FILES}))
    again = read_connectome(connectome.to_npz())
    assert isinstance(again, Connectome)
    assert again.to_npz() == connectome.to_npz()


@pytest.mark.parametrize(
    ("changed", "rule"),
    [
        ({"weights.txt": None}, "no weights"),
        ({"weights.txt": "0 1\n0 0\n"}, "weights is square over the 3 regions"),
        ({"weights.txt": "0 1 x\n0 0 1\n0 0 0\n"}, "weights holds numbers"),
        ({"weights.txt": "0 -1 0\n0 0 1\n0 0 0\n"}, "weights is not negative"),
        ({"tract_lengths.txt": "0 nan 0\n0 0 1\n0 0 0\n"}, "tract_lengths is finite"),
        ({"centres.txt": "lA 1 2\nrA 3 4\nTH 0 0\n"}, "a label without blanks and x, y, z"),
        ({"centres.txt": "A 1 2 3\nA 3 4 5\nTH 0 0 0\n"}, "region labels are unique"),
        ({"cortical.txt": "1\n0\n"}, "cortical has a 0 or a 1"),
        ({"weights.txt": b"\xff\xfe\x00"}, "are text"),
    ],
)
def test_what_breaks_a_rule_is_refused_by_it(changed: dict[str, str | bytes | None], rule: str) -> None:
    files = {name: content for name, content in {**FILES, **changed}.items() if content is not None}
    with pytest.raises(Rejected, match=rule):
        read_tvb_connectivity(archive(files))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"not a zip"])
def test_another_file_is_refused(content: bytes) -> None:
    with pytest.raises(Rejected, match=r"connectome\.npz or as a TVB connectivity zip"):
        read_connectome(content)


def test_an_archive_without_the_arrays_is_refused() -> None:
    buffer = io.BytesIO()
    np.savez(buffer, weights=np.zeros((2, 2)))
    with pytest.raises(Rejected, match="holds the arrays"):
        read_connectome(buffer.getvalue())
