from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SeriesRole(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SERIES_ROLE_UNSPECIFIED: _ClassVar[SeriesRole]
    SERIES_ROLE_DIFFUSION: _ClassVar[SeriesRole]
    SERIES_ROLE_T1: _ClassVar[SeriesRole]
    SERIES_ROLE_FMRI: _ClassVar[SeriesRole]
    SERIES_ROLE_OTHER: _ClassVar[SeriesRole]

class RecordingKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RECORDING_KIND_UNSPECIFIED: _ClassVar[RecordingKind]
    RECORDING_KIND_SEEG: _ClassVar[RecordingKind]
    RECORDING_KIND_EEG: _ClassVar[RecordingKind]
    RECORDING_KIND_MEG: _ClassVar[RecordingKind]
    RECORDING_KIND_LESIONS: _ClassVar[RecordingKind]
    RECORDING_KIND_RESECTION: _ClassVar[RecordingKind]

class Verdict(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    VERDICT_UNSPECIFIED: _ClassVar[Verdict]
    VERDICT_SOUND: _ClassVar[Verdict]
    VERDICT_UNSOUND: _ClassVar[Verdict]
    VERDICT_REVIEW: _ClassVar[Verdict]

class WriteTier(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    WRITE_TIER_UNSPECIFIED: _ClassVar[WriteTier]
    WRITE_TIER_TRANSACTION: _ClassVar[WriteTier]
    WRITE_TIER_INDIVIDUAL: _ClassVar[WriteTier]
    WRITE_TIER_DOCUMENT: _ClassVar[WriteTier]
    WRITE_TIER_FILE: _ClassVar[WriteTier]
    WRITE_TIER_FOUND: _ClassVar[WriteTier]
    WRITE_TIER_NOT_TAKEN: _ClassVar[WriteTier]

class StopKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STOP_KIND_UNSPECIFIED: _ClassVar[StopKind]
    STOP_KIND_REJECTED: _ClassVar[StopKind]
    STOP_KIND_UNSOUND: _ClassVar[StopKind]
    STOP_KIND_CONSENT: _ClassVar[StopKind]
    STOP_KIND_CANCELLED: _ClassVar[StopKind]
SERIES_ROLE_UNSPECIFIED: SeriesRole
SERIES_ROLE_DIFFUSION: SeriesRole
SERIES_ROLE_T1: SeriesRole
SERIES_ROLE_FMRI: SeriesRole
SERIES_ROLE_OTHER: SeriesRole
RECORDING_KIND_UNSPECIFIED: RecordingKind
RECORDING_KIND_SEEG: RecordingKind
RECORDING_KIND_EEG: RecordingKind
RECORDING_KIND_MEG: RecordingKind
RECORDING_KIND_LESIONS: RecordingKind
RECORDING_KIND_RESECTION: RecordingKind
VERDICT_UNSPECIFIED: Verdict
VERDICT_SOUND: Verdict
VERDICT_UNSOUND: Verdict
VERDICT_REVIEW: Verdict
WRITE_TIER_UNSPECIFIED: WriteTier
WRITE_TIER_TRANSACTION: WriteTier
WRITE_TIER_INDIVIDUAL: WriteTier
WRITE_TIER_DOCUMENT: WriteTier
WRITE_TIER_FILE: WriteTier
WRITE_TIER_FOUND: WriteTier
WRITE_TIER_NOT_TAKEN: WriteTier
STOP_KIND_UNSPECIFIED: StopKind
STOP_KIND_REJECTED: StopKind
STOP_KIND_UNSOUND: StopKind
STOP_KIND_CONSENT: StopKind
STOP_KIND_CANCELLED: StopKind

class Artifact(_message.Message):
    __slots__ = ("name", "uri", "sha256", "size_bytes", "media_type")
    NAME_FIELD_NUMBER: _ClassVar[int]
    URI_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    MEDIA_TYPE_FIELD_NUMBER: _ClassVar[int]
    name: str
    uri: str
    sha256: str
    size_bytes: int
    media_type: str
    def __init__(self, name: _Optional[str] = ..., uri: _Optional[str] = ..., sha256: _Optional[str] = ..., size_bytes: _Optional[int] = ..., media_type: _Optional[str] = ...) -> None: ...

class Series(_message.Message):
    __slots__ = ("role", "instance_count", "used", "reason")
    ROLE_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_COUNT_FIELD_NUMBER: _ClassVar[int]
    USED_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    role: SeriesRole
    instance_count: int
    used: bool
    reason: str
    def __init__(self, role: _Optional[_Union[SeriesRole, str]] = ..., instance_count: _Optional[int] = ..., used: _Optional[bool] = ..., reason: _Optional[str] = ...) -> None: ...

class StudyReceived(_message.Message):
    __slots__ = ("case_id", "revision", "protocol", "instance_count")
    CASE_ID_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_COUNT_FIELD_NUMBER: _ClassVar[int]
    case_id: str
    revision: int
    protocol: str
    instance_count: int
    def __init__(self, case_id: _Optional[str] = ..., revision: _Optional[int] = ..., protocol: _Optional[str] = ..., instance_count: _Optional[int] = ...) -> None: ...

class StudyIngested(_message.Message):
    __slots__ = ("case_id", "revision", "protocol", "consent_basis", "series", "diffusion", "gradients", "t1", "fmri", "repetition_time_s", "deidentified_instances", "recordings")
    CASE_ID_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    CONSENT_BASIS_FIELD_NUMBER: _ClassVar[int]
    SERIES_FIELD_NUMBER: _ClassVar[int]
    DIFFUSION_FIELD_NUMBER: _ClassVar[int]
    GRADIENTS_FIELD_NUMBER: _ClassVar[int]
    T1_FIELD_NUMBER: _ClassVar[int]
    FMRI_FIELD_NUMBER: _ClassVar[int]
    REPETITION_TIME_S_FIELD_NUMBER: _ClassVar[int]
    DEIDENTIFIED_INSTANCES_FIELD_NUMBER: _ClassVar[int]
    RECORDINGS_FIELD_NUMBER: _ClassVar[int]
    case_id: str
    revision: int
    protocol: str
    consent_basis: str
    series: _containers.RepeatedCompositeFieldContainer[Series]
    diffusion: Artifact
    gradients: Artifact
    t1: Artifact
    fmri: Artifact
    repetition_time_s: float
    deidentified_instances: Artifact
    recordings: _containers.RepeatedCompositeFieldContainer[Recording]
    def __init__(self, case_id: _Optional[str] = ..., revision: _Optional[int] = ..., protocol: _Optional[str] = ..., consent_basis: _Optional[str] = ..., series: _Optional[_Iterable[_Union[Series, _Mapping]]] = ..., diffusion: _Optional[_Union[Artifact, _Mapping]] = ..., gradients: _Optional[_Union[Artifact, _Mapping]] = ..., t1: _Optional[_Union[Artifact, _Mapping]] = ..., fmri: _Optional[_Union[Artifact, _Mapping]] = ..., repetition_time_s: _Optional[float] = ..., deidentified_instances: _Optional[_Union[Artifact, _Mapping]] = ..., recordings: _Optional[_Iterable[_Union[Recording, _Mapping]]] = ...) -> None: ...

class Recording(_message.Message):
    __slots__ = ("kind", "content")
    KIND_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    kind: RecordingKind
    content: Artifact
    def __init__(self, kind: _Optional[_Union[RecordingKind, str]] = ..., content: _Optional[_Union[Artifact, _Mapping]] = ...) -> None: ...

class RecordingAttached(_message.Message):
    __slots__ = ("case_id", "revision", "protocol", "consent_basis", "recordings")
    CASE_ID_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    CONSENT_BASIS_FIELD_NUMBER: _ClassVar[int]
    RECORDINGS_FIELD_NUMBER: _ClassVar[int]
    case_id: str
    revision: int
    protocol: str
    consent_basis: str
    recordings: _containers.RepeatedCompositeFieldContainer[Recording]
    def __init__(self, case_id: _Optional[str] = ..., revision: _Optional[int] = ..., protocol: _Optional[str] = ..., consent_basis: _Optional[str] = ..., recordings: _Optional[_Iterable[_Union[Recording, _Mapping]]] = ...) -> None: ...

class Check(_message.Message):
    __slots__ = ("code", "label", "value", "limit", "passed")
    CODE_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    PASSED_FIELD_NUMBER: _ClassVar[int]
    code: str
    label: str
    value: float
    limit: str
    passed: bool
    def __init__(self, code: _Optional[str] = ..., label: _Optional[str] = ..., value: _Optional[float] = ..., limit: _Optional[str] = ..., passed: _Optional[bool] = ...) -> None: ...

class ConnectomeBuilt(_message.Message):
    __slots__ = ("case_id", "revision", "protocol", "connectome", "parcellation", "bold", "quality", "verdict", "pictures", "methods", "tracts", "labels", "recordings")
    CASE_ID_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    CONNECTOME_FIELD_NUMBER: _ClassVar[int]
    PARCELLATION_FIELD_NUMBER: _ClassVar[int]
    BOLD_FIELD_NUMBER: _ClassVar[int]
    QUALITY_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    PICTURES_FIELD_NUMBER: _ClassVar[int]
    METHODS_FIELD_NUMBER: _ClassVar[int]
    TRACTS_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    RECORDINGS_FIELD_NUMBER: _ClassVar[int]
    case_id: str
    revision: int
    protocol: str
    connectome: Artifact
    parcellation: str
    bold: Artifact
    quality: _containers.RepeatedCompositeFieldContainer[Check]
    verdict: Verdict
    pictures: _containers.RepeatedCompositeFieldContainer[Artifact]
    methods: _containers.RepeatedScalarFieldContainer[str]
    tracts: Artifact
    labels: Artifact
    recordings: _containers.RepeatedCompositeFieldContainer[Recording]
    def __init__(self, case_id: _Optional[str] = ..., revision: _Optional[int] = ..., protocol: _Optional[str] = ..., connectome: _Optional[_Union[Artifact, _Mapping]] = ..., parcellation: _Optional[str] = ..., bold: _Optional[_Union[Artifact, _Mapping]] = ..., quality: _Optional[_Iterable[_Union[Check, _Mapping]]] = ..., verdict: _Optional[_Union[Verdict, str]] = ..., pictures: _Optional[_Iterable[_Union[Artifact, _Mapping]]] = ..., methods: _Optional[_Iterable[str]] = ..., tracts: _Optional[_Union[Artifact, _Mapping]] = ..., labels: _Optional[_Union[Artifact, _Mapping]] = ..., recordings: _Optional[_Iterable[_Union[Recording, _Mapping]]] = ...) -> None: ...

class TwinCalibrated(_message.Message):
    __slots__ = ("case_id", "revision", "protocol", "connectome", "posterior", "manifest", "verdict", "reasons", "quality", "pictures", "methods", "labels", "recordings", "second_opinion")
    CASE_ID_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    CONNECTOME_FIELD_NUMBER: _ClassVar[int]
    POSTERIOR_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    REASONS_FIELD_NUMBER: _ClassVar[int]
    QUALITY_FIELD_NUMBER: _ClassVar[int]
    PICTURES_FIELD_NUMBER: _ClassVar[int]
    METHODS_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    RECORDINGS_FIELD_NUMBER: _ClassVar[int]
    SECOND_OPINION_FIELD_NUMBER: _ClassVar[int]
    case_id: str
    revision: int
    protocol: str
    connectome: Artifact
    posterior: Artifact
    manifest: Artifact
    verdict: Verdict
    reasons: _containers.RepeatedScalarFieldContainer[str]
    quality: _containers.RepeatedCompositeFieldContainer[Check]
    pictures: _containers.RepeatedCompositeFieldContainer[Artifact]
    methods: _containers.RepeatedScalarFieldContainer[str]
    labels: Artifact
    recordings: _containers.RepeatedCompositeFieldContainer[Recording]
    second_opinion: _containers.RepeatedCompositeFieldContainer[Artifact]
    def __init__(self, case_id: _Optional[str] = ..., revision: _Optional[int] = ..., protocol: _Optional[str] = ..., connectome: _Optional[_Union[Artifact, _Mapping]] = ..., posterior: _Optional[_Union[Artifact, _Mapping]] = ..., manifest: _Optional[_Union[Artifact, _Mapping]] = ..., verdict: _Optional[_Union[Verdict, str]] = ..., reasons: _Optional[_Iterable[str]] = ..., quality: _Optional[_Iterable[_Union[Check, _Mapping]]] = ..., pictures: _Optional[_Iterable[_Union[Artifact, _Mapping]]] = ..., methods: _Optional[_Iterable[str]] = ..., labels: _Optional[_Union[Artifact, _Mapping]] = ..., recordings: _Optional[_Iterable[_Union[Recording, _Mapping]]] = ..., second_opinion: _Optional[_Iterable[_Union[Artifact, _Mapping]]] = ...) -> None: ...

class ScenariosSimulated(_message.Message):
    __slots__ = ("case_id", "revision", "protocol", "connectome", "posterior", "scenarios", "findings", "manifests", "pictures", "labels", "recordings")
    CASE_ID_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    CONNECTOME_FIELD_NUMBER: _ClassVar[int]
    POSTERIOR_FIELD_NUMBER: _ClassVar[int]
    SCENARIOS_FIELD_NUMBER: _ClassVar[int]
    FINDINGS_FIELD_NUMBER: _ClassVar[int]
    MANIFESTS_FIELD_NUMBER: _ClassVar[int]
    PICTURES_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    RECORDINGS_FIELD_NUMBER: _ClassVar[int]
    case_id: str
    revision: int
    protocol: str
    connectome: Artifact
    posterior: Artifact
    scenarios: Artifact
    findings: Artifact
    manifests: _containers.RepeatedCompositeFieldContainer[Artifact]
    pictures: _containers.RepeatedCompositeFieldContainer[Artifact]
    labels: Artifact
    recordings: _containers.RepeatedCompositeFieldContainer[Recording]
    def __init__(self, case_id: _Optional[str] = ..., revision: _Optional[int] = ..., protocol: _Optional[str] = ..., connectome: _Optional[_Union[Artifact, _Mapping]] = ..., posterior: _Optional[_Union[Artifact, _Mapping]] = ..., scenarios: _Optional[_Union[Artifact, _Mapping]] = ..., findings: _Optional[_Union[Artifact, _Mapping]] = ..., manifests: _Optional[_Iterable[_Union[Artifact, _Mapping]]] = ..., pictures: _Optional[_Iterable[_Union[Artifact, _Mapping]]] = ..., labels: _Optional[_Union[Artifact, _Mapping]] = ..., recordings: _Optional[_Iterable[_Union[Recording, _Mapping]]] = ...) -> None: ...

class ReportDelivered(_message.Message):
    __slots__ = ("case_id", "revision", "bundle", "pdf", "write_tier", "fhir_references", "dicom_objects_stored", "pictures", "attachments")
    CASE_ID_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_FIELD_NUMBER: _ClassVar[int]
    PDF_FIELD_NUMBER: _ClassVar[int]
    WRITE_TIER_FIELD_NUMBER: _ClassVar[int]
    FHIR_REFERENCES_FIELD_NUMBER: _ClassVar[int]
    DICOM_OBJECTS_STORED_FIELD_NUMBER: _ClassVar[int]
    PICTURES_FIELD_NUMBER: _ClassVar[int]
    ATTACHMENTS_FIELD_NUMBER: _ClassVar[int]
    case_id: str
    revision: int
    bundle: Artifact
    pdf: Artifact
    write_tier: WriteTier
    fhir_references: _containers.RepeatedScalarFieldContainer[str]
    dicom_objects_stored: int
    pictures: _containers.RepeatedCompositeFieldContainer[Artifact]
    attachments: _containers.RepeatedCompositeFieldContainer[Artifact]
    def __init__(self, case_id: _Optional[str] = ..., revision: _Optional[int] = ..., bundle: _Optional[_Union[Artifact, _Mapping]] = ..., pdf: _Optional[_Union[Artifact, _Mapping]] = ..., write_tier: _Optional[_Union[WriteTier, str]] = ..., fhir_references: _Optional[_Iterable[str]] = ..., dicom_objects_stored: _Optional[int] = ..., pictures: _Optional[_Iterable[_Union[Artifact, _Mapping]]] = ..., attachments: _Optional[_Iterable[_Union[Artifact, _Mapping]]] = ...) -> None: ...

class CaseStopped(_message.Message):
    __slots__ = ("case_id", "revision", "stage", "kind", "code", "rule", "got", "action")
    CASE_ID_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    STAGE_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    RULE_FIELD_NUMBER: _ClassVar[int]
    GOT_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    case_id: str
    revision: int
    stage: str
    kind: StopKind
    code: str
    rule: str
    got: str
    action: str
    def __init__(self, case_id: _Optional[str] = ..., revision: _Optional[int] = ..., stage: _Optional[str] = ..., kind: _Optional[_Union[StopKind, str]] = ..., code: _Optional[str] = ..., rule: _Optional[str] = ..., got: _Optional[str] = ..., action: _Optional[str] = ...) -> None: ...

class AuditRecorded(_message.Message):
    __slots__ = ("seq", "event_id", "case_id", "action", "leaf_hash")
    SEQ_FIELD_NUMBER: _ClassVar[int]
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    CASE_ID_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    LEAF_HASH_FIELD_NUMBER: _ClassVar[int]
    seq: int
    event_id: str
    case_id: str
    action: str
    leaf_hash: bytes
    def __init__(self, seq: _Optional[int] = ..., event_id: _Optional[str] = ..., case_id: _Optional[str] = ..., action: _Optional[str] = ..., leaf_hash: _Optional[bytes] = ...) -> None: ...
