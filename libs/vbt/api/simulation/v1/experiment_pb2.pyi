from vbt.api.event.v1 import event_pb2 as _event_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class WeightScaling(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    WEIGHT_SCALING_UNSPECIFIED: _ClassVar[WeightScaling]
    WEIGHT_SCALING_NONE: _ClassVar[WeightScaling]
    WEIGHT_SCALING_LARGEST: _ClassVar[WeightScaling]
    WEIGHT_SCALING_IN_STRENGTH: _ClassVar[WeightScaling]

class Integrator(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    INTEGRATOR_UNSPECIFIED: _ClassVar[Integrator]
    INTEGRATOR_HEUN: _ClassVar[Integrator]
    INTEGRATOR_RK4: _ClassVar[Integrator]

class Precision(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PRECISION_UNSPECIFIED: _ClassVar[Precision]
    PRECISION_SINGLE: _ClassVar[Precision]
    PRECISION_DOUBLE: _ClassVar[Precision]

class BifurcationKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    BIFURCATION_KIND_UNSPECIFIED: _ClassVar[BifurcationKind]
    BIFURCATION_KIND_FOLD: _ClassVar[BifurcationKind]
    BIFURCATION_KIND_HOPF: _ClassVar[BifurcationKind]
    BIFURCATION_KIND_BRANCH_POINT: _ClassVar[BifurcationKind]
    BIFURCATION_KIND_KINK: _ClassVar[BifurcationKind]
    BIFURCATION_KIND_FOLD_OF_CYCLES: _ClassVar[BifurcationKind]
WEIGHT_SCALING_UNSPECIFIED: WeightScaling
WEIGHT_SCALING_NONE: WeightScaling
WEIGHT_SCALING_LARGEST: WeightScaling
WEIGHT_SCALING_IN_STRENGTH: WeightScaling
INTEGRATOR_UNSPECIFIED: Integrator
INTEGRATOR_HEUN: Integrator
INTEGRATOR_RK4: Integrator
PRECISION_UNSPECIFIED: Precision
PRECISION_SINGLE: Precision
PRECISION_DOUBLE: Precision
BIFURCATION_KIND_UNSPECIFIED: BifurcationKind
BIFURCATION_KIND_FOLD: BifurcationKind
BIFURCATION_KIND_HOPF: BifurcationKind
BIFURCATION_KIND_BRANCH_POINT: BifurcationKind
BIFURCATION_KIND_KINK: BifurcationKind
BIFURCATION_KIND_FOLD_OF_CYCLES: BifurcationKind

class ParameterValue(_message.Message):
    __slots__ = ("name", "values")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    name: str
    values: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, name: _Optional[str] = ..., values: _Optional[_Iterable[float]] = ...) -> None: ...

class Noise(_message.Message):
    __slots__ = ("variable", "sigma")
    VARIABLE_FIELD_NUMBER: _ClassVar[int]
    SIGMA_FIELD_NUMBER: _ClassVar[int]
    variable: str
    sigma: float
    def __init__(self, variable: _Optional[str] = ..., sigma: _Optional[float] = ...) -> None: ...

class Condition(_message.Message):
    __slots__ = ("record_json",)
    RECORD_JSON_FIELD_NUMBER: _ClassVar[int]
    record_json: str
    def __init__(self, record_json: _Optional[str] = ...) -> None: ...

class NetworkModel(_message.Message):
    __slots__ = ("neural_mass", "parameters", "connectome", "weight_scaling", "coupling", "velocity_m_s", "instantaneous_below_step", "noise", "conditions", "region_labels")
    NEURAL_MASS_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    CONNECTOME_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_SCALING_FIELD_NUMBER: _ClassVar[int]
    COUPLING_FIELD_NUMBER: _ClassVar[int]
    VELOCITY_M_S_FIELD_NUMBER: _ClassVar[int]
    INSTANTANEOUS_BELOW_STEP_FIELD_NUMBER: _ClassVar[int]
    NOISE_FIELD_NUMBER: _ClassVar[int]
    CONDITIONS_FIELD_NUMBER: _ClassVar[int]
    REGION_LABELS_FIELD_NUMBER: _ClassVar[int]
    neural_mass: str
    parameters: _containers.RepeatedCompositeFieldContainer[ParameterValue]
    connectome: _event_pb2.Artifact
    weight_scaling: WeightScaling
    coupling: float
    velocity_m_s: float
    instantaneous_below_step: bool
    noise: _containers.RepeatedCompositeFieldContainer[Noise]
    conditions: _containers.RepeatedCompositeFieldContainer[Condition]
    region_labels: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, neural_mass: _Optional[str] = ..., parameters: _Optional[_Iterable[_Union[ParameterValue, _Mapping]]] = ..., connectome: _Optional[_Union[_event_pb2.Artifact, _Mapping]] = ..., weight_scaling: _Optional[_Union[WeightScaling, str]] = ..., coupling: _Optional[float] = ..., velocity_m_s: _Optional[float] = ..., instantaneous_below_step: _Optional[bool] = ..., noise: _Optional[_Iterable[_Union[Noise, _Mapping]]] = ..., conditions: _Optional[_Iterable[_Union[Condition, _Mapping]]] = ..., region_labels: _Optional[_Iterable[str]] = ...) -> None: ...

class TemporalAverage(_message.Message):
    __slots__ = ("period_s",)
    PERIOD_S_FIELD_NUMBER: _ClassVar[int]
    period_s: float
    def __init__(self, period_s: _Optional[float] = ...) -> None: ...

class Bold(_message.Message):
    __slots__ = ("period_s",)
    PERIOD_S_FIELD_NUMBER: _ClassVar[int]
    period_s: float
    def __init__(self, period_s: _Optional[float] = ...) -> None: ...

class PowerSpectrum(_message.Message):
    __slots__ = ("period_s", "sampling_interval_s", "segment_s", "highest_hz")
    PERIOD_S_FIELD_NUMBER: _ClassVar[int]
    SAMPLING_INTERVAL_S_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_S_FIELD_NUMBER: _ClassVar[int]
    HIGHEST_HZ_FIELD_NUMBER: _ClassVar[int]
    period_s: float
    sampling_interval_s: float
    segment_s: float
    highest_hz: float
    def __init__(self, period_s: _Optional[float] = ..., sampling_interval_s: _Optional[float] = ..., segment_s: _Optional[float] = ..., highest_hz: _Optional[float] = ...) -> None: ...

class Trajectory(_message.Message):
    __slots__ = ("period_s",)
    PERIOD_S_FIELD_NUMBER: _ClassVar[int]
    period_s: float
    def __init__(self, period_s: _Optional[float] = ...) -> None: ...

class Monitor(_message.Message):
    __slots__ = ("temporal_average", "bold", "power_spectrum", "trajectory")
    TEMPORAL_AVERAGE_FIELD_NUMBER: _ClassVar[int]
    BOLD_FIELD_NUMBER: _ClassVar[int]
    POWER_SPECTRUM_FIELD_NUMBER: _ClassVar[int]
    TRAJECTORY_FIELD_NUMBER: _ClassVar[int]
    temporal_average: TemporalAverage
    bold: Bold
    power_spectrum: PowerSpectrum
    trajectory: Trajectory
    def __init__(self, temporal_average: _Optional[_Union[TemporalAverage, _Mapping]] = ..., bold: _Optional[_Union[Bold, _Mapping]] = ..., power_spectrum: _Optional[_Union[PowerSpectrum, _Mapping]] = ..., trajectory: _Optional[_Union[Trajectory, _Mapping]] = ...) -> None: ...

class Protocol(_message.Message):
    __slots__ = ("duration_s", "transient_s", "dt_ms", "monitors", "integrator", "precision")
    DURATION_S_FIELD_NUMBER: _ClassVar[int]
    TRANSIENT_S_FIELD_NUMBER: _ClassVar[int]
    DT_MS_FIELD_NUMBER: _ClassVar[int]
    MONITORS_FIELD_NUMBER: _ClassVar[int]
    INTEGRATOR_FIELD_NUMBER: _ClassVar[int]
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    duration_s: float
    transient_s: float
    dt_ms: float
    monitors: _containers.RepeatedCompositeFieldContainer[Monitor]
    integrator: Integrator
    precision: Precision
    def __init__(self, duration_s: _Optional[float] = ..., transient_s: _Optional[float] = ..., dt_ms: _Optional[float] = ..., monitors: _Optional[_Iterable[_Union[Monitor, _Mapping]]] = ..., integrator: _Optional[_Union[Integrator, str]] = ..., precision: _Optional[_Union[Precision, str]] = ...) -> None: ...

class SimulateRequest(_message.Message):
    __slots__ = ("network", "protocol", "seeds")
    NETWORK_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    SEEDS_FIELD_NUMBER: _ClassVar[int]
    network: NetworkModel
    protocol: Protocol
    seeds: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, network: _Optional[_Union[NetworkModel, _Mapping]] = ..., protocol: _Optional[_Union[Protocol, _Mapping]] = ..., seeds: _Optional[_Iterable[int]] = ...) -> None: ...

