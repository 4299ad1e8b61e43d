"""The patient's head: the MNI template, mildly deformed, with cerebrospinal fluid, skull and scalp around it."""

from __future__ import annotations

from dataclasses import dataclass

import nibabel as nib
import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import ndimage

from vbt.connectome import desikan_killiany, mni_templates
from vbt.synthetic._settings import PatientSettings

# The head's box in scanner RAS+ mm: lower corner and extent.
_BOX_ORIGIN = np.array([-100.0, -134.0, -108.0])
_BOX_EXTENT = np.array([200.0, 248.0, 224.0])

# Relative T1-weighted intensities (inversion-prepared gradient echo at 3 T; bone and air give almost nothing).
T1_WHITE, T1_GREY, T1_CSF = 1.0, 0.66, 0.22
_T1_SKULL, _T1_MARROW, _T1_FAT, _T1_SKIN, _T1_MUSCLE = 0.06, 0.5, 1.15, 0.6, 0.55

# Outer edges of the shells around the brain, mm from its surface.
_CSF_EDGE, _TABLE_EDGE, _MARROW_EDGE, _SKULL_EDGE, _FAT_EDGE, _SKIN_EDGE = 2.5, 4.3, 6.8, 8.5, 12.0, 14.0


@dataclass(frozen=True, kw_only=True)
class Anatomy:
    """Tissues and regions of one head on one grid; all scans sample it.

    Parameters
    ----------
    labels : region number (1-based, order of `region_labels`) of grey matter voxels, 0 elsewhere
    white, grey, csf : tissue fractions; they sum to 1 in the brain, `csf` also fills the rim around it
    head : relative T1-weighted intensity of what lies outside the brain and its rim
    brain : the brain, with its sulcal fluid
    mni : MNI coordinate (mm) of each voxel
    affine : voxel to scanner RAS+ mm; its axes are the scanner's
    """

    labels: Int[np.ndarray, "x y z"]
    white: Float[np.ndarray, "x y z"]
    grey: Float[np.ndarray, "x y z"]
    csf: Float[np.ndarray, "x y z"]
    head: Float[np.ndarray, "x y z"]
    brain: Bool[np.ndarray, "x y z"]
    mni: Float[np.ndarray, "x y z 3"]
    affine: Float[np.ndarray, "4 4"]
    region_labels: tuple[str, ...]
    is_cortical: Bool[np.ndarray, " region"]
    parcellation: str

    @property
    def voxel_mm(self) -> float:
        return float(self.affine[0, 0])

    def voxels(self, points: Float[np.ndarray, "*any 3"]) -> Float[np.ndarray, "*any 3"]:
        """Continuous voxel coordinates of scanner points (mm)."""
        return np.asarray((points - self.affine[:3, 3]) / self.voxel_mm)

    def points(self, voxels: Float[np.ndarray, "*any 3"]) -> Float[np.ndarray, "*any 3"]:
        """Scanner points (mm) of voxel coordinates."""
        return np.asarray(voxels * self.voxel_mm + self.affine[:3, 3])

    def centres(self) -> Float[np.ndarray, "region 3"]:
        """Centre of each region's grey matter, scanner RAS+ mm."""
        where = np.nonzero(self.labels)
        number = self.labels[where]
        count = np.bincount(number)[1:]
        centres = [np.bincount(number, weights=index)[1:] / count for index in where]
        return self.points(np.stack(centres, axis=-1))


