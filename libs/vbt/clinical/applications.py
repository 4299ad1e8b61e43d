"""The applications by the name that a case's protocol gives; each is imported when it is first asked for."""

from __future__ import annotations

import importlib
from typing import Any

from vbt.clinical.application import Application, Recordings
from vbt.errors import Rejected

NAMES = ("resting_state", "epilepsy", "multiple_sclerosis")
"""What a protocol may name: each is a module of this package with an ``APPLICATION``."""

_HOW = {
    "bold": "send the study with its resting fMRI series",
    "seeg": "attach it with `vbt attach CASE --seeg FILE --electrodes FILE`",
    "eeg": "attach it with `vbt attach CASE --eeg FILE`",
    "meg": "attach it with `vbt attach CASE --meg FILE`",
    "lesions": "attach it with `vbt attach CASE --lesions FILE`",
}
_WHAT = {
    "bold": "resting fMRI",
    "seeg": "SEEG",
    "eeg": "EEG",
    "meg": "MEG",
    "lesions": "lesion mask",
}


def application_of(protocol: str) -> Application[Any, Any]:
    """The application that a protocol names.

    Raises
    ------
    Rejected : ``protocol-unknown``
    """
    if protocol not in NAMES:
        raise Rejected(
            "protocol-unknown",
            rule=f"a protocol names an application: {', '.join(NAMES)}",
            got="another name",
            action="ask for one of these, with the study's protocol or `vbt attach --protocol`",
        )
    found: Application[Any, Any] = importlib.import_module(f"vbt.clinical.{protocol}").APPLICATION
    return found


def require_recordings(application: Application[Any, Any], recordings: Recordings) -> None:
    """Refuse a case without the recordings that its application cannot do without.

    Raises
    ------
    Rejected : ``no-recording``, naming what to attach
    """
    for kinds in application.requires:
        if all(getattr(recordings, kind) is None for kind in kinds):
            raise Rejected(
                "no-recording",
                rule=f"the twin for {application.title.lower()} needs {application.needs}",
                got=f"a case without usable {' or '.join(_WHAT[kind] for kind in kinds)}",
                action=", or ".join(_HOW[kind] for kind in kinds),
            )
