from vbt.api.event.v1 import event_pb2 as _event_pb2
from vbt.api.event.v1 import step_pb2 as _step_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class FileUse(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FILE_USE_UNSPECIFIED: _ClassVar[FileUse]
    FILE_USE_SEEG: _ClassVar[FileUse]
    FILE_USE_EEG: _ClassVar[FileUse]
    FILE_USE_MEG: _ClassVar[FileUse]
    FILE_USE_ELECTRODES: _ClassVar[FileUse]
    FILE_USE_LESIONS: _ClassVar[FileUse]
    FILE_USE_BESIDE: _ClassVar[FileUse]
FILE_USE_UNSPECIFIED: FileUse
FILE_USE_SEEG: FileUse
FILE_USE_EEG: FileUse
FILE_USE_MEG: FileUse
FILE_USE_ELECTRODES: FileUse
FILE_USE_LESIONS: FileUse
FILE_USE_BESIDE: FileUse

class SubmitInstancesRequest(_message.Message):
    __slots__ = ("chunk", "last")
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    chunk: bytes
    last: bool
    def __init__(self, chunk: _Optional[bytes] = ..., last: _Optional[bool] = ...) -> None: ...

class SubmitInstancesResponse(_message.Message):
    __slots__ = ("stored", "duplicates", "quarantined")
    STORED_FIELD_NUMBER: _ClassVar[int]
    DUPLICATES_FIELD_NUMBER: _ClassVar[int]
    QUARANTINED_FIELD_NUMBER: _ClassVar[int]
    stored: int
    duplicates: int
    quarantined: int
    def __init__(self, stored: _Optional[int] = ..., duplicates: _Optional[int] = ..., quarantined: _Optional[int] = ...) -> None: ...

class AttachRecordingsRequest(_message.Message):
    __slots__ = ("case_id", "protocol", "region_labels", "use", "name", "chunk")
    CASE_ID_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    REGION_LABELS_FIELD_NUMBER: _ClassVar[int]
    USE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    case_id: str
    protocol: str
    region_labels: _containers.RepeatedScalarFieldContainer[str]
    use: FileUse
    name: str
    chunk: bytes
    def __init__(self, case_id: _Optional[str] = ..., protocol: _Optional[str] = ..., region_labels: _Optional[_Iterable[str]] = ..., use: _Optional[_Union[FileUse, str]] = ..., name: _Optional[str] = ..., chunk: _Optional[bytes] = ...) -> None: ...

class AttachRecordingsResponse(_message.Message):
    __slots__ = ("case_id", "revision", "protocol", "changed", "checks")
    CASE_ID_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    CHANGED_FIELD_NUMBER: _ClassVar[int]
    CHECKS_FIELD_NUMBER: _ClassVar[int]
    case_id: str
    revision: int
    protocol: str
    changed: bool
    checks: _containers.RepeatedCompositeFieldContainer[_event_pb2.Check]
    def __init__(self, case_id: _Optional[str] = ..., revision: _Optional[int] = ..., protocol: _Optional[str] = ..., changed: _Optional[bool] = ..., checks: _Optional[_Iterable[_Union[_event_pb2.Check, _Mapping]]] = ...) -> None: ...

class GetStudyRequest(_message.Message):
    __slots__ = ("case_id",)
    CASE_ID_FIELD_NUMBER: _ClassVar[int]
    case_id: str
    def __init__(self, case_id: _Optional[str] = ...) -> None: ...

class GetStudyResponse(_message.Message):
    __slots__ = ("step", "result")
    STEP_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    step: _step_pb2.Step
    result: _event_pb2.StudyIngested
    def __init__(self, step: _Optional[_Union[_step_pb2.Step, _Mapping]] = ..., result: _Optional[_Union[_event_pb2.StudyIngested, _Mapping]] = ...) -> None: ...

class ListStudiesRequest(_message.Message):
    __slots__ = ("limit",)
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    limit: int
    def __init__(self, limit: _Optional[int] = ...) -> None: ...

class ListStudiesResponse(_message.Message):
    __slots__ = ("steps",)
    STEPS_FIELD_NUMBER: _ClassVar[int]
    steps: _containers.RepeatedCompositeFieldContainer[_step_pb2.Step]
    def __init__(self, steps: _Optional[_Iterable[_Union[_step_pb2.Step, _Mapping]]] = ...) -> None: ...

class WatchStudyRequest(_message.Message):
    __slots__ = ("case_id",)
    CASE_ID_FIELD_NUMBER: _ClassVar[int]
    case_id: str
    def __init__(self, case_id: _Optional[str] = ...) -> None: ...

class WatchStudyResponse(_message.Message):
    __slots__ = ("step",)
    STEP_FIELD_NUMBER: _ClassVar[int]
    step: _step_pb2.Step
    def __init__(self, step: _Optional[_Union[_step_pb2.Step, _Mapping]] = ...) -> None: ...

class CancelStudyRequest(_message.Message):
    __slots__ = ("case_id",)
    CASE_ID_FIELD_NUMBER: _ClassVar[int]
    case_id: str
    def __init__(self, case_id: _Optional[str] = ...) -> None: ...

class CancelStudyResponse(_message.Message):
    __slots__ = ("accepted",)
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    accepted: bool
    def __init__(self, accepted: _Optional[bool] = ...) -> None: ...
