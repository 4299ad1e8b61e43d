"""`vbt ledger`: the log as a terminal shows it, its export, and its verification with the auditor's own program."""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Any

import grpc
import sqlalchemy as sa
from rich.table import Table

import vbt_verify
from audit_ledger.__main__ import open_sequencer
from audit_ledger.bundle import export_bundle
from audit_ledger.log import AuditLog
from audit_ledger.witness import NOTE_FILE
from standalone.suite import Ports, SuiteSettings
from vbt.api.audit.v1 import audit_pb2, audit_pb2_grpc
from vbt.errors import NotYet
from vbt.platform.grpc_channel import open_channel
from vbt.platform.runtime import open_runtime

_EXPORT_SECONDS = 600.0
_PATIENCE = 10.0


def entries(engine: sa.Engine, case_id: str | None) -> list[dict[str, Any]]:
    """The log's entries in order, all or those of one case."""
    return [{"seq": leaf.seq, **json.loads(leaf.entry)} for leaf in AuditLog(engine).leaves(case_id=case_id)]


def entry_table(found: list[dict[str, Any]]) -> Table:
    """One line per entry."""
    table = Table(box=None, pad_edge=False)
    for heading in ("#", "at (UTC)", "case", "action", "outcome", "actor", "consent", "gave"):
        table.add_column(heading, no_wrap=heading != "gave")
    for entry in found:
        consent = entry["consent"]
        table.add_row(
            str(entry["seq"]),
            entry["at"][:19].replace("T", " "),
            entry["case_id"] or "",
            entry["action"],
            entry["outcome"],
            entry["actor"],
            f"{consent['decision']} ({consent['basis']})" if consent else "",
            ", ".join(f"{output['name']} {output['sha256'][:8]}" for output in entry["outputs"]),
        )
    return table


def export(settings: SuiteSettings, path: Path, case_id: str | None) -> None:
    """Write the bundle: through the running suite, which is the log's one writer, or by itself where none runs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ports = Ports.of(settings.data)
    if ports is None:
        _export_alone(settings, path, case_id)
        return
    with open_channel(f"127.0.0.1:{ports.grpc}", deadline=_EXPORT_SECONDS) as channel:
        stub = audit_pb2_grpc.AuditServiceStub(channel)
        try:
            with path.open("wb") as target:
                for piece in stub.ExportBundle(audit_pb2.ExportBundleRequest(case_id=case_id or "")):
                    target.write(piece.chunk)
        except grpc.RpcError as error:
            path.unlink(missing_ok=True)
            raise NotYet(
                "ledger-not-exported",
                rule="the running suite exports its own log",
                got=f"gRPC status {error.code().name}",
                action="look at the suite's log and try again",
            ) from None


def verify(settings: SuiteSettings, *, as_json: bool) -> int:
    """Export the log and give it to `vbt-verify` with the witness's note as an anchor; its exit code."""
    with tempfile.TemporaryDirectory(prefix="vbt-verify-") as directory:
        bundle, anchor = Path(directory) / "bundle.zip", Path(directory) / NOTE_FILE
        # The note first: one that is younger than the bundle would speak of entries that the bundle cannot have.
        note = settings.witness_directory / NOTE_FILE
        if not note.exists():
            raise NotYet(
                "witness-note-missing",
                rule="the log is verified against its witness's own note",
                got="no note in the witness's directory",
                action="set VBT_LEDGER__WITNESS to where the witness keeps its state",
            )
        anchor.write_bytes(note.read_bytes())
        export(settings, bundle, None)
        return vbt_verify.main([str(bundle), "--anchor", str(anchor), *(["--json"] if as_json else [])])


def _export_alone(settings: SuiteSettings, path: Path, case_id: str | None) -> None:
    runtime = open_runtime("standalone", settings, log=False)
    try:
        sequencer = open_sequencer(runtime, settings)
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                sequencer.start()
                break
            except NotYet:
                # A suite that was killed holds the writer's lease for a few seconds more.
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)
        export_bundle(sequencer, path, case_id=case_id)
        sequencer.stop()
    finally:
        runtime.close()