class Axis(_message.Message):
    __slots__ = ("name", "values")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    name: str
    values: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, name: _Optional[str] = ..., values: _Optional[_Iterable[float]] = ...) -> None: ...

class ParameterSet(_message.Message):
    __slots__ = ("parameters",)
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    parameters: _containers.RepeatedCompositeFieldContainer[ParameterValue]
    def __init__(self, parameters: _Optional[_Iterable[_Union[ParameterValue, _Mapping]]] = ...) -> None: ...

class ConditionSet(_message.Message):
    __slots__ = ("conditions",)
    CONDITIONS_FIELD_NUMBER: _ClassVar[int]
    conditions: _containers.RepeatedCompositeFieldContainer[Condition]
    def __init__(self, conditions: _Optional[_Iterable[_Union[Condition, _Mapping]]] = ...) -> None: ...

class SweepRequest(_message.Message):
    __slots__ = ("network", "protocol", "parameter_sets", "axes", "condition_sets", "seeds")
    NETWORK_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    PARAMETER_SETS_FIELD_NUMBER: _ClassVar[int]
    AXES_FIELD_NUMBER: _ClassVar[int]
    CONDITION_SETS_FIELD_NUMBER: _ClassVar[int]
    SEEDS_FIELD_NUMBER: _ClassVar[int]
    network: NetworkModel
    protocol: Protocol
    parameter_sets: _containers.RepeatedCompositeFieldContainer[ParameterSet]
    axes: _containers.RepeatedCompositeFieldContainer[Axis]
    condition_sets: _containers.RepeatedCompositeFieldContainer[ConditionSet]
    seeds: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, network: _Optional[_Union[NetworkModel, _Mapping]] = ..., protocol: _Optional[_Union[Protocol, _Mapping]] = ..., parameter_sets: _Optional[_Iterable[_Union[ParameterSet, _Mapping]]] = ..., axes: _Optional[_Iterable[_Union[Axis, _Mapping]]] = ..., condition_sets: _Optional[_Iterable[_Union[ConditionSet, _Mapping]]] = ..., seeds: _Optional[_Iterable[int]] = ...) -> None: ...

