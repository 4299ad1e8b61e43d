"""The digital patient: a head with a known connectome, scanned and written as DICOM, its ground truth kept aside."""

from vbt.synthetic._bundles import Bundle as Bundle
from vbt.synthetic._identity import CANARIES as CANARIES
from vbt.synthetic._patient import SyntheticPatient as SyntheticPatient
from vbt.synthetic._patient import make_patient as make_patient
from vbt.synthetic._recordings import RecordingFiles as RecordingFiles
from vbt.synthetic._recordings import write_recordings as write_recordings
from vbt.synthetic._settings import AnatomicalProtocol as AnatomicalProtocol
from vbt.synthetic._settings import DiffusionProtocol as DiffusionProtocol
from vbt.synthetic._settings import FunctionalProtocol as FunctionalProtocol
from vbt.synthetic._settings import PatientSettings as PatientSettings
from vbt.synthetic._settings import TwinParameters as TwinParameters
from vbt.synthetic._study import write_dicom as write_dicom
from vbt.synthetic._truth import Truth as Truth
from vbt.synthetic._truth import read_truth as read_truth
from vbt.synthetic._truth import recovery_scores as recovery_scores
from vbt.synthetic._truth import write_truth as write_truth
