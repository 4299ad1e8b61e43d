"""Real associations on loopback: what is acknowledged is on the disk, and nothing a peer sends can harm."""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pydicom import Dataset, dcmread
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.dsutils import encode
from pynetdicom.pdu_primitives import A_ASSOCIATE

from dicom_ingest.dimse import _element, _uid
from dicom_ingest.receiver import (
    NotRecorded,
    QuarantinedObject,
    ReceivedInstance,
    Receiver,
    ReceiverSettings,
)
from dicom_ingest.sender import send_study
from dicom_ingest.spool import Spool, is_valid_uid
from vbt.errors import NotYet
from vbt.platform.dicom_association import associate as requested

MR, VERIFICATION = "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.1.1"
SITE_KEY = b"s" * 32


def image(number: int, side: int = 16, study: str = "1.2.3", uid: str | None = None, **more: Any) -> FileDataset:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = MR, uid or f"1.2.3.9.{number}"
    made = FileDataset("", Dataset(), preamble=b"polyglot".ljust(128, b"!"), file_meta=meta)
    made.SOPClassUID, made.SOPInstanceUID = MR, meta.MediaStorageSOPInstanceUID
    made.StudyInstanceUID, made.SeriesInstanceUID = study, f"{study}.1"
    made.PatientName, made.Modality = "Canary^Tweety", "MR"
    made.Rows = made.Columns = side
    made.BitsAllocated = made.BitsStored = 16
    made.HighBit, made.PixelRepresentation, made.SamplesPerPixel = 15, 0, 1
    made.PixelData = np.random.default_rng(number).integers(0, 4096, (side, side), dtype="<u2").tobytes()
    for keyword, value in more.items():
        setattr(made, keyword, value)
    return made


class Ledger:
    """The database's part: remembers what was recorded, and can be down."""

    def __init__(self) -> None:
        self.stored: list[ReceivedInstance] = []
        self.quarantined: list[QuarantinedObject] = []
        self.down = False

    def on_stored(self, instance: ReceivedInstance) -> None:
        if self.down:
            raise NotRecorded
        self.stored.append(instance)


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


@pytest.fixture
def receiver_with(tmp_path: Path, ledger: Ledger) -> Iterator[Callable[..., Receiver]]:
    running: list[Receiver] = []

    def start(**settings: Any) -> Receiver:
        defaults: dict[str, Any] = {"spool": tmp_path / "spool", "site_key": SITE_KEY, "port": 0, "reserve_bytes": 1}
        receiver = Receiver(ReceiverSettings(**(defaults | settings)), ledger.on_stored, ledger.quarantined.append)
        receiver.start()
        running.append(receiver)
        return receiver

    yield start
    for receiver in running:
        receiver.stop()


@pytest.fixture
def receiver(receiver_with: Callable[..., Receiver]) -> Receiver:
    return receiver_with()


def associate(receiver: Receiver, calling: str = "MODALITY", called: str = "VBT", maximum_pdu: int = 16382) -> Any:
    entity = AE(calling)
    entity.add_requested_context(MR, [ExplicitVRLittleEndian])
    entity.add_requested_context(MR, [ImplicitVRLittleEndian])
    entity.add_requested_context(VERIFICATION)
    entity.maximum_pdu_size = maximum_pdu
    return requested(entity, ("127.0.0.1", receiver.port), ae_title=called)


def send(association: Any, *images: FileDataset) -> list[int]:
    return [int(association.send_c_store(made).get("Status", -1)) for made in images]


def visible(receiver: Receiver) -> list[Path]:
    root = receiver.settings.spool
    return [path for path in root.rglob("*") if path.is_file() and path.parent != root / "quarantine"]


def test_acknowledged_objects_are_whole_files_on_disk(receiver: Receiver, ledger: Ledger) -> None:
    association = associate(receiver)
    images = [image(n) for n in range(20)]
    assert send(association, *images) == [0] * 20
    association.release()
    for made, stored in zip(images, ledger.stored, strict=True):
        read = dcmread(stored.path)
        assert read.PixelData == made.PixelData
        assert read.preamble == bytes(128)
        assert hashlib.sha256(stored.path.read_bytes()).hexdigest() == stored.sha256
        assert stored.path.stat().st_size == stored.size
    assert len({stored.study_key for stored in ledger.stored}) == 1
    assert len({stored.sop_key for stored in ledger.stored}) == 20


