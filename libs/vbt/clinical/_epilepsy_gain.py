"""How much of every region each SEEG contact sees, and which regions an implantation misses."""

from __future__ import annotations

import math

import nibabel as nib
import numpy as np
from jaxtyping import Bool, Float

from vbt.simulation import SourceSpace, intracranial_lead_field

CORTICAL_THICKNESS = 2.5  # mm; turns a voxel's volume into the cortex it stands for, the same factor for all regions
SHARE = 0.10  # of some sensor's gain: a region below it in all of them is hidden behind others


def seeg_gain(
    labels: nib.Nifti1Image, regions: int, positions: Float[np.ndarray, "sensor 3"]
) -> Float[np.ndarray, "sensor region"]:
    """Σ area / distance² over the voxels of every region, dimensionless: the Virtual Epileptic Patient's gain.

    Within a voxel the inverse square is that of a ball of the voxel's volume seen from its centre, 3 / radius², so a
    contact inside a region sees it strongly but not without bound.

    Parameters
    ----------
    labels : 1 + index of the region, 0 elsewhere
    positions : mm, in the frame of ``labels``

    Returns
    -------
    0 for a region without voxels

    References
    ----------
    Wang et al. (2023), Sci. Transl. Med. 15, eabp8982.
    """
    voxels, affine = np.asarray(labels.dataobj), np.asarray(labels.affine)
    volume = _voxel_volume(affine)
    nearest = (3.0 * volume / (4.0 * math.pi)) ** (1.0 / 3.0) / math.sqrt(3.0)
    contacts = {str(sensor): (float(x), float(y), float(z)) for sensor, (x, y, z) in enumerate(positions)}
    gain = np.zeros((len(positions), regions))
    for region, where in enumerate(_voxels_of(voxels, regions)):
        if len(where):
            points = where @ affine[:3, :3].T + affine[:3, 3]
            patch = SourceSpace(
                positions=points,
                orientations=np.tile([0.0, 0.0, 1.0], (len(points), 1)),  # the inverse square has no direction
                areas=np.full(len(points), volume / CORTICAL_THICKNESS),
                regions=np.zeros(len(points), dtype=int),
                region_labels=(str(region),),
            )
            field = intracranial_lead_field(contacts, patch, model="inverse-square", nearest=nearest)
            gain[:, region] = field.gain[:, 0]
    return gain


def region_volumes(labels: nib.Nifti1Image, regions: int) -> Float[np.ndarray, " region"]:
    """cm³ of every region."""
    counts = np.bincount(np.asarray(labels.dataobj).astype(int).ravel(), minlength=regions + 1)[1 : regions + 1]
    return np.asarray(counts * _voxel_volume(np.asarray(labels.affine)) / 1000.0)


def largest_share(gain: Float[np.ndarray, "sensor region"]) -> Float[np.ndarray, " region"]:
    """The largest part that a region has of any sensor's gain, between 0 and 1."""
    return np.asarray((gain / gain.sum(axis=1, keepdims=True)).max(axis=0))


def hidden(gain: Float[np.ndarray, "sensor region"]) -> Bool[np.ndarray, " region"]:
    """Regions of which no sensor's gain holds a tenth."""
    return np.asarray(largest_share(gain) < SHARE)


def _voxels_of(voxels: np.ndarray, regions: int) -> list[np.ndarray]:
    """Indices of the voxels of each region, found in one pass over the image."""
    flat = voxels.astype(int).ravel()
    labelled = np.flatnonzero((flat > 0) & (flat <= regions))
    order = labelled[np.argsort(flat[labelled], kind="stable")]
    ends = np.cumsum(np.bincount(flat[labelled], minlength=regions + 1)[1:])
    indices = np.stack(np.unravel_index(order, voxels.shape), axis=-1)
    return np.split(indices, ends[:-1])


def _voxel_volume(affine: np.ndarray) -> float:
    """mm³."""
    return float(abs(np.linalg.det(affine[:3, :3])))
