"""Artifacts on a directory and on S3: kept by content, checked on reading."""

from __future__ import annotations

import hashlib
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from vbt.errors import NotYet, Rejected
from vbt.platform.objects import Objects, S3Options


@pytest.fixture(scope="module")
def s3_endpoint() -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    endpoint = f"http://127.0.0.1:{port}"
    for _ in range(200):
        try:
            urllib.request.urlopen(f"{endpoint}/moto-api/", timeout=2).close()
            break
        except OSError:
            time.sleep(0.1)
    request = urllib.request.Request(f"{endpoint}/artifacts", method="PUT")
    urllib.request.urlopen(request, timeout=10).close()
    yield endpoint
    server.kill()
    server.wait()


@pytest.fixture(params=["file", "s3"])
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> Objects:
    if request.param == "file":
        return Objects((tmp_path / "objects with space").as_uri())
    endpoint = request.getfixturevalue("s3_endpoint")
    options = S3Options(endpoint=endpoint, region="us-east-1", access_key_id="test", secret_access_key="test")
    return Objects("s3://artifacts/vbt", options)


def test_what_is_put_comes_back(objects: Objects, tmp_path: Path) -> None:
    artifact = objects.put(b"weights", "application/octet-stream", "connectome.npz")
    assert objects.get(artifact) == b"weights"
    assert artifact.sha256 == hashlib.sha256(b"weights").hexdigest()
    assert artifact.uri == f"{objects.url}/{artifact.sha256}"
    assert objects.fetch(artifact, tmp_path).read_bytes() == b"weights"
    assert (tmp_path / "connectome.npz").is_file()


def test_a_large_file_is_kept_as_its_bytes_would_be(objects: Objects, tmp_path: Path) -> None:
    file = tmp_path / "t1.nii.gz"
    file.write_bytes(bytes(range(256)) * 30_000)
    from_file = objects.put(file, "application/gzip", "t1.nii.gz")
    assert from_file == objects.put(file.read_bytes(), "application/gzip", "t1.nii.gz")
    assert objects.get(from_file) == file.read_bytes()


def test_another_content_than_the_events_is_refused(objects: Objects) -> None:
    artifact = objects.put(b"weights", "application/octet-stream", "connectome.npz")
    for wrong in (replace(artifact, size=8), replace(artifact, size=6)):
        with pytest.raises(Rejected, match="size and SHA-256"):
            objects.get(wrong)


def test_a_missing_object_may_still_come(objects: Objects) -> None:
    artifact = objects.put(b"weights", "application/octet-stream", "connectome.npz")
    with pytest.raises(NotYet, match="no object of that digest"):
        objects.get(replace(artifact, sha256="0" * 64))


def test_a_corrupt_file_is_found_and_mended(tmp_path: Path) -> None:
    objects = Objects(tmp_path.as_uri())
    artifact = objects.put(b"weights", "application/octet-stream", "connectome.npz")
    (tmp_path / artifact.sha256).write_bytes(b"wEights")
    with pytest.raises(Rejected, match="other content"):
        objects.get(artifact)
    objects.put(b"weights", "application/octet-stream", "connectome.npz")
    assert objects.get(artifact) == b"weights"


def test_a_store_that_takes_nothing_is_not_yet(tmp_path: Path) -> None:
    objects = Objects((tmp_path / "objects").as_uri())
    (tmp_path / "objects").rmdir()
    (tmp_path / "objects").write_text("a file where the directory was")
    with pytest.raises(NotYet, match="object store"):
        objects.put(b"weights", "application/octet-stream", "connectome.npz")


def test_an_artifact_cannot_be_fetched_out_of_its_directory(tmp_path: Path) -> None:
    objects = Objects(tmp_path.as_uri())
    artifact = objects.put(b"weights", "application/octet-stream", "../connectome.npz")
    with pytest.raises(ValueError, match="plain file name"):
        objects.fetch(artifact, tmp_path)
