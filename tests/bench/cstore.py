"""Objects per second of our receiver against plain pynetdicom and dcmtk's storescp, interleaved in one run.

    python tests/bench/cstore.py [--objects 1000] [--associations 4] [--side 64] [--rounds 3]

The sender is dcmtk's storescu (apt-get install dcmtk), once as it comes (Nagle's algorithm on) and once with
TCP_NODELAY=1. Ours writes, fsyncs and links before Success; pynetdicom's handler writes the encoded data set without
fsync, as its documentation shows; storescp writes without fsync. Ratios are of medians over the rounds.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from pydicom import Dataset
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

OURS = """
import sys
from pathlib import Path
from dicom_ingest.receiver import Receiver, ReceiverSettings
settings = ReceiverSettings(spool=Path(sys.argv[1]), site_key=b"s" * 32, port=int(sys.argv[2]), reserve_bytes=1)
Receiver(settings, lambda _: None, lambda _: None).start()
sys.stdin.read()
"""
PYNETDICOM = """
import sys, uuid
from pathlib import Path
from pynetdicom import AE, AllStoragePresentationContexts, evt
folder = Path(sys.argv[1])
def handle(event):
    (folder / uuid.uuid4().hex).write_bytes(event.encoded_dataset())
    return 0
entity = AE("VBT")
entity.maximum_associations = 64
entity.supported_contexts = AllStoragePresentationContexts
entity.start_server(("127.0.0.1", int(sys.argv[2])), block=False, evt_handlers=[(evt.EVT_C_STORE, handle)])
sys.stdin.read()
"""


def main() -> None:
    options = _options()
    storescu = shutil.which("storescu")
    if storescu is None:
        sys.exit("dcmtk's storescu is not on PATH")
    receivers = ["ours", "pynetdicom", *(["storescp"] if shutil.which("storescp") else [])]
    with tempfile.TemporaryDirectory() as name:
        folders = _objects(Path(name), options.objects, options.associations, options.side)
        for no_delay in ("1", "0"):
            rates: dict[str, list[float]] = {receiver: [] for receiver in receivers}
            for number in range(options.rounds):
                for receiver in receivers:
                    spool = Path(name) / f"{receiver}{no_delay}{number}"
                    spool.mkdir()
                    with _running(receiver, spool) as port:
                        seconds = _send(storescu, port, folders, no_delay)
                    rates[receiver].append(options.objects / seconds)
            _print(rates, "TCP_NODELAY=1" if no_delay == "1" else "default (Nagle)")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    for option, default in (("objects", 1000), ("associations", 4), ("side", 64), ("rounds", 3)):
        parser.add_argument(f"--{option}", type=int, default=default)
    return parser.parse_args()


def _objects(root: Path, count: int, associations: int, side: int) -> list[Path]:
    folders = [root / f"send{part}" for part in range(associations)]
    for folder in folders:
        folder.mkdir()
    for number in range(count):
        meta = FileMetaDataset()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.4", f"1.2.3.{number}"
        image = FileDataset("", Dataset(), preamble=bytes(128), file_meta=meta)
        image.SOPClassUID, image.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
        image.StudyInstanceUID, image.SeriesInstanceUID, image.Modality = "1.2.4", "1.2.5", "MR"
        image.Rows = image.Columns = side
        image.PixelData = np.zeros((side, side), "<u2").tobytes()
        image.save_as(folders[number % associations] / f"{number}.dcm", enforce_file_format=True)
    return folders


@contextmanager
def _running(receiver: str, spool: Path) -> Iterator[int]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    program = {"ours": OURS, "pynetdicom": PYNETDICOM}.get(receiver)
    command = (
        ["storescp", "--fork", "-od", str(spool), str(port)]
        if program is None
        else [sys.executable, "-c", program, str(spool), str(port)]
    )
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        _wait(port)
        yield port
    finally:
        process.kill()
        process.wait()


def _wait(port: int) -> None:
    for _ in range(600):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise TimeoutError("the receiver did not start")


def _send(storescu: str, port: int, folders: list[Path], no_delay: str) -> float:
    start = time.perf_counter()
    senders = [
        subprocess.Popen(
            [storescu, "-aec", "VBT", "+sd", "127.0.0.1", str(port), str(folder)],
            env=os.environ | {"TCP_NODELAY": no_delay},
            stderr=subprocess.DEVNULL,
        )
        for folder in folders
    ]
    codes = [sender.wait() for sender in senders]
    if any(codes):
        raise RuntimeError(f"storescu failed: {codes}")
    return time.perf_counter() - start


def _print(rates: dict[str, list[float]], sender: str) -> None:
    medians = {receiver: statistics.median(values) for receiver, values in rates.items()}
    print(f"storescu {sender}")
    for receiver, values in rates.items():
        each = " ".join(f"{value:.0f}" for value in values)
        print(
            f"  {receiver:12} {medians[receiver]:7.0f} obj/s  ours x{medians['ours'] / medians[receiver]:.2f}  ({each})"
        )


if __name__ == "__main__":
    main()