def test_names_on_disk_say_nothing_of_the_uids(receiver: Receiver) -> None:
    association = associate(receiver)
    send(association, image(1))
    association.release()
    assert all("1.2.3" not in str(path.relative_to(receiver.settings.spool)) for path in visible(receiver))


def test_echo_is_answered(receiver: Receiver) -> None:
    association = associate(receiver)
    assert association.send_c_echo().Status == 0
    assert send(association, image(1)) == [0]
    assert association.send_c_echo().Status == 0
    association.release()


def test_implicit_vr_and_large_objects_arrive(receiver: Receiver, ledger: Ledger) -> None:
    association = associate(receiver)
    made = image(1, side=1024)
    made.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    assert send(association, made) == [0]
    association.release()
    read = dcmread(ledger.stored[0].path)
    assert read.file_meta.TransferSyntaxUID == ImplicitVRLittleEndian
    assert read.PixelData == made.PixelData


def test_same_bytes_again_are_success_and_nothing_new(receiver: Receiver, ledger: Ledger) -> None:
    for _ in range(2):
        association = associate(receiver)
        assert send(association, image(1)) == [0]
        association.release()
    assert [stored.duplicate for stored in ledger.stored] == [False, True]
    assert len(visible(receiver)) == 1


def test_other_bytes_under_one_uid_are_quarantined(receiver: Receiver, ledger: Ledger) -> None:
    association = associate(receiver)
    other = image(2, uid="1.2.3.9.1")
    statuses = send(association, image(1), other, image(3))
    association.release()
    assert [statuses[0], statuses[2]] == [0, 0]
    assert statuses[1] >> 12 == 0xC
    assert [thing.reason for thing in ledger.quarantined] == ["conflicting-duplicate"]
    assert ledger.quarantined[0].study_key == ledger.stored[0].study_key
    assert dcmread(ledger.stored[0].path).PixelData == image(1).PixelData
    assert dcmread(ledger.quarantined[0].path).PixelData == other.PixelData


def test_object_whose_uids_disagree_is_quarantined(receiver: Receiver, ledger: Ledger) -> None:
    association = associate(receiver)
    made = image(1)
    made.file_meta.MediaStorageSOPInstanceUID = "1.2.3.9.77"
    received = raw_store(association, "1.2.3.9.77", encoded(made))
    association.release()
    assert received == 0xA900
    assert [thing.reason for thing in ledger.quarantined] == ["sop-instance-mismatch"]
    assert ledger.quarantined[0].study_key == receiver.spool.key(made.StudyInstanceUID)


def encoded(made: Dataset) -> bytes:
    data = encode(made, False, True)
    assert data is not None
    return data


def raw_store(association: Any, uid: str, data: bytes) -> int:
    """A C-STORE of arbitrary bytes, as a broken or hostile modality would send it."""
    context = next(cx for cx in association.accepted_contexts if cx.abstract_syntax == MR)
    fields = {
        0x0002: _uid(MR), 0x0100: b"\x01\x00", 0x0110: b"\x07\x00", 0x0700: b"\0\0", 0x0800: b"\x01\x00",
        0x1000: _uid(uid),
    }  # fmt: skip
    body = b"".join(_element(element, value) for element, value in fields.items())
    command = _element(0x0000, struct.pack("<I", len(body))) + body
    connection = association.dul.socket.socket
    association._reactor_checkpoint.clear()
    for value, control in ((command, 3), (data, 2)):
        for start in range(0, len(value) or 1, 60_000):
            piece = value[start : start + 60_000]
            last = control if start + 60_000 >= len(value) else control & 1
            pdv = struct.pack(">IBB", len(piece) + 2, context.context_id, last) + piece
            connection.sendall(struct.pack(">BBI", 4, 0, len(pdv)) + pdv)
    _, answer = association.dimse.get_msg(block=True)
    association._reactor_checkpoint.set()
    return int(answer.Status)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not a data set at all" * 10,
        b"\x08\x00\x18\x00UI\xff\xff1.2.3",
        b"\x08\x00\x15\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff" * 10_000,
        b"\x08\x00\x08\x00UT\0\0\xf0\xff\xff\xff" + b"x" * 100,
        bytes(5000),
    ],
    ids=["empty", "text", "cut", "sequence bomb", "huge length", "zeros"],
)
def test_malformed_object_is_quarantined_and_the_association_goes_on(
    receiver: Receiver, ledger: Ledger, data: bytes
) -> None:
    association = associate(receiver)
    assert raw_store(association, "1.2.3.9.5", data) == 0xC000
    assert [thing.reason for thing in ledger.quarantined] == ["malformed"]
    assert send(association, image(1)) == [0]
    association.release()


