"""White-matter lesions on a connectome: which fraction of every tract they cross."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass

import nibabel as nib
import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import ndimage
from scipy.spatial import ConvexHull

from vbt.connectome._images import affine_of
from vbt.connectome._tracts import UNITS_PER_MM, Tracts
from vbt.errors import Rejected

INSIDE_LIMIT = 0.5  # of the mask's volume within the brain; an infratentorial lesion may lie outside the labels' hull
SHARE_LIMIT = 0.15  # of the volume that the labels enclose; some 200 mL, above the largest loads that are reported
_MARGIN_MM = 5.0
_CHUNK = 200_000


@dataclass(frozen=True, kw_only=True)
class LesionedTracts:
    """Lesions as the network sees them.

    Parameters
    ----------
    fraction : of a tract's streamlines that cross a lesion, 0 to 1; symmetric, 0 where there is no tract
    region_labels : as in the connectome
    volume_ml : of all lesions within the brain
    lesions : how many separate ones
    """

    fraction: Float[np.ndarray, "region region"]
    region_labels: tuple[str, ...]
    volume_ml: float
    lesions: int

    def to_npz(self) -> bytes:
        """An ``.npz`` archive without pickles, the same bytes for the same lesions."""
        plain = {"region_labels": self.region_labels, "volume_ml": self.volume_ml, "lesions": self.lesions}
        buffer = io.BytesIO()
        np.savez_compressed(buffer, fraction=self.fraction, record=np.array(json.dumps(plain, sort_keys=True)))
        return buffer.getvalue()

    @classmethod
    def from_npz(cls, content: bytes) -> LesionedTracts:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            plain = json.loads(str(archive["record"]))
            return cls(
                fraction=archive["fraction"],
                region_labels=tuple(plain["region_labels"]),
                volume_ml=plain["volume_ml"],
                lesions=plain["lesions"],
            )


def lesion_fractions(tracts: Tracts, mask: nib.Nifti1Image, labels: nib.Nifti1Image) -> LesionedTracts:
    """How much of every tract the lesions of a mask meet.

    A streamline meets a lesion where any point of it, looked at every half voxel of the mask, lies in one. The brain is
    what the convex hull of the labelled regions encloses, and 5 mm around it.

    Parameters
    ----------
    mask : lesions are one positive value, all else is 0; affine to the T1's scanner RAS+ mm, any grid
    labels : regions of the connectome in the same frame, `ConnectomeBuild.labels`

    Raises
    ------
    Rejected
        ``lesion-mask-malformed``, ``lesion-mask-not-binary``, ``lesion-mask-empty``, ``lesions-outside-brain``,
        ``lesions-implausibly-large``
    """
    lesion = _binary(mask)
    affine = affine_of(mask)
    voxel_ml = abs(float(np.linalg.det(affine[:3, :3]))) / 1000.0
    inside, hull_ml = _within_brain(lesion, affine, labels)
    if inside.sum() < INSIDE_LIMIT * lesion.sum():
        raise Rejected(
            "lesions-outside-brain",
            rule="the lesion mask lies in the brain of the T1, in the scanner's coordinates of the same session",
            got=f"{inside.sum() / lesion.sum():.0%} of its volume inside, limit {INSIDE_LIMIT:.0%}",
            action="bring the mask into the frame of the T1, or send the mask of this patient",
        )
    volume_ml = float(inside.sum()) * voxel_ml
    if volume_ml > SHARE_LIMIT * hull_ml:
        raise Rejected(
            "lesions-implausibly-large",
            rule=f"lesions fill at most {SHARE_LIMIT:.0%} of the brain",
            got=f"{volume_ml:.0f} mL, {volume_ml / hull_ml:.0%} of it",
            action="check that the mask shows lesions, not tissue or background",
        )
    met = tracts.per_tract(_meeting(tracts, inside, affine).astype(float))
    counts = tracts.counts
    return LesionedTracts(
        fraction=np.divide(met, counts, out=np.zeros_like(met), where=counts > 0),
        region_labels=tracts.region_labels,
        volume_ml=volume_ml,
        lesions=int(ndimage.label(inside, structure=np.ones((3, 3, 3)))[1]),
    )


def _binary(mask: nib.Nifti1Image) -> Bool[np.ndarray, "x y z"]:
    values = np.asarray(mask.dataobj)
    if values.ndim == 4 and values.shape[3] == 1:
        values = values[..., 0]
    if values.ndim != 3 or abs(np.linalg.det(affine_of(mask)[:3, :3])) < 1e-9:
        raise Rejected(
            "lesion-mask-malformed",
            rule="a lesion mask is one volume whose affine has an inverse",
            got=f"shape {values.shape}",
            action="send a three-dimensional mask with its coordinates",
        )
    found = np.unique(values)
    if len(found) > 2 or found[0] < 0 or not np.isfinite(found).all() or (len(found) == 2 and found[0] != 0):
        raise Rejected(
            "lesion-mask-not-binary",
            rule="a lesion mask has one positive value for lesions and 0 for all else",
            got=f"{len(found)} different values",
            action="threshold a probability map, or join numbered lesions, and say so with the mask",
        )
    if not values.any():
        raise Rejected(
            "lesion-mask-empty",
            rule="a lesion mask shows one lesion at least",
            got="no voxel",
            action="send no mask where there is no lesion",
        )
    return np.asarray(values > 0)


def _within_brain(
    lesion: Bool[np.ndarray, "x y z"], affine: Float[np.ndarray, "4 4"], labels: nib.Nifti1Image
) -> tuple[Bool[np.ndarray, "x y z"], float]:
    """The lesion's voxels within the brain, and the volume of the labels' hull, mL."""
    labelled = np.asarray(labels.dataobj) > 0
    # Only the surface of the labels can lie on their hull.
    shell = np.argwhere(labelled & ~ndimage.binary_erosion(labelled))
    hull = ConvexHull(_moved(shell, affine_of(labels)))
    planes = hull.equations.astype(np.float32)
    voxels = np.argwhere(lesion)
    points = _moved(voxels, affine).astype(np.float32)
    farthest = np.concatenate(
        [(points[i : i + 5000] @ planes[:, :3].T + planes[:, 3]).max(axis=1) for i in range(0, len(points), 5000)]
    )
    inside = np.zeros_like(lesion)
    inside[tuple(voxels[farthest <= _MARGIN_MM].T)] = True
    return inside, float(hull.volume) / 1000.0


def _meeting(
    tracts: Tracts, lesion: Bool[np.ndarray, "x y z"], affine: Float[np.ndarray, "4 4"]
) -> Bool[np.ndarray, " streamline"]:
    """Which streamlines pass through a lesion."""
    to_voxel = np.linalg.inv(affine)
    half_voxel = 0.5 * float(np.linalg.norm(affine[:3, :3], axis=0).min())
    owner = np.repeat(np.arange(tracts.count), np.diff(tracts.offsets))
    met = np.zeros(tracts.count, dtype=bool)
    for begin in range(0, len(owner), _CHUNK):
        here = slice(begin, begin + _CHUNK + 1)
        points = tracts.points[here].astype(np.float32) / UNITS_PER_MM
        same = owner[here][1:] == owner[here][:-1]
        move = np.diff(points, axis=0) * same[:, None]
        parts = max(1, int(np.ceil(np.linalg.norm(move, axis=1).max(initial=0.0) / half_voxel)))
        for part in np.arange(parts) / parts:
            met[owner[here][:-1][_hit(lesion, _moved(points[:-1] + part * move, to_voxel))]] = True
        met[owner[here][_hit(lesion, _moved(points, to_voxel))]] = True
    return met


def _hit(lesion: Bool[np.ndarray, "x y z"], where: Float[np.ndarray, "point 3"]) -> Bool[np.ndarray, " point"]:
    voxel: Int[np.ndarray, "point 3"] = np.rint(where).astype(np.int64)
    within = ((voxel >= 0) & (voxel < lesion.shape)).all(axis=1)
    hit = np.zeros(len(voxel), dtype=bool)
    hit[within] = lesion[tuple(voxel[within].T)]
    return hit


def _moved(points: np.ndarray, affine: Float[np.ndarray, "4 4"]) -> Float[np.ndarray, "point 3"]:
    return np.asarray(points @ affine[:3, :3].T + affine[:3, 3])
