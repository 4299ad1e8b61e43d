"""A C-STORE receiver that says Success only for what is on the disk and in the database.

pynetdicom negotiates; once an association stands, P-DATA is parsed here, straight from the socket into the spool, so
an object of any size takes constant memory. Each recv re-arms TCP_QUICKACK: a sender with Nagle's algorithm on (most
modalities) then never waits for our delayed acknowledgement.
"""

from __future__ import annotations

import errno
import logging
import select
import socket
import ssl
import struct
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from pynetdicom import AE, AllStoragePresentationContexts
from pynetdicom.transport import AssociationSocket, RequestHandler, ThreadedAssociationServer

from dicom_ingest.association_span import AssociationSpan
from dicom_ingest.dimse import (
    C_CANCEL_RQ,
    C_ECHO_RQ,
    C_STORE_RQ,
    P_DATA_TF,
    Command,
    CommandBuffer,
    Fragment,
    ProtocolError,
    fragments,
    response,
)
from dicom_ingest.spool import Arrival, Conflict, Malformed, Spool, is_valid_uid
from vbt.errors import NotYet

VERIFICATION = "1.2.840.10008.1.1"
# Deflated (…1.2.1.99) is not offered: inflating 1 MiB of it can take gigabytes. Big endian is retired.
TRANSFER_SYNTAXES = (
    "1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51",
    "1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81",
    "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91", "1.2.840.10008.1.2.4.201", "1.2.840.10008.1.2.4.202",
    "1.2.840.10008.1.2.4.203", "1.2.840.10008.1.2.5",
)  # fmt: skip

SUCCESS, OUT_OF_RESOURCES, MISMATCH, CANNOT_UNDERSTAND = 0x0000, 0xA700, 0xA900, 0xC000
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_ASSOCIATION_PDU_LIMIT = 1 << 20
_ABORT = bytes((0x07, 0, 0, 0, 0, 4, 0, 0, 0x02, 0))  # A-ABORT from the service provider, no reason given
_RECEIVE_BYTES = 1 << 18
_IDLE_WAIT = 0.02  # s; how long the reader waits for data before it lets pynetdicom's loop turn


@dataclass(frozen=True, slots=True)
class ReceiverSettings:
    """How the receiver listens and what it lets in.

    `allowed_calling_ae_titles` empty means any; `port` 0 lets the system choose; `reserve_bytes` is the free disk
    space below which objects are refused with A700; `network_timeout` (s) closes silent associations.
    """

    spool: Path
    site_key: bytes
    ae_title: str = "VBT"
    host: str = "127.0.0.1"
    port: int = 11112
    allowed_calling_ae_titles: tuple[str, ...] = ()
    require_called_ae_title: bool = False
    maximum_associations: int = 64
    maximum_pdu_bytes: int = 128 * 1024
    maximum_object_bytes: int = 4 << 30
    reserve_bytes: int = 1 << 30
    network_timeout: float = 60.0


@dataclass(frozen=True, slots=True)
class ReceivedInstance:
    """One object that is durable.

    `duplicate`: these very bytes were received before, nothing is new. `traceparent`: the association's span.
    """

    sop_key: str
    study_key: str
    series_key: str
    sha256: str
    path: Path
    association: str
    size: int
    duplicate: bool = False
    traceparent: str = ""


@dataclass(frozen=True, slots=True)
class QuarantinedObject:
    """One object that was kept aside; `study_key` empty where nobody can tell its study."""

    reason: str  # `malformed`, `sop-instance-mismatch` or `conflicting-duplicate`
    sha256: str
    path: Path
    association: str
    size: int
    study_key: str = ""


OnStored = Callable[[ReceivedInstance], None]
OnQuarantined = Callable[[QuarantinedObject], None]


class NotRecorded(NotYet):
    """Raised by `on_stored` when its row could not be committed: the sender is told to try again (A700)."""

    def __init__(self) -> None:
        super().__init__(
            "image-not-recorded",
            rule="an image is taken when its file and its row are durable",
            got="no access to the state",
            action="send it again",
        )


