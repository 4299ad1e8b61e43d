"""The contracts on the wire: generated code matches, nothing released changes, nothing can name a patient."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor

ROOT = Path(__file__).resolve().parents[2]
PROTOS = ROOT / "protos"
MODULES = sorted(
    str(path.relative_to(PROTOS).with_suffix("")).replace("/", ".") + "_pb2" for path in PROTOS.rglob("*.proto")
)

# Every field that can carry text or bytes, reviewed: none of them is ever filled from the patient's identity.
# A new one fails the test below until somebody has thought about it and adds it here.
REVIEWED_FREE_TEXT = {
    "case_id", "request_id", "event_id", "name", "uri", "sha256", "media_type", "reason", "reasons", "protocol",
    "consent_basis", "parcellation", "code", "label", "limit", "stage", "rule", "got", "action", "message",
    "fhir_references", "methods", "leaf_hash", "canonical_json", "inclusion_proof", "checkpoint", "neural_mass",
    "variable", "record_json", "region_labels", "region_label", "parameter", "unit",
}  # fmt: skip
# The only fields that carry what the hospital sends, or what the ledger exports; they never travel on the bus.
REVIEWED_CONTENT = {"SubmitInstancesRequest.chunk", "AttachRecordingsRequest.chunk", "ExportBundleResponse.chunk"}


def buf(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).parent / "buf"
    return subprocess.run([program, *arguments], cwd=PROTOS, capture_output=True, text=True, check=False)


def messages(descriptor: Descriptor) -> Iterator[Descriptor]:
    yield descriptor
    for nested in descriptor.nested_types:
        yield from messages(nested)


def all_fields() -> Iterator[FieldDescriptor]:
    for module in MODULES:
        file = importlib.import_module(module).DESCRIPTOR
        for top in file.message_types_by_name.values():
            for message in messages(top):
                yield from message.fields


def test_committed_code_is_what_the_protos_generate(tmp_path: Path) -> None:
    subprocess.run(
        [PROTOS / "generate", tmp_path], check=True, env={"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}
    )
    fresh = {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    committed = {
        path.relative_to(ROOT / "libs"): path.read_bytes()
        for path in (ROOT / "libs/vbt/api").rglob("*_pb2*.py*")
        if "__pycache__" not in path.parts
    }
    assert fresh == committed


def test_protos_are_clean_in_buf_lint() -> None:
    result = buf("lint")
    assert (result.returncode, result.stdout) == (0, "")


def test_nothing_released_changes_number_type_or_disappears() -> None:
    result = buf("breaking", "--against", "released.binpb")
    assert (result.returncode, result.stdout) == (0, "")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("uint64 size_bytes = 4;", "uint64 size_bytes = 14;"),
        ("uint64 size_bytes = 4;", "string size_bytes = 4;"),
        ("uint64 size_bytes = 4;", ""),
    ],
    ids=["number", "type", "disappears"],
)
def test_the_guard_sees_a_broken_contract(tmp_path: Path, before: str, after: str) -> None:
    for source in [*PROTOS.rglob("*.proto"), PROTOS / "buf.yaml"]:
        target = tmp_path / source.relative_to(PROTOS)
        target.parent.mkdir(parents=True, exist_ok=True)
        text = source.read_text()
        target.write_text(text.replace(before, after) if source.name == "event.proto" else text)
    result = buf("breaking", str(tmp_path), "--against", "released.binpb")
    assert result.returncode == 100
    assert "size_bytes" in result.stdout


def test_no_field_could_identify_a_patient() -> None:
    unreviewed = {
        field.full_name
        for field in all_fields()
        if field.type in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES)
        and field.name not in REVIEWED_FREE_TEXT
        and f"{field.containing_type.name}.{field.name}" not in REVIEWED_CONTENT
    }
    assert not unreviewed
    words = {"patient", "mrn", "birth", "accession", "uid", "physician", "address", "sex", "institution", "identity"}
    assert not {field.full_name for field in all_fields() if words & set(field.name.split("_"))}
