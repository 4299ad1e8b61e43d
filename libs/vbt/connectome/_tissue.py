"""A T1 is split into cerebrospinal fluid, grey and white matter, after its slow intensity bias is divided out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import SimpleITK
from jaxtyping import Bool, Float
from scipy import ndimage

# SimpleITK's generated functions carry no types.
sitk: Any = SimpleITK

_ITERATIONS = 25
_SMOOTHNESS = 0.6


@dataclass(frozen=True, kw_only=True)
class Tissue:
    """Probability of each tissue per voxel, 0..1; all zero outside the brain."""

    fluid: Float[np.ndarray, "x y z"]
    grey: Float[np.ndarray, "x y z"]
    white: Float[np.ndarray, "x y z"]


def without_bias(t1: Float[np.ndarray, "x y z"], mask: Bool[np.ndarray, "x y z"]) -> Float[np.ndarray, "x y z"]:
    """A 1 mm T1 with its receive bias divided out, zero outside the mask.

    References
    ----------
    Tustison et al. (2010), N4ITK, IEEE TMI 29, 1310-1320.
    """
    # Only the shape of the field matters, so the voxel grid serves as the frame.
    image = sitk.GetImageFromArray(t1.astype(np.float32))
    inside = sitk.GetImageFromArray(mask.astype(np.uint8))
    n4 = sitk.N4BiasFieldCorrectionImageFilter()
    n4.SetNumberOfThreads(1)
    n4.SetMaximumNumberOfIterations([50, 50, 30])
    n4.Execute(sitk.Shrink(image, [4] * 3), sitk.Shrink(inside, [4] * 3))
    bias = np.exp(sitk.GetArrayFromImage(n4.GetLogBiasFieldAsImage(image)))
    return np.where(mask, t1 / bias, 0).astype(np.float32)


def segment(t1: Float[np.ndarray, "x y z"], mask: Bool[np.ndarray, "x y z"]) -> Tissue:
    """Tissue probabilities of a bias-free T1: three Gaussians in a hidden Markov random field.

    Expectation maximisation with a mean-field Potts prior over the six neighbours; brighter is whiter.

    References
    ----------
    Zhang, Brady & Smith (2001), IEEE TMI 20, 45-57.
    """
    box = ndimage.find_objects(mask.astype(np.uint8))[0]
    inside = mask[box]
    values = t1[box][inside].astype(np.float64)
    darkest, brightest = np.quantile(values, [0.05, 0.95])
    means = np.linspace(darkest, brightest, 3)
    variances = np.full(3, values.var() / 9)
    shares = np.full(3, 1 / 3)
    prior = np.log(shares)[:, None] * np.ones(values.size)
    for _ in range(_ITERATIONS):
        fit = -0.5 * ((values - means[:, None]) ** 2 / variances[:, None] + np.log(variances)[:, None])
        belief = _softmax(fit + prior)
        mass = belief.sum(axis=1)
        means = (belief @ values) / mass
        variances = np.array([b @ (values - m) ** 2 for b, m in zip(belief, means, strict=True)]) / mass
        prior = _SMOOTHNESS * _neighbours(belief, inside)
    whole = np.zeros((3, *mask.shape), dtype=np.float32)
    for number, rank in enumerate(np.argsort(means)):
        whole[(number, *box)][inside] = belief[rank]
    return Tissue(fluid=whole[0], grey=whole[1], white=whole[2])


def _neighbours(
    belief: Float[np.ndarray, "3 voxel"], inside: Bool[np.ndarray, "x y z"]
) -> Float[np.ndarray, "3 voxel"]:
    total = np.empty_like(belief)
    field = np.zeros(tuple(np.array(inside.shape) + 2), dtype=np.float32)
    core = (slice(1, -1),) * 3
    for tissue, values in enumerate(belief):
        field[core][inside] = values
        around = np.zeros(inside.shape, dtype=np.float32)
        for axis in range(3):
            for side in (slice(0, -2), slice(2, None)):
                around += field[tuple(side if a == axis else slice(1, -1) for a in range(3))]
        total[tissue] = around[inside]
    return total


def _softmax(logits: Float[np.ndarray, "3 voxel"]) -> Float[np.ndarray, "3 voxel"]:
    powers = np.exp(logits - logits.max(axis=0))
    return np.asarray(powers / powers.sum(axis=0))