def test_a_truncated_image_is_refused_and_its_whole_copy_is_taken(receiver: Receiver, ledger: Ledger) -> None:
    association = associate(receiver)
    whole = encoded(image(1))
    assert raw_store(association, "1.2.3.9.1", whole[:-200]) == 0xC000
    assert send(association, image(1)) == [0]
    association.release()
    assert [thing.reason for thing in ledger.quarantined] == ["malformed"]
    assert [dcmread(stored.path).PixelData for stored in ledger.stored] == [image(1).PixelData]


@pytest.mark.parametrize(
    "uid",
    ["../../evil", "/etc/passwd", "1.2.3\x00.dcm", "1." * 33 + "1", "1..2", "", "1.2.3 ;rm", "1.2.3\n4", "..", "~"],
)
def test_hostile_uid_is_refused_and_writes_nothing(receiver: Receiver, ledger: Ledger, uid: str) -> None:
    association = associate(receiver)
    assert not is_valid_uid(uid)
    assert raw_store(association, uid, encoded(image(1))) == 0xA900
    assert send(association, image(2)) == [0]
    association.release()
    assert len(visible(receiver)) == 1
    assert not ledger.quarantined
    assert not list(receiver.settings.spool.parent.glob("*evil*"))


def test_database_down_asks_the_sender_to_come_back(receiver: Receiver, ledger: Ledger) -> None:
    ledger.down = True
    association = associate(receiver)
    assert send(association, image(1)) == [0xA700]
    ledger.down = False
    assert send(association, image(1)) == [0]
    association.release()
    assert len(ledger.stored) == 1


def test_full_disk_asks_the_sender_to_come_back(receiver_with: Callable[..., Receiver], ledger: Ledger) -> None:
    receiver = receiver_with(reserve_bytes=1 << 62)
    association = associate(receiver)
    assert send(association, image(1)) == [0xA700]
    association.release()
    assert visible(receiver) == []
    assert ledger.stored == []


def test_object_over_the_size_limit_is_refused_without_a_trace(receiver_with: Callable[..., Receiver]) -> None:
    receiver = receiver_with(maximum_object_bytes=100_000)
    association = associate(receiver)
    assert send(association, image(1, side=512), image(2)) == [0xA700, 0]
    association.release()
    assert len(visible(receiver)) == 1


def test_association_cut_mid_object_leaves_nothing(receiver: Receiver) -> None:
    association = associate(receiver)
    assert send(association, image(1)) == [0]
    connection = association.dul.socket.socket
    context = association.accepted_contexts[0]
    fields = {0x0002: _uid(MR), 0x0100: b"\x01\x00", 0x0110: b"\x07\x00", 0x0800: b"\x01\x00", 0x1000: _uid("1.2.9")}
    command = b"".join(_element(element, value) for element, value in fields.items())
    for value, control in ((command, 3), (b"x" * 5000, 0)):
        pdv = struct.pack(">IBB", len(value) + 2, context.context_id, control) + value
        connection.sendall(struct.pack(">BBI", 4, 0, len(pdv)) + pdv)
    time.sleep(0.2)
    connection.close()
    association.abort()
    deadline = time.monotonic() + 5
    while len(visible(receiver)) > 1 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(visible(receiver)) == 1


def test_unknown_calling_ae_title_is_rejected(receiver_with: Callable[..., Receiver]) -> None:
    receiver = receiver_with(allowed_calling_ae_titles=("MODALITY",), require_called_ae_title=True)
    assert associate(receiver, calling="STRANGER").is_rejected
    assert associate(receiver, called="OTHER").is_rejected
    association = associate(receiver)
    assert association.is_established
    association.release()


