"""Which way fibres run in each voxel: fractional anisotropy, and the peaks of the fibre orientation distribution."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from dipy.core.gradients import gradient_table
from dipy.core.sphere import HemiSphere
from dipy.data import get_sphere
from dipy.reconst.csdeconv import ConstrainedSphericalDeconvModel
from dipy.reconst.dti import TensorModel
from dipy.reconst.shm import sh_to_sf_matrix
from jaxtyping import Bool, Float

from vbt.connectome._diffusion import Diffusion

PEAKS = 4
_RELATIVE_HEIGHT = 0.15
_RESPONSE_VOXELS = 300
_CHUNK = 4000


@dataclass(frozen=True, kw_only=True)
class Fibres:
    """Fibre populations of each voxel.

    Parameters
    ----------
    directions : unit axes along the voxel grid's axes, strongest first, zero where there is none
    amplitudes : their strength relative to the median strongest peak of single-fibre white matter
    anisotropy : fractional anisotropy, 0..1
    colours : absolute components of the principal direction times the anisotropy (red is left-right)
    order : spherical harmonic order of the deconvolution, 0 where the tensor alone gave the direction
    """

    directions: Float[np.ndarray, "x y z peak 3"]
    amplitudes: Float[np.ndarray, "x y z peak"]
    anisotropy: Float[np.ndarray, "x y z"]
    colours: Float[np.ndarray, "x y z 3"]
    order: int


def harmonic_order(directions: int) -> int:
    """The highest even order whose coefficients the directions determine, 8 at most; 0 below 15 directions."""
    fitting = [order for order in (4, 6, 8) if (order + 1) * (order + 2) // 2 <= directions]
    return fitting[-1] if fitting else 0


def estimate_fibres(diffusion: Diffusion, white: Bool[np.ndarray, "x y z"], where: Bool[np.ndarray, "x y z"]) -> Fibres:
    """Fibre peaks by constrained spherical deconvolution of one shell; by the tensor below 15 directions.

    Parameters
    ----------
    white : certain white matter, from whose most anisotropic 300 voxels the single-fibre response is taken
    where : voxels in which fibres may run

    References
    ----------
    Tournier, Calamante & Connelly (2007), NeuroImage 35, 1459-1472, as DIPY implements it.
    """
    table = diffusion.gradients
    gtab = gradient_table(table.bvals, bvecs=table.voxel_frame(diffusion.affine), b0_threshold=50, atol=1e-2)
    tensor = TensorModel(gtab, fit_method="WLS")  # type: ignore[no-untyped-call]
    tensor = tensor.fit(diffusion.data, mask=diffusion.mask)
    anisotropy = np.nan_to_num(tensor.fa).astype(np.float32)
    principal = np.nan_to_num(tensor.evecs[..., :, 0]).astype(np.float32)
    order = harmonic_order(table.directions)
    where = where & diffusion.mask
    directions = np.zeros((*where.shape, PEAKS, 3), dtype=np.float32)
    amplitudes = np.zeros((*where.shape, PEAKS), dtype=np.float32)
    if order:
        response = _response(tensor, diffusion, white, anisotropy)
        model = ConstrainedSphericalDeconvModel(gtab, response, sh_order_max=order)
        coefficients = model.fit(diffusion.data[where]).shm_coeff
        directions[where], amplitudes[where] = _peaks(np.asarray(coefficients), order)
    else:
        directions[where, 0], amplitudes[where, 0] = principal[where], anisotropy[where]
    strong = white & where & (anisotropy >= np.quantile(anisotropy[white & where], 0.9))
    amplitudes /= max(float(np.median(amplitudes[strong, 0])), 1e-6)
    turn = diffusion.affine[:3, :3] / np.linalg.norm(diffusion.affine[:3, :3], axis=0)
    return Fibres(
        directions=directions,
        amplitudes=amplitudes,
        anisotropy=anisotropy,
        colours=(np.abs(principal @ turn.T) * anisotropy[..., None]).astype(np.float32),
        order=order,
    )


def _response(
    tensor: object, diffusion: Diffusion, white: Bool[np.ndarray, "x y z"], anisotropy: Float[np.ndarray, "x y z"]
) -> tuple[Float[np.ndarray, " 3"], float]:
    values = np.asarray(tensor.evals)  # type: ignore[attr-defined]
    inside = white & diffusion.mask & (anisotropy < 0.95)
    ranked = np.argsort(np.where(inside, anisotropy, -1).ravel(), kind="stable")[::-1][:_RESPONSE_VOXELS]
    axial, *radial = np.median(values.reshape(-1, 3)[ranked], axis=0)
    b0 = diffusion.data[..., diffusion.gradients.is_b0].mean(axis=3).ravel()[ranked]
    return np.array([axial, np.mean(radial), np.mean(radial)]), float(np.median(b0))


def _peaks(
    coefficients: Float[np.ndarray, "voxel coefficient"], order: int
) -> tuple[Float[np.ndarray, "voxel peak 3"], Float[np.ndarray, "voxel peak"]]:
    sphere = HemiSphere.from_sphere(get_sphere(name="repulsion724"))
    vertices = np.asarray(sphere.vertices)
    to_sphere = sh_to_sf_matrix(sphere, sh_order_max=order, basis_type="descoteaux07", return_inv=False, legacy=True)
    neighbours = _neighbours(np.asarray(sphere.edges), len(vertices))
    directions = np.zeros((len(coefficients), PEAKS, 3), dtype=np.float32)
    amplitudes = np.zeros((len(coefficients), PEAKS), dtype=np.float32)
    for start in range(0, len(coefficients), _CHUNK):
        part = slice(start, start + _CHUNK)
        heights = np.maximum(coefficients[part] @ to_sphere, 0)
        directions[part], amplitudes[part] = _tops(heights, vertices, neighbours)
    return directions, amplitudes


def _tops(
    heights: Float[np.ndarray, "voxel vertex"], vertices: Float[np.ndarray, "vertex 3"], neighbours: np.ndarray
) -> tuple[Float[np.ndarray, "voxel peak 3"], Float[np.ndarray, "voxel peak"]]:
    around = heights[:, neighbours]
    is_top = (heights > around.max(axis=2)) & (heights > _RELATIVE_HEIGHT * heights.max(axis=1, keepdims=True))
    ranked = np.argsort(np.where(is_top, -heights, 0), axis=1, kind="stable")[:, :PEAKS]
    rows = np.arange(len(heights))[:, None]
    tops = np.where(is_top[rows, ranked], heights[rows, ranked], 0)
    # Vertices lie 7 degrees apart: the top lies where the height of its neighbours pulls it.
    ring = neighbours[ranked]
    signs = np.sign(np.einsum("vpnc,vpc->vpn", vertices[ring], vertices[ranked]))
    pull = np.take_along_axis(heights, ring.reshape(len(heights), -1), axis=1).reshape(ring.shape)
    weights = (pull / np.maximum(tops, 1e-12)[..., None]) ** 4 * signs
    axes = vertices[ranked] + np.einsum("vpn,vpnc->vpc", weights, vertices[ring])
    axes /= np.linalg.norm(axes, axis=2, keepdims=True)
    return np.where(tops[..., None] > 0, axes, 0), tops


def _neighbours(edges: np.ndarray, vertices: int) -> np.ndarray:
    lists: list[list[int]] = [[] for _ in range(vertices)]
    for one, other in edges:
        lists[one].append(int(other))
        lists[other].append(int(one))
    widest = max(len(ring) for ring in lists)
    # A shorter ring repeats its first member, which changes no maximum.
    return np.array([ring + ring[:1] * (widest - len(ring)) for ring in lists])
