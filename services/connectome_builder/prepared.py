"""Contents wait in memory until the step can no longer refuse, because an erasure finds only what the trail names."""

from __future__ import annotations

import hashlib

from vbt.api.event.v1 import event_pb2
from vbt.platform import wire
from vbt.platform.objects import Artifact, Objects


class Prepared:
    """Artifacts of one step, addressed as in the store and read as from there; ``keep`` puts them all into it."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._contents: dict[Artifact, bytes] = {}

    def put(self, content: bytes, media_type: str, name: str) -> event_pb2.Artifact:
        """The artifact that the store will give back for this content."""
        sha256 = hashlib.sha256(content).hexdigest()
        uri = f"{self._objects.url}/{sha256}"
        artifact = Artifact(name=name, uri=uri, sha256=sha256, size=len(content), media_type=media_type)
        self._contents[artifact] = content
        return wire.to_wire(artifact)

    def get(self, artifact: event_pb2.Artifact) -> bytes:
        """The bytes of what was prepared here, or of what is in the store."""
        wanted = wire.from_wire(artifact)
        prepared = self._contents.get(wanted)
        return self._objects.get(wanted) if prepared is None else prepared

    def keep(self) -> None:
        """Put everything into the store; called last, when nothing is left that could refuse.

        Raises
        ------
        NotYet : the store is out of reach or full; the step is tried again and puts the same contents
        """
        for artifact, content in self._contents.items():
            self._objects.put(content, artifact.media_type, artifact.name)