def test_one_association_too_many_is_told_to_come_back(receiver_with: Callable[..., Receiver]) -> None:
    receiver = receiver_with(maximum_associations=2)
    held = [associate(receiver) for _ in range(2)]
    primitives: list[A_ASSOCIATE] = []
    entity = AE("MODALITY")
    entity.add_requested_context(VERIFICATION)
    late = entity.associate(
        "127.0.0.1",
        receiver.port,
        evt_handlers=[(evt.EVT_ACSE_RECV, lambda event: primitives.append(event.primitive))],
    )
    assert late.is_rejected
    # rejected-transient, presentation related, local limit exceeded
    assert (primitives[0].result, primitives[0].result_source, primitives[0].diagnostic) == (2, 3, 2)
    for association in held:
        association.release()


def test_deflated_transfer_syntax_is_not_accepted(receiver: Receiver) -> None:
    entity = AE("MODALITY")
    entity.add_requested_context(MR, ["1.2.840.10008.1.2.1.99"])
    assert not entity.associate("127.0.0.1", receiver.port).is_established


def test_claim_of_a_huge_pdu_is_cut_off_at_once(receiver: Receiver) -> None:
    with socket.create_connection(("127.0.0.1", receiver.port), timeout=5) as connection:
        connection.sendall(struct.pack(">BBI", 1, 0, 2 << 30))
        with pytest.raises(OSError):
            connection.sendall(bytes(64 << 20))
    association = associate(receiver)
    assert send(association, image(1)) == [0]
    association.release()


def test_silent_peer_does_not_hold_up_others(receiver: Receiver) -> None:
    with socket.create_connection(("127.0.0.1", receiver.port)) as silent:
        silent.sendall(b"\x01\x00")
        association = associate(receiver)
        assert send(association, image(1)) == [0]
        association.release()


def _certificate(folder: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return folder / "cert.pem", folder / "key.pem"


def test_objects_arrive_over_tls(tmp_path: Path, ledger: Ledger) -> None:
    certificate, key = _certificate(tmp_path)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate, key)
    settings = ReceiverSettings(spool=tmp_path / "spool", site_key=SITE_KEY, port=0, reserve_bytes=1)
    with Receiver(settings, ledger.on_stored, ledger.quarantined.append, ssl_context=server) as receiver:
        entity = AE("MODALITY")
        entity.add_requested_context(MR, [ExplicitVRLittleEndian])
        client = ssl.create_default_context(cafile=str(certificate))
        association = entity.associate("127.0.0.1", receiver.port, tls_args=(client, "localhost"))
        assert send(association, *(image(n, side=256) for n in range(5))) == [0] * 5
        association.release()
        assert not associate(receiver).is_established
    assert len(ledger.stored) == 5


