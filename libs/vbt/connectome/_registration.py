"""One image is brought onto another: rigidly within a patient, with a diffeomorphism from the template to the patient.

A rigid transform is a 4 by 4 matrix from the world frame of the fixed image to that of the moving one, RAS+ mm: the
direction in which values are pulled. ITK works in LPS; nothing outside this module sees it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import nibabel as nib
import numpy as np
import SimpleITK
from jaxtyping import Float

from vbt.connectome._images import affine_of, array_of, image_of
from vbt.errors import Unsound

# SimpleITK's generated functions carry no types.
sitk: Any = SimpleITK

_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_SAMPLING_SEED = 1

# Regions of one image run on threads of our own where that is worth it; ITK's own threads change the order of sums.
sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)


@dataclass(frozen=True, kw_only=True)
class TemplateWarp:
    """Where each point of the patient lies in the template: an affine after a displacement.

    Parameters
    ----------
    transform : patient world to template world (a SimpleITK composite, LPS)
    folded : share of the voxels that the displacement folds (Jacobian determinant not positive), 0..1
    """

    transform: Any
    folded: float

    def pull(self, template: nib.Nifti1Image, onto: nib.Nifti1Image, *, labels: bool = False) -> np.ndarray:
        """The template's values on the patient's grid; ``labels`` takes the nearest instead of mixing."""
        how = sitk.sitkNearestNeighbor if labels else sitk.sitkLinear
        return _from_itk(sitk.Resample(_to_itk(template), _to_itk(onto), self.transform, how, 0.0))


def rigid_registration(
    fixed: nib.Nifti1Image,
    moving: nib.Nifti1Image,
    *,
    mask: nib.Nifti1Image | None = None,
    levels_mm: tuple[float, ...] = (8.0, 4.0),
    sampling: float = 0.25,
    same_contrast: bool = False,
) -> Float[np.ndarray, "4 4"]:
    """The rigid transform from ``fixed`` to ``moving`` under which they share most information.

    Parameters
    ----------
    fixed, moving : 3-D images
    mask : where in ``fixed`` to compare, non-zero inside
    levels_mm : resolution of the pyramid's levels, coarse to fine
    sampling : share of the voxels compared at the finest level; coarser ones take more
    same_contrast : what is brighter in one is brighter in the other, so their correlation is compared instead

    Raises
    ------
    Unsound
        ``registration-failed`` where the two do not overlap.

    References
    ----------
    Mattes et al. (2003), IEEE TMI 22, 120-128 (mutual information), as SimpleITK implements it.
    """
    still, moved = _to_itk(fixed), _to_itk(moving)
    method = _mutual_information(sampling, _factors(fixed, levels_mm))
    if same_contrast:
        method.SetMetricAsCorrelation()
    if mask is not None:
        method.SetMetricFixedMask(_to_itk(mask, sitk.sitkUInt8))
    middle = affine_of(fixed) @ np.array([*(np.array(fixed.shape[:3]) - 1) / 2, 1.0])
    transform = sitk.Euler3DTransform()
    transform.SetCenter((_LPS @ middle)[:3].tolist())
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=1.0, minStep=1e-3, numberOfIterations=60, gradientMagnitudeTolerance=1e-6
    )
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetInitialTransform(transform, True)
    _run(method, still, moved)
    return _matrix_of(transform)


def register_template(template: nib.Nifti1Image, patient: nib.Nifti1Image, *, spacing_mm: float = 2.0) -> TemplateWarp:
    """Where each point of a patient's skull-stripped T1 lies in a skull-stripped T1 template.

    An affine by mutual information, then diffeomorphic demons on three levels, the finest of ``spacing_mm``, after the
    template's histogram is matched to the patient's.

    References
    ----------
    Vercauteren et al. (2009), NeuroImage 45, S61-S72.
    """
    fixed = _smooth_at(_to_itk(patient), spacing_mm)
    moving = _smooth_at(_to_itk(template), spacing_mm)
    affine = _affine(fixed, moving)
    near = _matched(sitk.Resample(moving, fixed, affine, sitk.sitkLinear, 0.0), fixed)
    field = _demons(fixed, near)
    jacobian = sitk.GetArrayFromImage(sitk.DisplacementFieldJacobianDeterminant(field))
    inside = sitk.GetArrayFromImage(fixed) > 0
    displacement = sitk.DisplacementFieldTransform(sitk.Cast(field, sitk.sitkVectorFloat64))
    return TemplateWarp(
        transform=sitk.CompositeTransform([affine, displacement]), folded=float((jacobian[inside] <= 0).mean())
    )


def pull_rigidly(
    moving: nib.Nifti1Image,
    onto: nib.Nifti1Image,
    transform: Float[np.ndarray, "4 4"],
    *,
    labels: bool = False,
    cubic: bool = False,
) -> np.ndarray:
    """``moving`` on the grid of ``onto``, through a rigid transform from the latter's world to the former's."""
    how = sitk.sitkNearestNeighbor if labels else (sitk.sitkBSpline3 if cubic else sitk.sitkLinear)
    itk = sitk.AffineTransform(3)
    _set_matrix(itk, transform)
    return _from_itk(sitk.Resample(_to_itk(moving), _to_itk(onto), itk, how, 0.0))


def isotropic_grid(image: nib.Nifti1Image, spacing: float) -> nib.Nifti1Image:
    """An empty grid over the field of view of ``image`` along its axes, with cubic voxels."""
    affine = affine_of(image)
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    shape = np.maximum(np.ceil(np.array(image.shape[:3]) * sizes / spacing - 1e-3), 1).astype(int)
    new = affine.copy()
    new[:3, :3] = affine[:3, :3] / sizes * spacing
    corner = affine[:3, :3] @ np.full(3, -0.5) + affine[:3, 3]
    new[:3, 3] = corner + new[:3, :3] @ np.full(3, 0.5)
    return image_of(np.zeros(tuple(shape), dtype=np.uint8), new)


def _mutual_information(sampling: float, shrink: tuple[int, ...]) -> Any:
    method = sitk.ImageRegistrationMethod()
    method.SetNumberOfThreads(1)
    method.SetMetricAsMattesMutualInformation(numberOfHistogramBins=32)
    method.SetMetricSamplingStrategy(method.REGULAR)
    # Coarse levels have few voxels and need them all. Without a seed SimpleITK takes the clock and two runs differ.
    shares = [min(1.0, sampling * (factor / shrink[-1]) ** 3) for factor in shrink]
    method.SetMetricSamplingPercentagePerLevel(shares, _SAMPLING_SEED)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetShrinkFactorsPerLevel(list(shrink))
    method.SetSmoothingSigmasPerLevel([factor / 2 for factor in shrink])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOff()
    return method


def _factors(image: nib.Nifti1Image, levels_mm: tuple[float, ...]) -> tuple[int, ...]:
    spacing = float(np.linalg.norm(affine_of(image)[:3, :3], axis=0).mean())
    return tuple(max(1, round(level / spacing)) for level in levels_mm)


def _run(method: Any, fixed: Any, moving: Any) -> None:
    try:
        method.Execute(fixed, moving)
    except RuntimeError as failure:
        raise Unsound(
            "registration-failed",
            rule="the images of one patient overlap and resemble each other",
            got="two images that could not be aligned",
            action="check that the series show the same head in the same session",
        ) from failure


def _affine(fixed: Any, moving: Any) -> Any:
    method = _mutual_information(0.25, (4, 2, 1))
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=1.0, minStep=1e-4, numberOfIterations=100, gradientMagnitudeTolerance=1e-6
    )
    method.SetOptimizerScalesFromPhysicalShift()
    start = sitk.CenteredTransformInitializer(
        fixed, moving, sitk.AffineTransform(3), sitk.CenteredTransformInitializerFilter.MOMENTS
    )
    affine = sitk.AffineTransform(start)
    method.SetInitialTransform(affine, True)
    _run(method, fixed, moving)
    return affine


def _matched(moving: Any, fixed: Any) -> Any:
    histogram = sitk.HistogramMatchingImageFilter()
    histogram.SetNumberOfHistogramLevels(256)
    histogram.SetNumberOfMatchPoints(15)
    histogram.ThresholdAtMeanIntensityOn()
    return histogram.Execute(moving, fixed)


def _demons(fixed: Any, moving: Any) -> Any:
    field = None
    for factor, iterations in ((4, 100), (2, 100), (1, 50)):
        still, moved = _coarser(fixed, factor), _coarser(moving, factor)
        demons = sitk.DiffeomorphicDemonsRegistrationFilter()
        demons.SetNumberOfThreads(1)
        demons.SetNumberOfIterations(iterations)
        demons.SetSmoothDisplacementField(True)
        demons.SetStandardDeviations(1.0)
        start = () if field is None else (sitk.Resample(field, still),)
        field = demons.Execute(still, moved, *start)
    return field


def _coarser(image: Any, factor: int) -> Any:
    return image if factor == 1 else sitk.Shrink(sitk.SmoothingRecursiveGaussian(image, float(factor)), [factor] * 3)


def _smooth_at(image: Any, spacing: float) -> Any:
    grid = _to_itk(isotropic_grid(_image_from(image), spacing))
    return sitk.Resample(
        sitk.SmoothingRecursiveGaussian(image, 0.4 * spacing), grid, sitk.Transform(), sitk.sitkLinear, 0.0
    )


def _to_itk(image: nib.Nifti1Image, kind: Any = None) -> Any:
    values = array_of(image)
    itk = sitk.GetImageFromArray(np.ascontiguousarray(values.transpose(2, 1, 0)))
    affine = _LPS @ affine_of(image)
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    itk.SetSpacing(sizes.tolist())
    itk.SetOrigin(affine[:3, 3].tolist())
    itk.SetDirection((affine[:3, :3] / sizes).ravel().tolist())
    return itk if kind is None else sitk.Cast(itk, kind)


def _from_itk(itk: Any) -> np.ndarray:
    return np.ascontiguousarray(sitk.GetArrayFromImage(itk).transpose(2, 1, 0))


def _image_from(itk: Any) -> nib.Nifti1Image:
    affine = np.eye(4)
    affine[:3, :3] = np.array(itk.GetDirection()).reshape(3, 3) * np.array(itk.GetSpacing())
    affine[:3, 3] = itk.GetOrigin()
    return image_of(_from_itk(itk), _LPS @ affine)


def _matrix_of(transform: Any) -> Float[np.ndarray, "4 4"]:
    matrix = np.eye(4)
    matrix[:3, :3] = np.array(transform.GetMatrix()).reshape(3, 3)
    centre = np.array(transform.GetCenter())
    matrix[:3, 3] = np.array(transform.GetTranslation()) + centre - matrix[:3, :3] @ centre
    return np.asarray(_LPS @ matrix @ _LPS)


def _set_matrix(transform: Any, matrix: Float[np.ndarray, "4 4"]) -> None:
    itk = _LPS @ matrix @ _LPS
    centre = np.array(transform.GetCenter())
    transform.SetMatrix(itk[:3, :3].ravel().tolist())
    transform.SetTranslation((itk[:3, 3] + itk[:3, :3] @ centre - centre).tolist())