class Receiver:
    """The storage SCP.

    Parameters
    ----------
    settings : see `ReceiverSettings`
    on_stored : commits the object's row before Success goes out. It is called for duplicates too and must be
        idempotent per `sop_key`: after a crash between disk and database, the resend is the duplicate that brings
        the row. Raises `NotRecorded` to have the sender retry.
    on_quarantined : is told about every object kept aside
    ssl_context : TLS for the listening socket
    """

    def __init__(
        self,
        settings: ReceiverSettings,
        on_stored: OnStored,
        on_quarantined: OnQuarantined,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self.settings, self.on_stored, self.on_quarantined = settings, on_stored, on_quarantined
        self.spool = Spool(settings.spool, settings.site_key, settings.reserve_bytes)
        self._ssl_context = ssl_context
        self._server: _Server | None = None

    @property
    def port(self) -> int:
        if self._server is None:
            raise ValueError("the receiver has not been started")
        return int(self._server.server_address[1])

    def open_associations(self) -> frozenset[str]:
        """Names of the associations that may still send, as `ReceivedInstance.association` gives them."""
        server = self._server  # read once: another thread may stop the receiver
        if server is None:
            return frozenset()
        connections = [association.dul.socket for association in server.active_associations]
        return frozenset(connection.name for connection in connections if isinstance(connection, _Connection))

    def start(self) -> None:
        """Sweep what a crash left, then listen in background threads."""
        # pynetdicom logs UIDs and addresses of what it handles; the service logs its own, identity-free lines.
        logging.getLogger("pynetdicom").setLevel(logging.CRITICAL + 1)
        entity = AE(self.settings.ae_title)
        entity.maximum_associations = self.settings.maximum_associations
        entity.maximum_pdu_size = self.settings.maximum_pdu_bytes
        entity.network_timeout = entity.acse_timeout = self.settings.network_timeout
        entity.require_called_aet = self.settings.require_called_ae_title
        entity.require_calling_aet = list(self.settings.allowed_calling_ae_titles)
        entity.add_supported_context(VERIFICATION, list(TRANSFER_SYNTAXES[:2]))
        for context in AllStoragePresentationContexts:
            entity.add_supported_context(str(context.abstract_syntax), list(TRANSFER_SYNTAXES))
        server = entity.make_server(
            (self.settings.host, self.settings.port),
            ae_title=self.settings.ae_title,
            ssl_context=self._ssl_context,
            server_class=_Server,
            request_handler=_Handler,
        )
        if not isinstance(server, _Server):
            raise TypeError("pynetdicom made another server")
        server.receiver = self
        # Only who holds the port may clear away what arrivals left: another receiver's are still arriving.
        self.spool.sweep()
        # start_server would do this; shutdown expects it.
        entity._servers.append(server)
        self._server = server
        threading.Thread(target=server.serve_forever, args=(0.1,), name="dicom-receiver", daemon=True).start()

    def stop(self) -> None:
        """Stop listening and abort what is open; whatever was acknowledged is safe."""
        if self._server is None:
            return
        for association in self._server.active_associations:
            if association.is_established:
                association.abort()
            else:
                _hang_up(association)
        self._server.shutdown()
        self._server.server_close()
        self._server = None

    def __enter__(self) -> Receiver:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class _Server(ThreadedAssociationServer):
    """Takes a burst of connects: pynetdicom's own backlog is 5."""

    request_queue_size = 128
    receiver: Receiver


class _Handler(RequestHandler):
    """Gives each association our socket."""

    def _create_association(self) -> Any:
        association: Any = super()._create_association()
        receiver = cast(_Server, self.server).receiver
        connection = association.dul.socket.socket
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.settimeout(receiver.settings.network_timeout)
        # The first socket has announced the connection (Evt5); ours must not announce it again.
        association.dul.event_queue.get_nowait()
        association.dul.socket = _Connection(association, connection, receiver)
        return association


class _Connection(AssociationSocket):
    """pynetdicom's socket, which keeps P-DATA for itself and hands every other PDU on."""

    socket: Any

    def __init__(self, association: Any, connection: socket.socket, receiver: Receiver) -> None:
        super().__init__(association, client_socket=connection)
        self._association = association
        self._receiver = receiver
        self._incoming = bytearray()
        self._peer_closed = False
        self._data_over = False
        self._stores = _Stores(receiver, association)

    @property
    def name(self) -> str:
        """What this association's objects are known by."""
        return self._stores.name

    @property
    def ready(self) -> bool:
        """Whether pynetdicom should read a PDU; takes in all P-DATA that has come first."""
        if self.socket is None or not self._is_connected:
            return False
        try:
            while self._fill():
                if not self._take_pdu():
                    # A release, an abort or the end: an object that is not whole by now never will be.
                    self._stores.abandon()
                    self._data_over = True
                    return True
        except (ProtocolError, OSError):
            self._break_off()
            return True
        finally:
            # Paused only while objects flow: it must see releases, timeouts and its own end.
            self._association._reactor_checkpoint.set()
        return False

    def recv(self, nr_bytes: int) -> bytearray:
        """Exactly `nr_bytes` unless the peer closed; no more than a PDU may hold, no later than the timeout."""
        limit = max(_ASSOCIATION_PDU_LIMIT, self._receiver.settings.maximum_pdu_bytes)
        if nr_bytes > limit:
            raise OSError(errno.EMSGSIZE, "PDU longer than this receiver takes")
        deadline = time.monotonic() + self._receiver.settings.network_timeout
        while len(self._incoming) < nr_bytes and not self._peer_closed:
            if time.monotonic() > deadline:
                raise TimeoutError("PDU did not arrive in time")
            self._receive()
        taken = self._incoming[:nr_bytes]
        del self._incoming[:nr_bytes]
        return taken

    def close(self) -> None:
        self._stores.end()
        super().close()

    def _fill(self) -> bool:
        """Wait shortly for bytes; False when none came, or when pynetdicom has something to send."""
        if self._has_whole_pdu() or self._peer_closed:
            return True
        if self._association.dul.to_provider_queue.qsize():
            return False
        wait = _IDLE_WAIT if self._association.is_established and not self._data_over else 0.0
        pending = isinstance(self.socket, ssl.SSLSocket) and self.socket.pending()
        if not pending and not select.select([self.socket], [], [], wait)[0]:
            return False
        self._receive()
        return True

    def _receive(self) -> None:
        received = self.socket.recv(_RECEIVE_BYTES)
        if not isinstance(self.socket, ssl.SSLSocket):
            # Linux drops back to delayed acknowledgement by itself, so it is asked for anew after each read.
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        self._incoming += received
        self._peer_closed = not received

    def _has_whole_pdu(self) -> bool:
        if len(self._incoming) < 6:
            return False
        return len(self._incoming) >= 6 + int(struct.unpack_from(">I", self._incoming, 2)[0])

    def _take_pdu(self) -> bool:
        """Handle the P-DATA PDU at the front; False when the front is anything else, for pynetdicom to read."""
        if self._peer_closed and not self._has_whole_pdu():
            return False
        if len(self._incoming) < 6:
            return True
        kind, length = struct.unpack_from(">BxI", self._incoming)
        if kind != P_DATA_TF or not self._association.is_established:
            return False
        if length > self._receiver.settings.maximum_pdu_bytes:
            raise ProtocolError("P-DATA longer than negotiated")
        if len(self._incoming) < 6 + length:
            return True
        # The association's own loop has nothing to do while objects flow; paused, it leaves the processor to us.
        self._association._reactor_checkpoint.clear()
        self._association.dul._idle_timer.restart()
        with memoryview(self._incoming) as view, view[6 : 6 + length] as body:
            answers = self._stores.take(body)
        del self._incoming[: 6 + length]
        for answer in answers:
            self.socket.sendall(answer)
        return True

    def _break_off(self) -> None:
        """Abort the association; pynetdicom then finds the connection closed."""
        self._stores.abandon()
        self._incoming.clear()
        self._peer_closed = True
        with suppress(OSError):
            self.socket.sendall(_ABORT)


class _Stores:
    """The storage conversation of one association: commands in, objects into the spool, answers out."""

    def __init__(self, receiver: Receiver, association: Any) -> None:
        self._receiver, self._association = receiver, association
        self.name = uuid.uuid4().hex
        self._trace = AssociationSpan(self.name)
        self._command_set = CommandBuffer()
        self._command: Command | None = None
        self._arrival: Arrival | None = None
        self._refusal = SUCCESS

    def take(self, pdu: memoryview) -> list[bytes]:
        """Take the fragments of one PDU; the answers to send."""
        answers = []
        for fragment in fragments(pdu):
            answer = self._take_command(fragment) if fragment.is_command else self._take_data(fragment)
            if answer is not None:
                answers.append(answer)
        return answers

    def end(self) -> None:
        """The association is over."""
        self.abandon()
        self._trace.end()

    def abandon(self) -> None:
        """A half-received object leaves nothing behind."""
        if self._arrival is not None:
            self._arrival.discard()
            self._arrival = None

    def _take_command(self, fragment: Fragment) -> bytes | None:
        command = self._command_set.add(fragment)
        if command is None or command.field == C_CANCEL_RQ:
            return None
        if command.field == C_ECHO_RQ:
            return response(command, fragment.context_id, SUCCESS)
        if command.field != C_STORE_RQ or not command.has_data_set or self._command is not None:
            raise ProtocolError("a request this receiver has not negotiated")
        self._trace.begin()
        self._refusal = self._open(command, fragment.context_id)
        # A UID that is none is not sent back: other implementations fail to read the answer.
        self._command = command if is_valid_uid(command.sop_instance_uid) else replace(command, sop_instance_uid="")
        return None

    def _open(self, command: Command, context_id: int) -> int:
        """Prepare for the data set; the status to refuse it with, once it has been read past."""
        context = self._association._accepted_cx.get(context_id)
        if context is None:
            raise ProtocolError("a presentation context that was not accepted")
        if not (is_valid_uid(command.sop_instance_uid) and is_valid_uid(command.sop_class_uid)):
            return MISMATCH
        if not self._receiver.spool.has_room():
            return OUT_OF_RESOURCES
        syntax = str(context.transfer_syntax[0])
        try:
            self._arrival = self._receiver.spool.begin(command.sop_class_uid, command.sop_instance_uid, syntax)
        except OSError as error:
            return _out_of_resources(error)
        return SUCCESS

    def _take_data(self, fragment: Fragment) -> bytes | None:
        command = self._command
        if command is None:
            raise ProtocolError("a data set without a command")
        if self._arrival is not None:
            self._write(self._arrival, fragment.value)
        if not fragment.is_last:
            return None
        arrival, self._arrival, self._command = self._arrival, None, None
        status = self._refusal if arrival is None else self._store(arrival, command)
        return response(command, fragment.context_id, status)

    def _write(self, arrival: Arrival, value: memoryview) -> None:
        try:
            arrival.write(value)
            if arrival.size > self._receiver.settings.maximum_object_bytes:
                self._refusal = OUT_OF_RESOURCES
        except OSError as error:
            self._refusal = _out_of_resources(error)
        if self._refusal != SUCCESS:
            self.abandon()

    def _store(self, arrival: Arrival, command: Command) -> int:
        """Durable file, then the database row, then Success."""
        with arrival:
            try:
                return self._keep(arrival, command)
            except OSError as error:
                return _out_of_resources(error)
            except NotRecorded:
                return OUT_OF_RESOURCES

    def _keep(self, arrival: Arrival, command: Command) -> int:
        try:
            identifiers = arrival.identifiers()
        except Malformed:
            return self._quarantine(arrival, "malformed", CANNOT_UNDERSTAND)
        if identifiers.sop_instance_uid != command.sop_instance_uid:
            study_key = self._receiver.spool.key(identifiers.study_instance_uid)
            return self._quarantine(arrival, "sop-instance-mismatch", MISMATCH, study_key)
        kept = self._receiver.spool.keep(arrival, identifiers)
        if isinstance(kept, Conflict):
            self._receiver.on_quarantined(
                QuarantinedObject("conflicting-duplicate", kept.sha256, kept.path, self.name, kept.size, kept.study_key)
            )
            return CANNOT_UNDERSTAND
        spooled, duplicate = kept
        self._receiver.on_stored(
            ReceivedInstance(
                sop_key=spooled.sop_key,
                study_key=spooled.study_key,
                series_key=spooled.series_key,
                sha256=spooled.sha256,
                path=spooled.path,
                association=self.name,
                size=spooled.size,
                duplicate=duplicate,
                traceparent=self._trace.traceparent,
            )
        )
        self._trace.stored += 1
        return SUCCESS

    def _quarantine(self, arrival: Arrival, reason: str, status: int, study_key: str = "") -> int:
        path, sha256, size = self._receiver.spool.quarantine(arrival)
        self._receiver.on_quarantined(QuarantinedObject(reason, sha256, path, self.name, size, study_key))
        return status


def _hang_up(association: Any) -> None:
    """End a connection that has not become an association: the protocol has no abort for it."""
    connection = association.dul.socket.socket
    if connection is not None:
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)


def _out_of_resources(error: OSError) -> int:
    """A full disk asks the sender to come back; any other disk failure must not pass for one."""
    if error.errno in _NO_SPACE:
        return OUT_OF_RESOURCES
    raise error