class ContinueRequest(_message.Message):
    __slots__ = ("network", "parameter", "lowest", "highest", "region_label", "delayed", "cycles", "starts")
    NETWORK_FIELD_NUMBER: _ClassVar[int]
    PARAMETER_FIELD_NUMBER: _ClassVar[int]
    LOWEST_FIELD_NUMBER: _ClassVar[int]
    HIGHEST_FIELD_NUMBER: _ClassVar[int]
    REGION_LABEL_FIELD_NUMBER: _ClassVar[int]
    DELAYED_FIELD_NUMBER: _ClassVar[int]
    CYCLES_FIELD_NUMBER: _ClassVar[int]
    STARTS_FIELD_NUMBER: _ClassVar[int]
    network: NetworkModel
    parameter: str
    lowest: float
    highest: float
    region_label: str
    delayed: bool
    cycles: bool
    starts: int
    def __init__(self, network: _Optional[_Union[NetworkModel, _Mapping]] = ..., parameter: _Optional[str] = ..., lowest: _Optional[float] = ..., highest: _Optional[float] = ..., region_label: _Optional[str] = ..., delayed: _Optional[bool] = ..., cycles: _Optional[bool] = ..., starts: _Optional[int] = ...) -> None: ...

class Progress(_message.Message):
    __slots__ = ("fraction", "message")
    FRACTION_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    fraction: float
    message: str
    def __init__(self, fraction: _Optional[float] = ..., message: _Optional[str] = ...) -> None: ...

