"""Artifacts are kept by what they contain: the SHA-256 of an object is its name, and every reading checks it."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, ObjectStore, S3Store

from vbt.errors import NotYet, Rejected

_CHUNK = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """Where a result's bytes are and how to recognise them; this, not the bytes, travels on the bus.

    Parameters
    ----------
    name : what it is within its stage, e.g. ``"connectome.npz"``; never derived from the patient
    size : bytes
    """

    name: str
    uri: str
    sha256: str
    size: int
    media_type: str


@dataclass(frozen=True, kw_only=True)
class S3Options:
    """How to reach an S3 that is not AWS, or not with the credentials of the environment."""

    endpoint: str = ""
    region: str = ""
    access_key_id: str = ""
    secret_access_key: str = ""


class Objects:
    """A content-addressed store on a directory or on S3.

    Parameters
    ----------
    url : ``file:///var/lib/vbt/objects`` or ``s3://bucket/prefix``
    s3 : for S3 only; what is left empty comes from AWS's usual environment
    """

    def __init__(self, url: str, s3: S3Options | None = None) -> None:
        self.url = url.rstrip("/")
        parts = urlsplit(url)
        self._directory: Path | None = None
        self._store: ObjectStore
        if parts.scheme == "file" and not parts.netloc:
            self._directory = Path(unquote(parts.path))
            self._directory.mkdir(parents=True, exist_ok=True)
            self._store = LocalStore(self._directory, automatic_cleanup=True)
        elif parts.scheme == "s3" and parts.netloc:
            self._store = _open_s3(parts.netloc, parts.path.strip("/"), s3 or S3Options())
        else:
            raise ValueError("the object store is file:///DIRECTORY or s3://BUCKET/PREFIX")

    @property
    def store(self) -> ObjectStore:
        """The store itself, for what is kept by another name than its digest."""
        return self._store

    def flush(self, name: str) -> None:
        """Let what was put under a name survive a loss of power."""
        if self._directory is not None:
            _flush(self._directory / name)

    def put(self, content: bytes | Path, media_type: str, name: str) -> Artifact:
        """Keep the bytes, or the file, durably; on return they survive a loss of power. The same bytes are kept once.

        Raises
        ------
        NotYet : the store is out of reach or full
        """
        sha256, size = _measure(content)
        try:
            # A local file is written again even if it is there: a crash before its fsync may have left it hollow.
            if self._directory is not None or not self._has(sha256, size):
                obstore.put(self._store, sha256, content)
            self.flush(sha256)
        except (BaseError, OSError) as error:
            raise _unreachable() from error
        return Artifact(name=name, uri=f"{self.url}/{sha256}", sha256=sha256, size=size, media_type=media_type)

    def get(self, artifact: Artifact) -> bytes:
        """The artifact's bytes, checked against its digest.

        Raises
        ------
        Rejected : ``artifact-corrupt``
        NotYet : the object is not there, or the store is out of reach
        """
        content = self._read(artifact)
        if (hashlib.sha256(content).hexdigest(), len(content)) != (artifact.sha256, artifact.size):
            raise Rejected(
                "artifact-corrupt",
                rule="an artifact has the size and SHA-256 that its event names",
                got=f"{len(content)} bytes of other content instead of {artifact.size} bytes",
                action="restore the object store from its backup and replay the case",
            )
        return content

    def fetch(self, artifact: Artifact, directory: Path) -> Path:
        """The artifact, checked, as a file of its own name in ``directory``, for libraries that want a path."""
        if Path(artifact.name).name != artifact.name:
            raise ValueError("an artifact's name is a plain file name")
        path = directory / artifact.name
        path.write_bytes(self.get(artifact))
        return path

    def remove(self, sha256: str) -> bool:
        """Destroy the object of this digest; False where there is none. A store that keeps versions keeps this one too.

        Raises
        ------
        NotYet : the store is out of reach
        """
        try:
            obstore.head(self._store, sha256)
            obstore.delete(self._store, sha256)
        except FileNotFoundError:
            return False
        except (BaseError, OSError) as error:
            raise _unreachable() from error
        return True

    def _read(self, artifact: Artifact) -> bytes:
        try:
            return bytes(obstore.get(self._store, artifact.sha256).bytes())
        except FileNotFoundError as error:
            raise NotYet(
                "artifact-missing",
                rule="an artifact is in the object store before its event is sent",
                got="no object of that digest",
                action="check that all services use the same object store",
            ) from error
        except (BaseError, OSError) as error:
            raise _unreachable() from error

    def _has(self, sha256: str, size: int) -> bool:
        try:
            return obstore.head(self._store, sha256)["size"] == size
        except FileNotFoundError:
            return False


def _open_s3(bucket: str, prefix: str, options: S3Options) -> S3Store:
    config = {
        "aws_endpoint": options.endpoint,
        "aws_region": options.region,
        "aws_access_key_id": options.access_key_id,
        "aws_secret_access_key": options.secret_access_key,
    }
    return S3Store(
        bucket,
        prefix=prefix or None,
        config={name: value for name, value in config.items() if value},  # type: ignore[arg-type]
        client_options={"allow_http": options.endpoint.startswith("http://")},
        retry_config={"max_retries": 3, "retry_timeout": timedelta(seconds=30)},
    )


def _measure(content: bytes | Path) -> tuple[str, int]:
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest(), len(content)
    digest, size = hashlib.sha256(), 0
    with content.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
    return digest.hexdigest(), size


def _flush(path: Path) -> None:
    """What obstore's LocalStore leaves out: it renames into place without an fsync of the file or of the directory."""
    for place in (path, path.parent):
        descriptor = os.open(place, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _unreachable() -> NotYet:
    return NotYet(
        "objects-unreachable",
        rule="the object store must take and give artifacts",
        got="no answer, no access or no space",
        action="check the object store; the step is tried again",
    )
