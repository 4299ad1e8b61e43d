"""Every model that reports a number, by the name under which `vbt calibrate` knows it."""

from __future__ import annotations

import importlib

from vbt.inference._sbc import SbcModel

SBC_MODELS = {
    "resting_state": ("vbt.inference._sbc_resting_state", "RestingStateSbc"),
    "resting_state_amortised": ("vbt.inference._sbc_resting_state", "AmortisedSbc"),
    "delayed_spectrum": ("vbt.inference._delayed_spectrum_sbc", "DelayedSpectrumSbc"),
    "seizure": ("vbt.inference._seizure_sbc", "SeizureSbc"),
}


def sbc_model(name: str) -> SbcModel:
    """The model of a name, imported when it is first asked for.

    Raises
    ------
    ValueError : for a name that is not in ``SBC_MODELS``
    """
    if name not in SBC_MODELS:
        raise ValueError(f"model must be one of {', '.join(SBC_MODELS)}, got {name!r}")
    module, of = SBC_MODELS[name]
    model: SbcModel = getattr(importlib.import_module(module), of)()
    return model
