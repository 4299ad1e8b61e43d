"""The patient's anatomy: brain, tissues and labelled regions on one 1 mm grid, from a T1 and an atlas.

The atlas says what a place is called, the patient's own tissue says whether it is grey: an atlas label never turns the
patient's white matter or fluid into cortex, and grey matter that the atlas misses by a few millimetres takes the
nearest cortical name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import nibabel as nib
import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import ndimage

from vbt.connectome._brain import extract_brain
from vbt.connectome._images import affine_of, array_of, canonical, image_of
from vbt.connectome._parcellation import Parcellation, mni_templates
from vbt.connectome._registration import isotropic_grid, pull_rigidly, register_template
from vbt.connectome._tissue import Tissue, segment, without_bias

_MARGIN_MM = 10
_REACH_MM = 4.0


@dataclass(frozen=True, kw_only=True)
class Anatomy:
    """A patient's brain on a 1 mm isotropic grid along the axes of the T1.

    Parameters
    ----------
    t1 : bias-free T1, zero outside the brain
    mask : the brain
    tissue : tissue probabilities
    labels : region ``i`` (from 0) carries ``i + 1``
    affine : grid to scanner RAS+ mm
    template_correlation : correlation of the warped template with the T1 inside the brain
    white_matter_overlap : Dice of the patient's and the warped template's white matter
    folded : share of the brain that the warp folds
    """

    t1: Float[np.ndarray, "x y z"]
    mask: Bool[np.ndarray, "x y z"]
    tissue: Tissue
    labels: Int[np.ndarray, "x y z"]
    affine: Float[np.ndarray, "4 4"]
    template_correlation: float
    white_matter_overlap: float
    folded: float

    def image(self, values: np.ndarray) -> nib.Nifti1Image:
        """Values on this grid as an image."""
        return image_of(values, self.affine)

    @property
    def brain_volume(self) -> float:
        """mL; the voxels are 1 mm³."""
        return float(self.mask.sum() / 1000)


def build_anatomy(
    t1: nib.Nifti1Image, parcellation: Parcellation, done: Callable[[float], None] = lambda _: None
) -> Anatomy:
    """Brain, tissues and regions of a whole-head T1.

    Raises
    ------
    Rejected
        ``t1-without-brain``
    """
    brain = extract_brain(t1)
    done(0.25)
    upright, upright_brain = canonical(t1), canonical(brain)
    grid = _around(upright_brain, isotropic_grid(upright, 1.0))
    mask = pull_rigidly(upright_brain, grid, np.eye(4), labels=True) > 0
    values = without_bias(pull_rigidly(upright, grid, np.eye(4)), mask)
    tissue = segment(values, mask)
    done(0.5)
    patient = image_of(values, affine_of(grid))
    templates = mni_templates()
    warp = register_template(templates.t1, patient)
    done(0.9)
    warped = warp.pull(templates.t1, grid)
    atlas = warp.pull(parcellation.image, grid, labels=True).astype(np.int32)
    return Anatomy(
        t1=values,
        mask=mask,
        tissue=tissue,
        labels=label_patient(atlas, tissue, parcellation),
        affine=affine_of(grid),
        template_correlation=float(np.corrcoef(warped[mask], values[mask])[0, 1]),
        white_matter_overlap=dice(warp.pull(templates.white_matter, grid) > 0.5, tissue.white > 0.5),
        folded=warp.folded,
    )


def label_patient(
    atlas: Int[np.ndarray, "x y z"], tissue: Tissue, parcellation: Parcellation
) -> Int[np.ndarray, "x y z"]:
    """The patient's regions: atlas labels warped to the 1 mm grid, corrected by the patient's tissue.

    Cortical names hold in grey matter only and reach grey matter up to 4 mm away. Subcortical names hold wherever there
    is no fluid: pallidum, putamen, thalamus and brainstem are as bright on a T1 as white matter is.
    """
    cortical = np.array([False, *parcellation.is_cortical])
    grey = (tissue.grey >= tissue.white) & (tissue.grey >= tissue.fluid) & (tissue.grey > 0)
    fluid = (tissue.fluid > tissue.white) & (tissue.fluid > tissue.grey)
    deep = (atlas > 0) & ~cortical[atlas]
    is_cortex = cortical[atlas]
    distance, nearest = ndimage.distance_transform_edt(~is_cortex, return_indices=True)
    filled = np.where(grey & (distance <= _REACH_MM) & ~deep, atlas[tuple(nearest)], 0)
    return np.where(deep & ~fluid, atlas, filled).astype(np.int32)


def dice(one: Bool[np.ndarray, "*grid"], other: Bool[np.ndarray, "*grid"]) -> float:
    """Overlap of two masks, 0..1."""
    return float(2 * (one & other).sum() / max(1, one.sum() + other.sum()))


def _around(brain: nib.Nifti1Image, grid: nib.Nifti1Image) -> nib.Nifti1Image:
    inside = np.argwhere(array_of(brain, np.uint8) > 0)
    to_grid = np.linalg.inv(affine_of(grid)) @ affine_of(brain)
    corners = inside @ to_grid[:3, :3].T + to_grid[:3, 3]
    low = np.maximum(np.floor(corners.min(axis=0)).astype(int) - _MARGIN_MM, 0)
    high = np.minimum(np.ceil(corners.max(axis=0)).astype(int) + _MARGIN_MM + 1, grid.shape)
    affine = affine_of(grid)
    affine[:3, 3] += affine[:3, :3] @ low
    return image_of(np.zeros(tuple(high - low), dtype=np.uint8), affine)