def make_anatomy(rng: np.random.Generator, settings: PatientSettings) -> Anatomy:
    """A head from the MNI template: an affine and a smooth deformation, then shells around the brain."""
    parcellation = desikan_killiany()
    templates = mni_templates()
    spacing = settings.anatomy_mm
    shape = tuple(int(n) for n in np.round(_BOX_EXTENT / spacing))
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = _BOX_ORIGIN + spacing / 2
    mni = _mni_coordinates(rng, settings, shape, affine)

    template_brain = ndimage.binary_fill_holes(np.asarray(templates.t1.dataobj) > 0)
    brain = _sample(template_brain.astype(np.float32), templates.t1.affine, mni, order=1) > 0.5
    inside = mni[brain]
    white, grey = (
        _sample(np.asarray(image.dataobj, np.float32), image.affine, inside, order=1)
        for image in (templates.white_matter, templates.grey_matter)
    )
    white, grey, csf = _sharpened(white, grey, np.clip(1 - white - grey, 0, 1))
    numbers = _sample(np.asarray(parcellation.image.dataobj).astype(np.int16), parcellation.image.affine, inside, 0)
    is_cortical = np.asarray(parcellation.is_cortical)
    # White matter wins over a cortical label; the deep nuclei and the brainstem keep theirs.
    cortical = np.concatenate([[False], is_cortical])[numbers]
    numbers = np.where(cortical & (white > np.maximum(grey, csf)), 0, numbers)

    distance = _distance_from(brain, spacing) * (1 + _ripple(rng, shape, 0.12))
    rim = ~brain & ((distance < _CSF_EDGE) | ndimage.binary_dilation(brain))
    return Anatomy(
        labels=_filled(brain, numbers, np.int16),
        white=_filled(brain, white, np.float32),
        grey=_filled(brain, grey, np.float32),
        csf=_filled(brain, csf, np.float32) + rim.astype(np.float32),
        head=_outer_head(brain | rim, distance, mni),
        brain=brain,
        mni=mni,
        affine=affine,
        region_labels=tuple(parcellation.region_labels),
        is_cortical=is_cortical,
        parcellation=parcellation.name,
    )


def t1_contrast(anatomy: Anatomy) -> Float[np.ndarray, "x y z"]:
    """Noise-free relative T1-weighted intensity; white matter is 1."""
    tissue = T1_WHITE * anatomy.white + T1_GREY * anatomy.grey + T1_CSF * anatomy.csf
    return np.asarray(tissue + anatomy.head, np.float32)


def _mni_coordinates(
    rng: np.random.Generator, settings: PatientSettings, shape: tuple[int, ...], affine: Float[np.ndarray, "4 4"]
) -> Float[np.ndarray, "x y z 3"]:
    """Where each voxel's tissue comes from: the inverse deformation, so no warp has to be inverted."""
    angles = np.deg2rad(rng.uniform(-1, 1, 3) * settings.rotation_degrees)
    scales = 1 + rng.uniform(-1, 1, 3) * settings.scaling
    shift = rng.uniform(-1, 1, 3) * settings.warp_mm
    linear = np.linalg.inv(rotation(angles) @ np.diag(scales))
    axes = [affine[i, 3] + affine[i, i] * np.arange(n) for i, n in enumerate(shape)]
    grid = np.stack(np.meshgrid(*[a.astype(np.float32) for a in axes], indexing="ij"), axis=-1)
    mni = (grid - shift.astype(np.float32)) @ linear.T.astype(np.float32)
    displacement = np.stack([_smooth_field(rng, shape) for _ in range(3)], axis=-1)
    largest = float(np.linalg.norm(displacement, axis=-1).max())
    return np.asarray(mni + displacement * np.float32(settings.warp_mm / largest), np.float32)


def rotation(angles: Float[np.ndarray, "3"]) -> Float[np.ndarray, "3 3"]:
    """Rotation about x, then y, then z (radians)."""
    (cx, cy, cz), (sx, sy, sz) = np.cos(angles), np.sin(angles)
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return np.asarray(about_z @ about_y @ about_x)


def _smooth_field(rng: np.random.Generator, shape: tuple[int, ...], orders: int = 5) -> Float[np.ndarray, "x y z"]:
    """A random field of low spatial frequency, separable cosines, unit variance in its coefficients."""
    order = np.arange(orders)
    falloff = np.exp(-0.5 * (order[:, None, None] ** 2 + order[None, :, None] ** 2 + order**2) / 4)
    field = rng.standard_normal((orders,) * 3) * falloff
    for n in shape:
        basis = np.cos(np.pi * np.outer(order, (np.arange(n) + 0.5) / n))
        field = np.tensordot(field, basis.astype(np.float32), axes=([0], [0]))
    return np.asarray(field, np.float32)


