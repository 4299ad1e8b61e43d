"""A series as one Enhanced MR object: every slice of every volume is a frame."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset
from pydicom.datadict import tag_for_keyword
from pydicom.sequence import Sequence as Items
from pydicom.uid import EnhancedMRImageStorage

from vbt.synthetic._dicom import Acquisition, Geometry, add_pixels, base_dataset, gradient_lps, moment, save

_CLASSIC_ONLY = (
    "AcquisitionDate", "AcquisitionTime", "ImageComments", "ImagedNucleus", "ImagingFrequency",
)  # fmt: skip
_MAGNETISATION = {"MRAcquisitionType": "2D", "MultiPlanarExcitation": "NO", "PhaseContrast": "NO",
                  "TimeOfFlightContrast": "NO",
                  "SteadyStatePulseSequence": "NONE", "EchoPlanarPulseSequence": "YES", "SaturationRecovery": "NO",
                  "SpectrallySelectedSuppression": "FAT", "OversamplingPhase": "NONE",
                  "SegmentedKSpaceTraversal": "SINGLE", "GeometryOfKSpaceTraversal": "RECTILINEAR",
                  "RectilinearPhaseEncodeReordering": "LINEAR", "NumberOfKSpaceTrajectories": 1}  # fmt: skip


def write_enhanced(acquisition: Acquisition, path: Path) -> Path:
    """Write the whole series as one multi-frame file; dimensions are stack, slice and volume."""
    geometry = Geometry.of(acquisition.image)
    dataset = base_dataset(acquisition, EnhancedMRImageStorage)
    for keyword in _CLASSIC_ONLY:
        delattr(dataset, keyword)
    _add_image(dataset, acquisition)
    _add_dimensions(dataset, acquisition)
    dataset.SharedFunctionalGroupsSequence = Items([_shared(acquisition, geometry)])
    dataset.PerFrameFunctionalGroupsSequence = Items(
        [
            _per_frame(acquisition, geometry, volume, index)
            for volume in range(acquisition.volumes)
            for index in range(acquisition.slices)
        ]
    )
    pixels = np.asarray(acquisition.image.dataobj).reshape(*acquisition.image.shape[:3], -1)
    # Rows by columns, slices within volumes.
    add_pixels(dataset, pixels.transpose(3, 2, 1, 0).reshape(-1, pixels.shape[1], pixels.shape[0]))
    dataset.NumberOfFrames = acquisition.volumes * acquisition.slices
    return save(dataset, path)


def _add_image(dataset: Dataset, acquisition: Acquisition) -> None:
    contrast = "DIFFUSION" if acquisition.kind == "dwi" else "T2_STAR"
    dataset.SOPInstanceUID = acquisition.uid("instance")
    dataset.InstanceNumber = 1
    dataset.AcquisitionNumber = 1
    dataset.ImageType = ["ORIGINAL", "PRIMARY", contrast, "NONE"]
    _assign(dataset, **_frame_type(acquisition), **_MAGNETISATION)
    dataset.ContentQualification = "RESEARCH"
    dataset.ResonantNucleus = "1H"
    dataset.KSpaceFiltering = "NONE"
    dataset.ApplicableSafetyStandardAgency = "IEC"
    dataset.AcquisitionDateTime = moment(600.0 * acquisition.number)
    dataset.AcquisitionDuration = acquisition.volumes * acquisition.volume_seconds
    dataset.PulseSequenceName = "epse2d" if acquisition.kind == "dwi" else "epfid2d"
    dataset.EchoPulseSequence = "SPIN" if acquisition.kind == "dwi" else "GRADIENT"
    if acquisition.kind == "dwi":
        dataset.MultipleSpinEcho = "NO"
    dataset.PresentationLUTShape = "IDENTITY"
    dataset.AcquisitionContextSequence = Items([])
    dataset.SynchronizationFrameOfReferenceUID = acquisition.uid("clock")
    dataset.SynchronizationTrigger = "NO TRIGGER"
    dataset.AcquisitionTimeSynchronized = "N"


def _frame_type(acquisition: Acquisition) -> dict[str, str]:
    return {
        "PixelPresentation": "MONOCHROME",
        "VolumetricProperties": "VOLUME",
        "VolumeBasedCalculationTechnique": "NONE",
        "ComplexImageComponent": "MAGNITUDE",
        "AcquisitionContrast": "DIFFUSION" if acquisition.kind == "dwi" else "T2_STAR",
    }


def _add_dimensions(dataset: Dataset, acquisition: Acquisition) -> None:
    organization = acquisition.uid("dimensions")
    dataset.DimensionOrganizationSequence = Items([_item(DimensionOrganizationUID=organization)])
    # Without the volume as a dimension, readers cannot order the frames of a diffusion series.
    pointers = ("StackID", "InStackPositionNumber", "TemporalPositionIndex")
    dataset.DimensionIndexSequence = Items(
        [
            _item(
                DimensionOrganizationUID=organization,
                DimensionIndexPointer=tag_for_keyword(keyword),
                FunctionalGroupPointer=tag_for_keyword("FrameContentSequence"),
                DimensionDescriptionLabel=keyword,
            )
            for keyword in pointers
        ]
    )


def _per_frame(acquisition: Acquisition, geometry: Geometry, volume: int, index: int) -> Dataset:
    start = 600.0 * acquisition.number + volume * acquisition.volume_seconds
    duration = acquisition.volume_seconds / acquisition.slices
    groups = _item(
        FrameContentSequence=_one(
            FrameAcquisitionNumber=volume + 1,
            FrameAcquisitionDateTime=moment(start + index * duration),
            FrameReferenceDateTime=moment(start + (index + 0.5) * duration),
            FrameAcquisitionDuration=1000.0 * duration,
            StackID="1",
            InStackPositionNumber=index + 1,
            TemporalPositionIndex=volume + 1,
            DimensionIndexValues=[1, index + 1, volume + 1],
        ),
        PlanePositionSequence=_one(ImagePositionPatient=geometry.position(index)),
    )
    if acquisition.bvals is not None:
        groups.MRDiffusionSequence = Items([_diffusion(acquisition, volume)])
    else:
        groups.TemporalPositionSequence = _one(TemporalPositionTimeOffset=volume * acquisition.volume_seconds)
    return groups


def _diffusion(acquisition: Acquisition, volume: int) -> Dataset:
    b, direction = gradient_lps(acquisition, volume)
    diffusion = _item(DiffusionBValue=b, DiffusionDirectionality="DIRECTIONAL" if direction else "NONE")
    if direction:
        diffusion.DiffusionGradientDirectionSequence = _one(DiffusionGradientOrientation=direction)
    return diffusion


def _shared(acquisition: Acquisition, geometry: Geometry) -> Dataset:
    columns, rows = acquisition.image.shape[:2]
    region = _item(CodeValue="12738006", CodingSchemeDesignator="SCT", CodeMeaning="Brain")
    return _item(
        PixelMeasuresSequence=_one(
            PixelSpacing=list(geometry.pixel_spacing),
            SliceThickness=geometry.slice_spacing,
            SpacingBetweenSlices=geometry.slice_spacing,
        ),
        PlaneOrientationSequence=_one(ImageOrientationPatient=list(geometry.orientation)),
        FrameAnatomySequence=_one(FrameLaterality="B", AnatomicRegionSequence=Items([region])),
        PixelValueTransformationSequence=_one(RescaleIntercept=0, RescaleSlope=1, RescaleType="US"),
        FrameVOILUTSequence=_one(WindowCenter=600, WindowWidth=1200),
        MRImageFrameTypeSequence=_one(
            FrameType=["ORIGINAL", "PRIMARY", _frame_type(acquisition)["AcquisitionContrast"], "NONE"],
            **_frame_type(acquisition),
        ),
        MRTimingAndRelatedParametersSequence=_one(
            RepetitionTime=acquisition.repetition_time,
            FlipAngle=acquisition.flip_angle,
            EchoTrainLength=rows,
            RFEchoTrainLength=1,
            GradientEchoTrainLength=rows,
            GradientOutputType="DB_DT",
            GradientOutput=40.0,
            SpecificAbsorptionRateSequence=_one(
                SpecificAbsorptionRateDefinition="IEC_WHOLE_BODY", SpecificAbsorptionRateValue=0.1
            ),
            OperatingModeSequence=_one(OperatingModeType="STATIC FIELD", OperatingMode="IEC_NORMAL"),
        ),
        MRFOVGeometrySequence=_one(
            InPlanePhaseEncodingDirection="COLUMN",
            MRAcquisitionFrequencyEncodingSteps=columns,
            MRAcquisitionPhaseEncodingStepsInPlane=rows,
            PercentSampling=100.0,
            PercentPhaseFieldOfView=100.0,
        ),
        MREchoSequence=_one(EffectiveEchoTime=acquisition.echo_time),
        MRModifierSequence=_one(
            InversionRecovery="NO",
            FlowCompensation="NONE",
            Spoiling="NONE",
            T2Preparation="NO",
            SpectrallySelectedExcitation="NONE",
            SpatialPresaturation="NONE",
            PartialFourier="NO",
            ParallelAcquisition="NO",
        ),
        MRImagingModifierSequence=_one(
            MagnetizationTransfer="NONE",
            BloodSignalNulling="NO",
            Tagging="NONE",
            TransmitterFrequency=127.74,
            PixelBandwidth=2000.0,
        ),
        MRReceiveCoilSequence=_one(
            ReceiveCoilName="HEAD",
            ReceiveCoilManufacturerName="VBT Synthetic",
            ReceiveCoilType="VOLUME",
            QuadratureReceiveCoil="YES",
        ),
        MRTransmitCoilSequence=_one(
            TransmitCoilName="BODY", TransmitCoilManufacturerName="VBT Synthetic", TransmitCoilType="BODY"
        ),
        MRAveragesSequence=_one(NumberOfAverages=1.0),
    )


def _item(**attributes: Any) -> Dataset:
    item = Dataset()
    _assign(item, **attributes)
    return item


def _one(**attributes: Any) -> Items:
    return Items([_item(**attributes)])


def _assign(dataset: Dataset, **attributes: Any) -> None:
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
