"""Keeps the tamper-evident audit log and proves what it holds."""

from __future__ import annotations

from audit_ledger.handlers import Recorder
from audit_ledger.keys import open_signer
from audit_ledger.sequencer import Sequencer
from audit_ledger.servicer import AuditServicer
from audit_ledger.settings import LedgerSettings
from audit_ledger.witness import Witness
from vbt.api.audit.v1.audit_pb2_grpc import add_AuditServiceServicer_to_server
from vbt.ledger import COSIGNATURE_V1
from vbt.platform.runtime import Runtime
from vbt.platform.service import Service, run

NAME = "audit_ledger"


def open_sequencer(runtime: Runtime, settings: LedgerSettings) -> Sequencer:
    """The log's one writer with its witness, on an open runtime."""
    origin = settings.ledger.origin
    signer = open_signer(runtime.keys.log_key_path, origin)
    witness_signer = open_signer(
        settings.witness_directory / "witness.pem", f"{origin}/witness", algorithm=COSIGNATURE_V1
    )
    witness = Witness(settings.witness_directory, witness_signer, signer.verifier_key)
    return Sequencer(runtime.engine, signer, witness=witness)


def build(runtime: Runtime, settings: LedgerSettings) -> Service:
    """The service on an open runtime."""
    sequencer = open_sequencer(runtime, settings)
    return Service(
        name=NAME,
        add_servicer=lambda server: add_AuditServiceServicer_to_server(AuditServicer(sequencer), server),
        workers=[Recorder(sequencer)],
    )


def main() -> None:
    """Run the service; what `vbt-audit-ledger` calls."""
    run(NAME, "Keeps the tamper-evident audit log and proves what it holds.", LedgerSettings, build)


if __name__ == "__main__":
    main()
