"""DICOM in and out: studies, volumes and gradients, de-identification, and the objects we send back."""

from vbt.dicom._deidentification import deidentify as deidentify
from vbt.dicom._deidentification import deidentify_with_evidence as deidentify_with_evidence
from vbt.dicom._encapsulated_report import ObjectReference as ObjectReference
from vbt.dicom._encapsulated_report import encapsulated_report as encapsulated_report
from vbt.dicom._encapsulated_report import references as references
from vbt.dicom._frame_of_reference import frame_of_reference_uid as frame_of_reference_uid
from vbt.dicom._frame_of_reference import note_frames as note_frames
from vbt.dicom._frame_of_reference import noted_frames as noted_frames
from vbt.dicom._identity import PatientIdentity as PatientIdentity
from vbt.dicom._identity import patient_identity as patient_identity
from vbt.dicom._instance import UNPARSABLE as UNPARSABLE
from vbt.dicom._instance import Instance as Instance
from vbt.dicom._instance import Unreadable as Unreadable
from vbt.dicom._roles import Role as Role
from vbt.dicom._segmentation import lesion_mask as lesion_mask
from vbt.dicom._study import InventoryEntry as InventoryEntry
from vbt.dicom._study import ProtocolSet as ProtocolSet
from vbt.dicom._study import Series as Series
from vbt.dicom._study import Study as Study
from vbt.dicom._study import anatomical_volume as anatomical_volume
from vbt.dicom._study import diffusion_volumes as diffusion_volumes
from vbt.dicom._study import functional_volumes as functional_volumes
from vbt.dicom._study import read_study as read_study
from vbt.dicom._study import require_protocol as require_protocol
from vbt.dicom._volumes import DiffusionVolumes as DiffusionVolumes
from vbt.dicom._volumes import FunctionalVolumes as FunctionalVolumes