class ObservationSummary(_message.Message):
    __slots__ = ("name", "unit", "runs", "samples", "channels", "period_s")
    NAME_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    RUNS_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    CHANNELS_FIELD_NUMBER: _ClassVar[int]
    PERIOD_S_FIELD_NUMBER: _ClassVar[int]
    name: str
    unit: str
    runs: int
    samples: int
    channels: int
    period_s: float
    def __init__(self, name: _Optional[str] = ..., unit: _Optional[str] = ..., runs: _Optional[int] = ..., samples: _Optional[int] = ..., channels: _Optional[int] = ..., period_s: _Optional[float] = ...) -> None: ...

class SimulationResult(_message.Message):
    __slots__ = ("case_id", "result", "manifest", "observations", "seconds")
    CASE_ID_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_FIELD_NUMBER: _ClassVar[int]
    OBSERVATIONS_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    case_id: str
    result: _event_pb2.Artifact
    manifest: _event_pb2.Artifact
    observations: _containers.RepeatedCompositeFieldContainer[ObservationSummary]
    seconds: float
    def __init__(self, case_id: _Optional[str] = ..., result: _Optional[_Union[_event_pb2.Artifact, _Mapping]] = ..., manifest: _Optional[_Union[_event_pb2.Artifact, _Mapping]] = ..., observations: _Optional[_Iterable[_Union[ObservationSummary, _Mapping]]] = ..., seconds: _Optional[float] = ...) -> None: ...

class Bifurcation(_message.Message):
    __slots__ = ("kind", "parameter", "frequency_hz", "coefficient", "multiplicity")
    KIND_FIELD_NUMBER: _ClassVar[int]
    PARAMETER_FIELD_NUMBER: _ClassVar[int]
    FREQUENCY_HZ_FIELD_NUMBER: _ClassVar[int]
    COEFFICIENT_FIELD_NUMBER: _ClassVar[int]
    MULTIPLICITY_FIELD_NUMBER: _ClassVar[int]
    kind: BifurcationKind
    parameter: float
    frequency_hz: float
    coefficient: float
    multiplicity: int
    def __init__(self, kind: _Optional[_Union[BifurcationKind, str]] = ..., parameter: _Optional[float] = ..., frequency_hz: _Optional[float] = ..., coefficient: _Optional[float] = ..., multiplicity: _Optional[int] = ...) -> None: ...

class ContinuationResult(_message.Message):
    __slots__ = ("case_id", "result", "manifest", "diagram", "bifurcations", "branches", "seconds")
    CASE_ID_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_FIELD_NUMBER: _ClassVar[int]
    DIAGRAM_FIELD_NUMBER: _ClassVar[int]
    BIFURCATIONS_FIELD_NUMBER: _ClassVar[int]
    BRANCHES_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    case_id: str
    result: _event_pb2.Artifact
    manifest: _event_pb2.Artifact
    diagram: _event_pb2.Artifact
    bifurcations: _containers.RepeatedCompositeFieldContainer[Bifurcation]
    branches: int
    seconds: float
    def __init__(self, case_id: _Optional[str] = ..., result: _Optional[_Union[_event_pb2.Artifact, _Mapping]] = ..., manifest: _Optional[_Union[_event_pb2.Artifact, _Mapping]] = ..., diagram: _Optional[_Union[_event_pb2.Artifact, _Mapping]] = ..., bifurcations: _Optional[_Iterable[_Union[Bifurcation, _Mapping]]] = ..., branches: _Optional[int] = ..., seconds: _Optional[float] = ...) -> None: ...

class SimulateResponse(_message.Message):
    __slots__ = ("progress", "result")
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    progress: Progress
    result: SimulationResult
    def __init__(self, progress: _Optional[_Union[Progress, _Mapping]] = ..., result: _Optional[_Union[SimulationResult, _Mapping]] = ...) -> None: ...

class SweepResponse(_message.Message):
    __slots__ = ("progress", "result")
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    progress: Progress
    result: SimulationResult
    def __init__(self, progress: _Optional[_Union[Progress, _Mapping]] = ..., result: _Optional[_Union[SimulationResult, _Mapping]] = ...) -> None: ...

class ContinueResponse(_message.Message):
    __slots__ = ("progress", "result")
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    progress: Progress
    result: ContinuationResult
    def __init__(self, progress: _Optional[_Union[Progress, _Mapping]] = ..., result: _Optional[_Union[ContinuationResult, _Mapping]] = ...) -> None: ...
