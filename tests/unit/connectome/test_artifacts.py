"""What leaves the package is the same for the same input, and comes back whole."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from vbt.connectome import Connectome
from vbt.connectome._pictures import draw_pictures


@pytest.fixture(scope="module")
def connectome(crossing) -> Connectome:
    return Connectome(
        weights=crossing.edges.strengths,
        tract_lengths=crossing.edges.tract_lengths,
        region_labels=("lh.one", "lh.two", "rh.one", "rh.two"),
        centres=np.arange(12.0).reshape(4, 3),
        is_cortical=np.array([True, True, True, False]),
        parcellation="four",
    )


def test_a_connectome_survives_its_archive(connectome):
    again = Connectome.from_npz(connectome.to_npz())
    for name in ("weights", "tract_lengths", "centres", "is_cortical"):
        np.testing.assert_array_equal(getattr(again, name), getattr(connectome, name))
    assert (again.region_labels, again.parcellation) == (connectome.region_labels, "four")


def test_the_same_connectome_is_the_same_bytes(connectome):
    assert connectome.to_npz() == Connectome.from_npz(connectome.to_npz()).to_npz()


def test_pictures_are_the_same_bytes_without_metadata(crossing, connectome):
    draw = (crossing.anatomy, crossing.diffusion, crossing.fibres, crossing.streamlines, connectome)
    one, two = draw_pictures(*draw), draw_pictures(*draw)
    assert set(one) == {"anatomy", "fibres", "weights", "lengths"}
    assert one == two
    for content in one.values():
        picture = Image.open(io.BytesIO(content))
        assert picture.format == "PNG"
        assert set(picture.info) <= {"dpi"}