def test_parallel_associations_share_one_study(receiver: Receiver, ledger: Ledger) -> None:
    def one(part: int) -> None:
        association = associate(receiver)
        send(association, *(image(n) for n in range(part * 10, part * 10 + 15)))
        association.release()

    threads = [threading.Thread(target=one, args=(part,)) for part in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({stored.sop_key for stored in ledger.stored}) == 45
    assert sum(not stored.duplicate for stored in ledger.stored) == 45
    assert not ledger.quarantined


def test_spool_lists_its_objects_and_sweeps_leftovers(receiver: Receiver, ledger: Ledger) -> None:
    association = associate(receiver)
    send(association, *(image(n) for n in range(3)))
    association.release()
    spool = Spool(receiver.settings.spool, SITE_KEY)
    (receiver.settings.spool / ".tmp" / "left").write_bytes(b"half")
    assert spool.sweep() == 1
    facts = {(o.sop_key, o.study_key, o.series_key, o.sha256, o.size) for o in spool.objects()}
    assert facts == {(s.sop_key, s.study_key, s.series_key, s.sha256, s.size) for s in ledger.stored}


def test_sender_sends_folders_and_reports_what_is_no_dicom(receiver: Receiver, ledger: Ledger, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    folder.mkdir()
    for n in range(12):
        image(n).save_as(folder / f"{n}.dcm", enforce_file_format=True)
    (folder / "notes.txt").write_text("hello")
    (folder / "cut.dcm").write_bytes((folder / "0.dcm").read_bytes()[:140])
    fractions: list[float] = []
    report = send_study([folder], "127.0.0.1", receiver.port, progress=lambda _, fraction: fractions.append(fraction))
    assert (report.sent, len(report.failed), len(report.skipped)) == (12, 0, 2)
    assert fractions[-1] == 1.0
    assert len(ledger.stored) == 12


def test_sender_does_not_repeat_what_was_refused_for_good(receiver: Receiver, ledger: Ledger, tmp_path: Path) -> None:
    image(1).save_as(tmp_path / "1.dcm", enforce_file_format=True)
    image(2).save_as(tmp_path / "2.dcm", enforce_file_format=True)
    whole = (tmp_path / "1.dcm").read_bytes()
    (tmp_path / "1.dcm").write_bytes(whole[:-100])
    report = send_study([tmp_path], "127.0.0.1", receiver.port)
    assert (report.sent, [path.name for path in report.failed]) == (1, ["1.dcm"])
    assert len(ledger.quarantined) == 1


def test_an_answer_reaches_its_request_also_when_threads_are_held_up(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a busy machine pynetdicom's own thread is preempted just where it could take the sender's next answer."""
    on_time = threading.Event.wait

    def late(event: threading.Event, timeout: float | None = None) -> bool:
        happened = on_time(event, timeout)
        if isinstance(threading.current_thread(), Association):
            time.sleep(0.003)
        return happened

    monkeypatch.setattr(threading.Event, "wait", late)
    association = associate(receiver)
    association.dimse_timeout = 3.0
    assert send(association, *(image(n) for n in range(100))) == [0] * 100
    association.release()


def test_sender_says_when_nobody_listens(tmp_path: Path) -> None:
    image(1).save_as(tmp_path / "1.dcm", enforce_file_format=True)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(NotYet) as caught:
            send_study([tmp_path], "127.0.0.1", unused.getsockname()[1], tries=1)
    assert caught.value.code == "receiver-unreachable"


@pytest.mark.parametrize("no_delay", ["0", "1"], ids=["Nagle", "TCP_NODELAY"])
def test_dcmtk_storescu_is_served(receiver: Receiver, ledger: Ledger, tmp_path: Path, no_delay: str) -> None:
    storescu = dcmtk("storescu")
    if storescu is None:
        pytest.skip("dcmtk's storescu is not on PATH")
    folder = tmp_path / "study"
    folder.mkdir()
    for n in range(10):
        image(n).save_as(folder / f"{n}.dcm", enforce_file_format=True)
    subprocess.run(
        [storescu, "+sd", "127.0.0.1", str(receiver.port), str(folder)],
        check=True,
        timeout=60,
        env=os.environ | {"TCP_NODELAY": no_delay},
    )
    assert len(ledger.stored) == 10


_CHILD = """
import sys
from pathlib import Path
from dicom_ingest.receiver import Receiver, ReceiverSettings
receiver = Receiver(
    ReceiverSettings(spool=Path(sys.argv[1]), site_key=b"s" * 32, port=0, reserve_bytes=1),
    lambda _: None,
    lambda _: None,
)
receiver.start()
print(receiver.port, flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("after", [0, 7, 23])
def test_kill_9_loses_no_acknowledged_object(tmp_path: Path, after: int) -> None:
    root = tmp_path / "spool"
    child = subprocess.Popen(
        [sys.executable, "-c", _CHILD, str(root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    entity = AE("MODALITY")
    entity.add_requested_context(MR, [ExplicitVRLittleEndian])
    association = requested(entity, ("127.0.0.1", int(child.stdout.readline())))
    assert association.is_established
    acknowledged: list[int] = []

    def stream() -> None:
        for number in range(1000):
            if not association.is_established:
                return
            status = association.send_c_store(image(number, side=64))
            if status.get("Status") != 0:
                return
            acknowledged.append(number)

    thread = threading.Thread(target=stream)
    thread.start()
    while len(acknowledged) < after and thread.is_alive():
        time.sleep(0.001)
    child.send_signal(signal.SIGKILL)
    child.wait()
    thread.join()
    spool = Spool(root, SITE_KEY)
    found = {stored.sop_key: stored for stored in spool.objects()}
    for number in acknowledged:
        stored = found[spool.key(f"1.2.3.9.{number}")]
        assert dcmread(stored.path).PixelData == image(number, side=64).PixelData
    # what is visible is whole, acknowledged or not
    assert len(found) - len(acknowledged) in (0, 1)
    assert len(acknowledged) >= after


def dcmtk(program: str) -> Path | None:
    """dcmtk's program; pynetdicom installs another one of the same name, often earlier on PATH."""
    for directory in os.environ["PATH"].split(os.pathsep):
        path = Path(directory) / program
        if path.is_file() and b"dcmtk" in subprocess.run([path, "--version"], capture_output=True, check=False).stdout:
            return path
    return None
