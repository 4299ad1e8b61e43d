"""Pictures are the same bytes for the same arrays, and say nothing of when or by what they were drawn."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from vbt.clinical._pictures import Marginal, connectome_picture, posterior_picture
from vbt.clinical._resting_state_pictures import fit_picture, scenario_picture
from vbt.clinical.findings import Quantity

SIDES = ["L", "L", "R", "R", "B"]


def chunks(png):
    position, found = 8, []
    while position < len(png):
        (length,) = struct.unpack(">I", png[position : position + 4])
        found.append(png[position + 4 : position + 8])
        position += 12 + length
    return found


@pytest.fixture
def matrix():
    values = np.random.default_rng(3).uniform(0.01, 1, (5, 5))
    return (values + values.T) / 2


def test_pictures_of_a_case_carry_pixels_only(pictures):
    for png in pictures.values():
        assert set(chunks(png)) <= {b"IHDR", b"IDAT", b"IEND", b"pHYs"}
        width, height = Image.open(io.BytesIO(png)).size
        assert 700 < width < 1600
        assert 400 < height < 1800


def test_same_arrays_give_the_same_bytes(matrix, findings):
    def draw():
        return (
            connectome_picture(matrix, hemispheres=SIDES, unit="1"),
            fit_picture(matrix, matrix, correlation=1.0, baseline_correlation=0.3, hemispheres=SIDES),
            scenario_picture(findings.scenarios, matrix, changed_by="x", hemispheres=SIDES),
        )

    assert draw() == draw()


def test_another_weight_gives_another_picture(matrix):
    before = connectome_picture(matrix, hemispheres=SIDES, unit="1")
    matrix[0, 3] *= 10
    assert connectome_picture(matrix, hemispheres=SIDES, unit="1") != before


def test_regions_are_drawn_by_hemisphere_whatever_their_order(matrix):
    order = [4, 2, 0, 3, 1]
    shuffled = matrix[np.ix_(order, order)]
    sides = [SIDES[region] for region in order]
    sorted_within = sorted(range(5), key=lambda k: ("LRB".index(sides[k]), k))
    original = connectome_picture(shuffled[np.ix_(sorted_within, sorted_within)], hemispheres=SIDES, unit="1")
    assert connectome_picture(shuffled, hemispheres=sides, unit="1") == original


def test_empty_connectome_and_no_parameters_are_drawn():
    assert connectome_picture(np.zeros((5, 5)), hemispheres=SIDES, unit="1").startswith(b"\x89PNG")
    assert posterior_picture([]).startswith(b"\x89PNG")


def test_withheld_parameter_shows_its_shape_and_no_number():
    """Draws on another scale give the same picture only where no tick, no title and no line tells the scale."""
    draws, grid = np.random.default_rng(0).normal(size=500), np.linspace(-3, 3, 50)

    def drawn(scale, **value):
        quantity = Quantity(code="a", label="a", unit="1", **value)
        density = np.full_like(grid, 0.125 / scale)
        marginal = Marginal(quantity=quantity, draws=draws * scale, prior_grid=grid * scale, prior_density=density)
        return posterior_picture([marginal])

    assert drawn(1, withheld="not identifiable") == drawn(1024, withheld="not identifiable")
    assert drawn(1, value=0.0, low=-1.0, high=1.0) != drawn(1024, value=0.0, low=-1.0, high=1.0)


def test_unknown_hemisphere_is_refused(matrix):
    with pytest.raises(ValueError, match="L, R or B"):
        connectome_picture(matrix, hemispheres=["left"] * 5, unit="1")
