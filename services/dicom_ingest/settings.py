"""What a site chooses for ingest."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, field_validator

from vbt.platform.settings import Section, Settings


class DicomSettings(Section):
    """The node that the PACS sends to.

    Parameters
    ----------
    host, port : where it listens; port 0 takes a free one
    ae_title : our application entity title
    calling_ae_titles : who may send; empty: everybody who reaches the port
    quiet_seconds : a study is complete when nothing came, and its association is closed, for so long
    idle_seconds : or when nothing of it came for so long, although its association is still open
    spool : where received files are kept, identified; empty: beside the state
    protocol : which twin is built for a study that comes without another wish: the name of an application
    maximum_associations : how many senders at once; the next one is told to come back
    minimum_free_bytes : below this much free disk, images are refused as "out of resources" and sent again later
    """

    host: str = "127.0.0.1"
    port: int = Field(default=11112, ge=0, le=65535)
    ae_title: str = Field(default="VBT", min_length=1, max_length=16)
    calling_ae_titles: tuple[str, ...] = ()
    quiet_seconds: float = Field(default=30.0, gt=0)
    idle_seconds: float = Field(default=900.0, gt=0)
    spool: Path | None = None
    protocol: str = "resting_state"
    maximum_associations: int = Field(default=32, ge=1)
    minimum_free_bytes: int = Field(default=2 * 1024**3, ge=0)

    @field_validator("protocol")
    @classmethod
    def _names_an_application(cls, protocol: str) -> str:
        from vbt.clinical.applications import NAMES  # what builds twins takes seconds to load

        if protocol not in NAMES:
            raise ValueError(f"names no application; there are {', '.join(NAMES)}")
        return protocol


class IngestSettings(Settings):
    dicom: DicomSettings = DicomSettings()

    @property
    def spool_directory(self) -> Path:
        """Where received files are kept."""
        return self.dicom.spool or self.data / "spool"
