"""All services in one process on one machine, with one directory for everything."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audit_ledger import __main__ as audit_ledger
from audit_ledger.settings import LedgerSettings
from brain_simulator import __main__ as brain_simulator
from brain_simulator.settings import SimulatorSettings
from connectome_builder import __main__ as connectome_builder
from connectome_builder.settings import BuilderSettings
from dicom_ingest import __main__ as dicom_ingest
from dicom_ingest.settings import IngestSettings
from report_writer import __main__ as report_writer
from report_writer.settings import ReportSettings
from twin_inference import __main__ as twin_inference
from twin_inference.settings import InferenceSettings
from vbt.platform.runtime import Runtime, open_runtime
from vbt.platform.server import Server
from vbt.platform.settings import read_settings

PORTS_FILE = "ports.json"


class SuiteSettings(
    IngestSettings, BuilderSettings, InferenceSettings, SimulatorSettings, ReportSettings, LedgerSettings
):
    """What all services are told, when they are one process."""


@dataclass(frozen=True)
class Ports:
    """Where a running suite listens."""

    dicom: int
    grpc: int
    process: int

    @classmethod
    def of(cls, data: Path) -> Ports | None:
        """Those of the suite that runs on a directory; None where none does."""
        path = data / PORTS_FILE
        if not path.exists():
            return None
        ports = cls(**json.loads(path.read_text()))
        return ports if Path(f"/proc/{ports.process}").exists() or not Path("/proc").exists() else None


class Suite:
    """The six services on one runtime; `start` it, and `stop` it to drain."""

    def __init__(self, settings: SuiteSettings, *, log: bool) -> None:
        settings.data.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._ports_path = settings.data / PORTS_FILE
        self.runtime: Runtime = open_runtime("standalone", settings, log=log)
        ingest = dicom_ingest.build(self.runtime, settings)
        services = [
            ingest,
            connectome_builder.build(self.runtime, settings),
            twin_inference.build(self.runtime, settings),
            brain_simulator.build(self.runtime, settings),
            report_writer.build(self.runtime, settings),
            # Last to stop, so that the entries of the others' last effects are integrated too.
            audit_ledger.build(self.runtime, settings),
        ]
        self._port = next(worker for worker in ingest.workers if isinstance(worker, dicom_ingest.Port))
        self._server = Server(
            "standalone",
            [service.add_servicer for service in services],
            [worker for service in services for worker in service.workers],
            self.runtime.relay,
            settings.grpc,
        )

    @property
    def dicom_port(self) -> int:
        """Where the PACS sends to."""
        return self._port.number

    def start(self) -> None:
        """Serve, receive and work, without blocking the caller."""
        self._server.start()
        ports = Ports(dicom=self.dicom_port, grpc=self._server.port, process=os.getpid())
        self._ports_path.write_text(json.dumps(ports.__dict__))

    def stop(self) -> None:
        """Take nothing new, finish or give up what is in hand, and close."""
        self._ports_path.unlink(missing_ok=True)
        self._server.stop()
        self.runtime.close()


def suite_settings(data: Path, **given: Any) -> SuiteSettings:
    """The settings from the environment, on one directory, with what the command line overrides."""
    return read_settings(SuiteSettings, data=data, **given)
