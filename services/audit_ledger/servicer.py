"""The gRPC face of the ledger: entries, proofs, checkpoints, and the bundle a third party verifies offline."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import grpc

from audit_ledger.bundle import export_bundle
from audit_ledger.log import AuditLog, Leaf
from audit_ledger.sequencer import Sequencer
from vbt.api.audit.v1 import audit_pb2 as api
from vbt.api.audit.v1 import audit_pb2_grpc

_LIST_DEFAULT = 100
_LIST_MOST = 1000
_CHUNK = 1 << 20


class AuditServicer(audit_pb2_grpc.AuditServiceServicer):
    def __init__(self, sequencer: Sequencer) -> None:
        self._sequencer = sequencer
        self._log = AuditLog(sequencer.engine)

    def GetEntry(self, request: api.GetEntryRequest, context: grpc.ServicerContext) -> api.GetEntryResponse:
        leaf, receipt = self._log.receipt_at(request.seq)
        return api.GetEntryResponse(
            entry=_entry(leaf), inclusion_proof=receipt.inclusion_proof, checkpoint=receipt.checkpoint
        )

    def ListEntries(self, request: api.ListEntriesRequest, context: grpc.ServicerContext) -> api.ListEntriesResponse:
        leaves = self._log.leaves(from_seq=request.from_seq, case_id=request.case_id or None)
        limit = min(request.limit or _LIST_DEFAULT, _LIST_MOST)
        return api.ListEntriesResponse(entries=[_entry(leaf) for leaf in islice(leaves, limit)])

    def WatchEntries(
        self, request: api.WatchEntriesRequest, context: grpc.ServicerContext
    ) -> Iterator[api.WatchEntriesResponse]:
        following = request.from_seq
        while context.is_active():
            for leaf in self._log.leaves(from_seq=following):
                yield api.WatchEntriesResponse(entry=_entry(leaf))
                following = leaf.seq + 1
            time.sleep(0.5)

    def GetCheckpoint(
        self, request: api.GetCheckpointRequest, context: grpc.ServicerContext
    ) -> api.GetCheckpointResponse:
        note = self._log.checkpoint()
        return api.GetCheckpointResponse(checkpoint="" if note is None else str(note))

    def ExportBundle(
        self, request: api.ExportBundleRequest, context: grpc.ServicerContext
    ) -> Iterator[api.ExportBundleResponse]:
        with tempfile.TemporaryDirectory(prefix="vbt-export-") as directory:
            path = Path(directory) / "bundle.zip"
            export_bundle(self._sequencer, path, case_id=request.case_id or None)
            with path.open("rb") as bundle:
                while chunk := bundle.read(_CHUNK):
                    yield api.ExportBundleResponse(chunk=chunk)


def _entry(leaf: Leaf) -> api.Entry:
    return api.Entry(seq=leaf.seq, canonical_json=leaf.entry, leaf_hash=leaf.leaf_hash)
