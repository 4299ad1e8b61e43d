"""Where the brain is in a T1: deepbet's two networks, one to find the head's brain box and one to draw the mask.

Both run in onnxruntime. The steps around them follow deepbet 1.0.2 (`deepbet.bet.BrainExtraction`), so that the mask is
the one deepbet draws with torch.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Literal

import nibabel as nib
import numpy as np
import onnxruntime
from jaxtyping import Bool, Float
from scipy import ndimage

from vbt.connectome._images import array_of, canonical, on_axes_of
from vbt.errors import Rejected

_COARSE = (128, 128, 128)
_FINE = (256, 256, 256)
_MARGIN = 0.1
_FOREGROUND_SHARE = 0.02
_THREADS = 2
_Box = tuple[slice, slice, slice]


def extract_brain(t1: nib.Nifti1Image) -> nib.Nifti1Image:
    """The brain mask of a whole-head T1 (uint8, 0 or 1, on the grid of ``t1``).

    Raises
    ------
    Rejected
        ``t1-without-brain`` where no brain is found.

    References
    ----------
    Fisch et al. (2024), deepbet, Computers in Biology and Medicine 179, 108845.
    """
    values = np.nan_to_num(array_of(canonical(t1)))
    if values.ndim != 3 or values.max() == values.min():
        raise _no_brain(f"an image of {values.ndim} dimensions without contrast")
    box = _brain_box(values)
    probability = np.zeros(values.shape, dtype=np.float32)
    seen = values[box]
    # The intensity window is the coarse image's in both steps, as in deepbet.
    drawn = _probability("brain_mask", _normalised(_resampled(seen, _FINE), _window(values)))
    probability[box] = _resampled(drawn, seen.shape)
    mask = ndimage.binary_fill_holes(_largest_component(probability > 0.5))
    return on_axes_of(t1, mask.astype(np.uint8))


def _brain_box(values: Float[np.ndarray, "x y z"]) -> _Box:
    whole = _normalised(_resampled(values, _COARSE), _window(values))
    coarse = _largest_component(_probability("brain_box", whole) > 0.5)
    sides = []
    for axis, length in enumerate(values.shape):
        share = coarse.mean(axis=tuple({0, 1, 2} - {axis}))
        inside = np.flatnonzero(share > _FOREGROUND_SHARE)
        if inside.size == 0:
            raise _no_brain("an image whose coarse brain mask is empty")
        scale = length / _COARSE[axis]
        centre = np.round(scale * (inside[-1] + 1 + inside[0]) / 2)
        size = np.round((1 + 2 * _MARGIN) * scale * (inside[-1] + 1 - inside[0]))
        sides.append(slice(max(0, int(centre - size / 2)), min(length, int(centre + size / 2))))
    return sides[0], sides[1], sides[2]


def _probability(
    model: Literal["brain_box", "brain_mask"], image: Float[np.ndarray, "x y z"]
) -> Float[np.ndarray, "x y z"]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = _THREADS
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Without an arena the memory of the network goes back when it is done.
    options.enable_cpu_mem_arena = False
    content = files("vbt.connectome").joinpath("models", f"{model}.onnx").read_bytes()
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    (classes,) = session.run(None, {"image": image[None, None]})
    return np.asarray(classes[0, 1])


def _window(values: Float[np.ndarray, "x y z"]) -> tuple[float, float]:
    low, high = np.quantile(_resampled(values, _COARSE), [0.005, 0.995])
    if high <= low:
        raise _no_brain("an image without contrast")
    return float(low), float(high)


def _normalised(values: Float[np.ndarray, "x y z"], window: tuple[float, float]) -> Float[np.ndarray, "x y z"]:
    low, high = window
    scaled = np.clip((values - np.float32(low)) / np.float32(high - low), 0, 1)
    deviation = scaled.std(ddof=1, dtype=np.float64)
    return np.asarray(0.226 * (scaled - scaled.mean(dtype=np.float64)) / deviation + 0.449, dtype=np.float32)


def _resampled(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    # torch's "nearest-exact": the centre of an output voxel takes the input voxel it lies in.
    picks = [
        np.minimum(((np.arange(new) + 0.5) * old / new).astype(int), old - 1)
        for new, old in zip(shape, values.shape, strict=True)
    ]
    return np.ascontiguousarray(values[np.ix_(*picks)])


def _largest_component(mask: Bool[np.ndarray, "x y z"]) -> Bool[np.ndarray, "x y z"]:
    labels, count = ndimage.label(mask, structure=np.ones((3, 3, 3)))
    if count == 0:
        raise _no_brain("an image in which no voxel is brain")
    return np.asarray(labels == np.bincount(labels.ravel())[1:].argmax() + 1)


def _no_brain(got: str) -> Rejected:
    return Rejected(
        "t1-without-brain",
        rule="the T1 shows a whole head, from which the brain can be taken",
        got=got,
        action="send a three-dimensional T1-weighted series of the head",
    )
