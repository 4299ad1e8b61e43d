"""Lead fields against closed forms written down here: Sarvas for MEG, series in shells for EEG, 1/r² in depth."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import mne
import nibabel.freesurfer
import numpy as np
import pytest
import scipy.spatial
import scipy.special
from mne.io.constants import FIFF

from vbt.connectome import desikan_killiany
from vbt.simulation import (
    LeadField,
    Linear,
    Network,
    Projection,
    SourceSpace,
    TemporalAverage,
    desikan_killiany_sources,
    intracranial_lead_field,
    lead_field,
    resect,
    simulate,
    standard_eeg,
)

RADIUS = 90.0  # mm
SHELLS, CONDUCTIVITIES = (0.90, 0.92, 0.97, 1.0), (0.33, 1.0, 0.004, 0.33)


def _on_sphere(count: int, radius: float) -> np.ndarray:
    """Points spread evenly, mm."""
    k = np.arange(count) + 0.5
    z, angle = 1.0 - 2.0 * k / count, np.pi * (1.0 + 5.0**0.5) * k
    ring = np.sqrt(1.0 - z * z)
    return radius * np.stack([ring * np.cos(angle), ring * np.sin(angle), z], axis=1)


@pytest.fixture(scope="module")
def sources() -> SourceSpace:
    rng = np.random.default_rng(1)
    positions = _on_sphere(12, 1.0) * rng.uniform(25.0, 60.0, (12, 1))
    return SourceSpace.of_regions(positions, rng.normal(size=(12, 3)), tuple(f"r{i}" for i in range(12)))


@pytest.fixture(scope="module")
def sphere() -> mne.bem.ConductorModel:
    return mne.make_sphere_model(
        (0.0, 0.0, 0.0), RADIUS / 1000.0, relative_radii=SHELLS, sigmas=CONDUCTIVITIES, verbose="ERROR"
    )


def _eeg(points: np.ndarray) -> mne.Info:
    names = [f"E{i}" for i in range(len(points))]
    info = mne.create_info(names, 1000.0, "eeg", verbose="ERROR")
    montage = mne.channels.make_dig_montage(dict(zip(names, points / 1000.0, strict=True)), coord_frame="head")
    return info.set_montage(montage, verbose="ERROR")


def _magnetometers(points: np.ndarray) -> mne.Info:
    """Points that see the radial field."""
    info = mne.create_info([f"M{i}" for i in range(len(points))], 1000.0, "mag", verbose="ERROR")
    with info._unlock():
        info["dev_head_t"] = mne.transforms.Transform("meg", "head", np.eye(4))
    for channel, point in zip(info["chs"], points, strict=True):
        radial = point / np.linalg.norm(point)
        across = np.linalg.svd(radial[None])[2][1:]
        channel["loc"][:] = np.concatenate([point / 1000.0, across[0], across[1], radial])
        channel["coil_type"] = FIFF.FIFFV_COIL_POINT_MAGNETOMETER
    return info


def _sarvas(point: np.ndarray, position: np.ndarray, moment: np.ndarray) -> np.ndarray:
    """Magnetic field outside a sphere, T, of a dipole (A·m), everything in metres: Sarvas (1987)."""
    a_vector = point - position
    a, r = np.linalg.norm(a_vector), np.linalg.norm(point)
    F = a * (r * a + r**2 - position @ point)
    gradient = (a**2 / r + a_vector @ point / a + 2 * a + 2 * r) * point - (a + 2 * r + a_vector @ point / a) * position
    cross = np.cross(moment, position)
    return 1e-7 * (F * cross - (cross @ point) * gradient) / F**2


def _shells(point: np.ndarray, position: np.ndarray, moment: np.ndarray, terms: int = 120) -> float:
    """Potential on the outermost of concentric shells, V, of a dipole inside (A·m, mm): continuity solved per degree.

    In shell k the part of degree n is A_k rⁿ + B_k r⁻ⁿ⁻¹; B_1 is the dipole's, potential and current are continuous
    at every interface, and no current leaves the head.
    """
    r0 = np.linalg.norm(position)
    radial = position / r0
    cosine = radial @ point / np.linalg.norm(point)
    tangential = moment - (moment @ radial) * radial
    around = point - (point @ radial) * radial
    azimuth = (tangential @ around) / np.linalg.norm(around)
    n = np.arange(1, terms + 1)
    legendre = np.array([scipy.special.eval_legendre(k, cosine) for k in n])
    previous = np.array([scipy.special.eval_legendre(k - 1, cosine) for k in n])
    associated = n * (previous - cosine * legendre) / np.sqrt(1.0 - cosine**2)  # P_n¹ without the sign (−1)
    strength = (r0 / RADIUS) ** (n - 1) * ((moment @ radial) * n * legendre + azimuth * associated)
    surface = np.array([_degree(int(k)) for k in n])
    return float((strength * surface).sum() / (4.0 * np.pi * CONDUCTIVITIES[0] * (RADIUS / 1000.0) ** 2))


def _degree(n: int) -> float:
    """Potential at r = 1 of degree n for B_1 = 1."""
    count = len(SHELLS)
    matrix, right = np.zeros((2 * count, 2 * count)), np.zeros(2 * count)
    matrix[0, 1], right[0] = 1.0, 1.0
    for k, radius in enumerate(SHELLS[:-1]):
        # powers relative to the interface, so that high degrees stay in range
        inside, outside = slice(2 * k, 2 * k + 2), slice(2 * k + 2, 2 * k + 4)
        value = np.array([radius**n, radius ** (-n - 1)])
        slope = np.array([n * radius ** (n - 1), -(n + 1) * radius ** (-n - 2)])
        scale = radius ** (n + 1)
        matrix[2 * k + 1, inside], matrix[2 * k + 1, outside] = value * scale, -value * scale
        matrix[2 * k + 2, inside] = CONDUCTIVITIES[k] * slope * scale
        matrix[2 * k + 2, outside] = -CONDUCTIVITIES[k + 1] * slope * scale
    matrix[-1, -2:] = n, -(n + 1)
    solved = np.linalg.solve(matrix, right)
    return float(solved[-2] + solved[-1])


def test_meg_of_a_sphere_is_sarvas_formula(sources, sphere):
    points = _on_sphere(40, 120.0)
    field = lead_field(_magnetometers(points), sources, sphere, kind="meg")
    expected = [
        [
            _sarvas(point / 1000.0, position / 1000.0, 1e-9 * moment) @ point / np.linalg.norm(point) * 1e15
            for position, moment in zip(sources.positions, sources.normals, strict=True)
        ]
        for point in points
    ]
    np.testing.assert_allclose(field.gain, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())
    assert field.unit == "fT"


def test_eeg_of_a_sphere_is_the_series_of_its_shells(sources, sphere):
    """MNE replaces the shells by three equivalent dipoles (Berg & Scherg), hence the tolerance."""
    points = _on_sphere(30, RADIUS)
    field = lead_field(_eeg(points), sources, sphere, kind="eeg")
    exact = np.array(
        [
            [
                1e6 * _shells(point, position, 1e-9 * moment)
                for position, moment in zip(sources.positions, sources.normals, strict=True)
            ]
            for point in points
        ]
    )
    exact -= exact.mean(axis=0)
    error = np.linalg.norm(field.gain - exact, axis=0) / np.linalg.norm(exact, axis=0)
    assert error.max() < 0.02
    assert field.unit == "µV"


def test_a_boundary_element_head_agrees_with_the_sphere_it_approximates(sources, tmp_path: Path):
    shells = zip(("inner_skull", "outer_skull", "outer_skin"), (0.90, 0.94, 1.0), strict=True)
    (tmp_path / "ball" / "bem").mkdir(parents=True)
    for name, relative in shells:
        points = _on_sphere(250, RADIUS * relative)
        triangles = scipy.spatial.ConvexHull(points).simplices
        outward = np.einsum("ti,ti->t", np.cross(*_edges(points, triangles)), points[triangles[:, 0]])
        triangles[outward < 0] = triangles[outward < 0][:, ::-1]
        nibabel.freesurfer.write_geometry(str(tmp_path / "ball" / "bem" / f"{name}.surf"), points, triangles)
    model = mne.make_bem_model(
        "ball", ico=None, subjects_dir=tmp_path, conductivity=(0.33, 0.006, 0.33), verbose="ERROR"
    )
    solution = mne.make_bem_solution(model, verbose="ERROR")
    same = mne.make_sphere_model(
        (0.0, 0.0, 0.0), RADIUS / 1000.0, relative_radii=(0.90, 0.94, 1.0), sigmas=(0.33, 0.006, 0.33), verbose="ERROR"
    )
    electrodes = _eeg(_on_sphere(30, RADIUS))
    to_head = mne.transforms.Transform("mri", "head", np.eye(4))
    ours = lead_field(electrodes, sources, solution, kind="eeg", mri_to_head=to_head)
    theirs = lead_field(electrodes, sources, same, kind="eeg")
    for region in range(len(sources.region_labels)):
        assert np.corrcoef(ours.gain[:, region], theirs.gain[:, region])[0, 1] > 0.99
    # polyhedra lie within their spheres: 400 corners instead of 250 are a tenth apart, and twelve times slower
    assert np.linalg.norm(ours.gain) == pytest.approx(np.linalg.norm(theirs.gain), rel=0.15)


def _edges(points: np.ndarray, triangles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    a, b, c = (points[triangles[:, corner]] for corner in range(3))
    return b - a, c - a


def test_an_average_reference_does_not_know_the_reference(sources, sphere):
    field = lead_field(_eeg(_on_sphere(30, RADIUS)), sources, sphere, kind="eeg")
    np.testing.assert_allclose(field.gain.mean(axis=0), 0.0, atol=1e-12)
    against_first = dataclasses.replace(field, gain=field.gain - field.gain[0])
    np.testing.assert_allclose(against_first.average_reference().gain, field.gain, atol=1e-12)


def test_the_sphere_may_be_moved_with_everything_in_it(sources, sphere):
    """Same head, coordinates rotated and shifted: MRI coordinates get to the head by their transform."""
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    rotation *= np.linalg.det(rotation)
    shift = np.array([3.0, -20.0, 40.0])
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = rotation, shift / 1000.0
    moved = dataclasses.replace(
        sources, positions=(sources.positions - shift) @ rotation, orientations=sources.orientations @ rotation
    )
    electrodes = _eeg(_on_sphere(30, RADIUS))
    there = lead_field(
        electrodes, moved, sphere, kind="eeg", mri_to_head=mne.transforms.Transform("mri", "head", matrix)
    )
    here = lead_field(electrodes, sources, sphere, kind="eeg")
    np.testing.assert_allclose(there.gain, here.gain, rtol=1e-6, atol=1e-9)


@pytest.fixture(scope="module")
def atlas_field() -> LeadField:
    info, to_head = standard_eeg()
    head = mne.make_sphere_model("auto", "auto", info, verbose="ERROR")
    cortex = desikan_killiany_sources(desikan_killiany())
    return lead_field(info, cortex, head, kind="eeg", mri_to_head=to_head, least_depth=1.0)


def test_the_cortical_sheet_lies_on_the_atlas():
    atlas = desikan_killiany()
    cortex = desikan_killiany_sources(atlas)
    centres = np.array([cortex.positions[cortex.regions == i].mean(axis=0) for i in range(83)])
    distances = np.linalg.norm(centres - atlas.centres, axis=1)
    assert np.median(distances) < 4.0
    assert distances.max() < 10.0
    # what a closed surface encloses, from its areas and outward normals: a hemisphere is half a litre
    volume = (cortex.normals * cortex.positions).sum(axis=1) @ cortex.areas / 3.0 / 1e6
    assert 0.8 < volume < 1.6
    areas = cortex.summed(np.ones((1, len(cortex.regions))))[0]
    assert (areas[atlas.is_cortical] > 50.0).all()
    assert (areas[~atlas.is_cortical] == 0.0).all()


def test_regions_are_seen_most_by_the_electrodes_above_them(atlas_field):
    assert atlas_field.gain.shape == (94, 83)
    strongest = {
        label: atlas_field.sensors[int(np.abs(atlas_field.gain[:, i]).argmax())]
        for i, label in enumerate(atlas_field.region_labels)
    }
    for label, electrodes in {
        "lh.lateraloccipital": {"O1", "PO7", "P7", "PO9", "O9", "P9"},
        "rh.superiorfrontal": {"F2", "AF4", "F4", "Fz", "AFz", "FC2", "FCz", "AF2", "F1", "FC1"},
        "rh.precentral": {"C2", "C4", "FC4", "FC2", "FC6", "C6", "CP4"},
    }.items():
        assert strongest[label] in electrodes, (label, strongest[label])
    below = [label.split(".")[-1] in {"thalamusproper", "brainstem"} for label in atlas_field.region_labels]
    assert not atlas_field.gain[:, below].any()


def test_a_region_outside_the_brain_is_named(sphere):
    space = SourceSpace.of_regions(np.array([[0.0, 0, 20.0], [0.0, 0, 85.0]]), np.ones((2, 3)), ("deep", "scalp"))
    with pytest.raises(ValueError, match="1 outside, the first in region scalp"):
        lead_field(_eeg(_on_sphere(30, RADIUS)), space, sphere, kind="eeg")
    moved = lead_field(_eeg(_on_sphere(30, RADIUS)), space, sphere, kind="eeg", least_depth=2.0)
    there = dataclasses.replace(space, positions=np.array([[0.0, 0, 20.0], [0.0, 0, 79.0]]))
    np.testing.assert_allclose(
        moved.gain, lead_field(_eeg(_on_sphere(30, RADIUS)), there, sphere, kind="eeg").gain, rtol=1e-9, atol=1e-12
    )


def test_a_dipole_along_z_has_its_analytic_potential_in_depth():
    space = SourceSpace.of_regions(np.zeros((1, 3)), np.array([[0.0, 0.0, 2.0]]), ("r",))
    contacts = {"A1": (0.0, 0.0, 10.0), "A2": (0.0, 0.0, -10.0), "A3": (10.0, 0.0, 0.0), "A4": (0.0, 0.0, 20.0)}
    field = intracranial_lead_field(contacts, space, model="dipole", conductivity=0.33)
    value = 1e6 * 1e-9 / (4.0 * np.pi * 0.33 * 0.01**2)  # µV at 1 cm on the axis of 1 nA·m
    np.testing.assert_allclose(field.gain[:, 0], [value, -value, 0.0, value / 4.0], rtol=1e-12, atol=1e-15)


def test_inverse_square_gain_weighs_area_over_distance():
    space = SourceSpace(
        positions=np.array([[0.0, 0, 0], [0.0, 0, 6.0], [0.0, 8.0, 0.0]]),
        orientations=np.ones((3, 3)),
        areas=np.array([2.0, 3.0, 5.0]),
        regions=np.array([0, 0, 1]),
        region_labels=("a", "b"),
    )
    field = intracranial_lead_field({"A1": (0.0, 0.0, 2.0)}, space, model="inverse-square")
    assert field.gain[0] == pytest.approx([2.0 / 4.0 + 3.0 / 16.0, 5.0 / 68.0])


def test_bipolar_contacts_are_differences_of_neighbours_on_one_electrode():
    gain = np.arange(10.0).reshape(5, 2) ** 2
    field = LeadField(gain=gain, sensors=("A2", "A1", "B1", "A3", "B3"), region_labels=("x", "y"), unit="µV")
    pairs = field.bipolar()
    assert pairs.sensors == ("A1-A2", "A2-A3")
    np.testing.assert_array_equal(pairs.gain, [gain[1] - gain[0], gain[0] - gain[3]])


def _driven(**rest: object) -> Network:
    return Network(
        mass=Linear(I=np.array([1.0, 2.0, 3.0])),
        weights=np.zeros((3, 3)),
        tract_lengths=np.zeros((3, 3)),
        velocity=1.0,
        sigma=(0.3,),
        region_labels=("a", "b", "c"),
        **rest,  # type: ignore[arg-type]
    )


def test_a_projection_sees_the_lead_field_of_the_averaged_activity():
    gain = np.array([[1.0, -2.0, 0.5], [0.0, 3.0, 1.0]])
    field = LeadField(gain=gain, sensors=("s", "t"), region_labels=("a", "b", "c"), unit="µV")
    network = _driven()
    run = simulate(
        [network, resect(network, ("b",))],
        [3, 3],
        duration=0.04,
        monitors=[Projection.of(field, 0.004), TemporalAverage(0.004)],
        dt=0.1,
        precision="double",
    )
    sensors, regions = run.observations
    assert (sensors.labels, sensors.unit) == (("s", "t"), "µV")
    np.testing.assert_allclose(sensors.values[0], regions.values[0] @ gain.T, rtol=1e-12)
    np.testing.assert_allclose(sensors.values[1], regions.values[1][:, [0, 2]] @ gain[:, [0, 2]].T, rtol=1e-12)


def test_a_projection_of_other_regions_is_refused():
    field = LeadField(gain=np.ones((1, 3)), sensors=("s",), region_labels=("a", "c", "b"), unit="µV")
    with pytest.raises(ValueError, match="regions of the gain must be the regions of the network"):
        simulate([_driven()], [0], duration=0.004, monitors=[Projection.of(field, 0.004)], dt=0.1)
    with pytest.raises(ValueError, match=r"gain must be \(1, 3\), got \(1, 2\)"):
        simulate([_driven()], [0], duration=0.004, monitors=[Projection(np.ones((1, 2)), ("s",), 0.004)], dt=0.1)
