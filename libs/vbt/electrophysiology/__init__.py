"""SEEG, EEG and MEG as the twin needs them: read, checked, and turned into features."""

from vbt.electrophysiology._bipolar import bipolar as bipolar
from vbt.electrophysiology._envelope import Envelope as Envelope
from vbt.electrophysiology._envelope import seizure_envelope as seizure_envelope
from vbt.electrophysiology._reading import read_seeg as read_seeg
from vbt.electrophysiology._reading import read_sensors as read_sensors
from vbt.electrophysiology._recording import SEIZURE_OFFSET as SEIZURE_OFFSET
from vbt.electrophysiology._recording import SEIZURE_ONSET as SEIZURE_ONSET
from vbt.electrophysiology._recording import Event as Event
from vbt.electrophysiology._recording import Kind as Kind
from vbt.electrophysiology._recording import SensorRecording as SensorRecording
from vbt.electrophysiology._usable import ChannelCheck as ChannelCheck
from vbt.electrophysiology._usable import require_usable as require_usable
from vbt.electrophysiology._usable import without as without
