"""SEEG, EEG and MEG as the twin needs them: read, checked, and turned into features."""

from vbt.electrophysiology._recording import Event as Event
from vbt.electrophysiology._recording import SensorRecording as SensorRecording
