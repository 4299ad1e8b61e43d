"""The pixel values of one file: straight from the bytes when native, through pydicom's decoders when compressed."""

from __future__ import annotations

import numpy as np
from jaxtyping import Shaped
from pydicom import config, dcmread
from pydicom.pixels.decoders.base import get_decoder

from vbt.dicom._instance import UNPARSABLE, Instance, telling_disk_from_content, unreadable_transfer_syntax


def can_decode(instance: Instance) -> bool:
    """Whether this installation has a decoder for the instance's transfer syntax."""
    if instance.has_native_pixels:
        return True
    try:
        return bool(get_decoder(instance.transfer_syntax_uid).is_available)
    except NotImplementedError:
        return False


def read_frames(instance: Instance) -> Shaped[np.ndarray, "frame row column"]:
    """Stored pixel values of every frame, before rescaling.

    Raises
    ------
    Rejected : ``unreadable-transfer-syntax`` where they cannot be decoded
    NotYet : ``image-unreachable`` where the system cannot read the file now
    """
    shape = (len(instance.frames), instance.rows, instance.columns)
    if instance.has_native_pixels and instance.bits_allocated in (8, 16, 32):
        dtype = np.dtype(f"<{'i' if instance.signed else 'u'}{instance.bits_allocated // 8}")
        with telling_disk_from_content(), instance.path.open("rb") as file:
            file.seek(instance.pixel_offset)
            return np.fromfile(file, dtype=dtype, count=int(np.prod(shape))).reshape(shape)
    try:
        with telling_disk_from_content(), config.disable_value_validation():
            return dcmread(instance.path).pixel_array.reshape(shape)
    except (*UNPARSABLE, RuntimeError) as error:
        raise unreadable_transfer_syntax() from error