def _ripple(rng: np.random.Generator, shape: tuple[int, ...], amplitude: float) -> Float[np.ndarray, "x y z"]:
    field = _smooth_field(rng, shape)
    return np.asarray(amplitude * field / float(np.abs(field).max()), np.float32)


def _sample(
    volume: np.ndarray, affine: Float[np.ndarray, "4 4"], points: Float[np.ndarray, "*any 3"], order: int
) -> np.ndarray:
    inverse = np.linalg.inv(affine).astype(np.float32)
    voxels = np.moveaxis(points @ inverse[:3, :3].T + inverse[:3, 3], -1, 0)
    return np.asarray(ndimage.map_coordinates(volume, voxels, order=order, mode="constant", prefilter=False))


def _sharpened(*fractions: np.ndarray) -> tuple[np.ndarray, ...]:
    """Undo the blur of a population average: an individual's voxel is mostly one tissue."""
    powered = [f**3 for f in fractions]
    total = sum(powered) + 1e-9
    return tuple(np.asarray(p / total, np.float32) for p in powered)


def _filled(where: Bool[np.ndarray, "x y z"], values: np.ndarray, dtype: type) -> np.ndarray:
    volume: np.ndarray = np.zeros(where.shape, dtype)
    volume[where] = values
    return volume


def _distance_from(brain: Bool[np.ndarray, "x y z"], spacing: float) -> Float[np.ndarray, "x y z"]:
    """Distance (mm) outside the brain's smooth outline, found on a coarse grid because shells are smooth."""
    step = max(1, round(3.0 / spacing))
    coarse = brain[::step, ::step, ::step]
    distance = ndimage.distance_transform_edt(~coarse) - ndimage.distance_transform_edt(coarse)
    # The outline bridges fissures as the inner table of the skull does.
    distance = ndimage.gaussian_filter(np.asarray(distance, np.float32) * spacing * step, 1.5)
    coordinates = np.meshgrid(*[np.arange(n, dtype=np.float32) / step for n in brain.shape], indexing="ij")
    return np.asarray(ndimage.map_coordinates(distance, coordinates, order=1, mode="nearest"), np.float32)


def _outer_head(
    inside: Bool[np.ndarray, "x y z"], distance: Float[np.ndarray, "x y z"], mni: Float[np.ndarray, "x y z 3"]
) -> Float[np.ndarray, "x y z"]:
    """Skull with its marrow, fat and skin as shells; muscle below the skull base; air elsewhere."""
    x, y, z = np.moveaxis(mni, -1, 0)
    base = (z < -35) & (np.hypot(x / 62, (y + 15) / 75) < 1)
    edges = np.array([_CSF_EDGE, _TABLE_EDGE, _MARROW_EDGE, _SKULL_EDGE, _FAT_EDGE, _SKIN_EDGE], np.float32)
    levels = np.array([0, _T1_SKULL, _T1_MARROW, _T1_SKULL, _T1_FAT, _T1_SKIN, 0], np.float32)
    head = levels[np.digitize(distance, edges)]
    beyond = base & (distance > _SKULL_EDGE)
    rim = np.hypot(x / 62, (y + 15) / 75) > 0.93
    head[beyond] = np.where(rim[beyond], _T1_FAT, _T1_MUSCLE)
    head[inside] = 0
    return np.asarray(head, np.float32)


def as_image(volume: np.ndarray, affine: Float[np.ndarray, "4 4"]) -> nib.Nifti1Image:
    """A NIfTI image in scanner RAS+ mm."""
    image = nib.Nifti1Image(volume, affine)  # type: ignore[no-untyped-call]
    image.header.set_xyzt_units("mm", "sec")  # type: ignore[no-untyped-call]
    return image
