"""An association that we request: pynetdicom's, without the race in which its own thread takes our answers."""

from __future__ import annotations

import threading
from typing import Any

from pynetdicom import AE


class _Checkpoint(threading.Event):
    """Where pynetdicom's reactor waits while we talk.

    A sender clears this event and then looks at a flag that says whether the reactor waits. In pynetdicom (3.0.4) the
    reactor lowers the flag only some time after it went on; preempted in between, it later takes the answer that the
    sender waits for, drops it as "unexpected", and the sender aborts after its timeout. Here going on and lowering the
    flag are one step.
    """

    def __init__(self, association: Any) -> None:
        super().__init__()
        self.reached = threading.Event()
        self._association = association
        self._step = threading.Lock()
        self.set()

    def wait(self, timeout: float | None = None) -> bool:
        self.reached.set()
        while True:
            if not super().wait(timeout):
                return False
            with self._step:
                if self.is_set():
                    self._association._is_paused = False
                    return True

    def clear(self) -> None:
        with self._step:
            super().clear()


def associate(entity: AE, address: tuple[str, int], **options: Any) -> Any:
    """Request an association; send on it from one thread at a time.

    Parameters
    ----------
    address : host and port of the peer
    options : as of ``AE.associate``, e.g. ``ae_title``

    Returns
    -------
    pynetdicom's ``Association``; look at ``is_established``
    """
    association: Any = entity.associate(*address, **options)
    if association.is_established:
        checkpoint = _Checkpoint(association)
        association._reactor_checkpoint = checkpoint
        while association.is_alive() and not checkpoint.reached.wait(0.05):
            pass
    return association
