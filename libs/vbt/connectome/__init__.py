"""From diffusion volumes to a structural connectome, and from a functional run to regional BOLD."""

from vbt.connectome._anatomy import Anatomy as Anatomy
from vbt.connectome._anatomy import build_anatomy as build_anatomy
from vbt.connectome._bold import RegionalBold as RegionalBold
from vbt.connectome._bold import regional_bold as regional_bold
from vbt.connectome._brain import extract_brain as extract_brain
from vbt.connectome._build import BuildSettings as BuildSettings
from vbt.connectome._build import ConnectomeBuild as ConnectomeBuild
from vbt.connectome._build import StepCost as StepCost
from vbt.connectome._build import build_connectome as build_connectome
from vbt.connectome._connectome import Connectome as Connectome
from vbt.connectome._delays import conduction_delays as conduction_delays
from vbt.connectome._lesions import LesionedTracts as LesionedTracts
from vbt.connectome._lesions import lesion_fractions as lesion_fractions
from vbt.connectome._parcellation import Parcellation as Parcellation
from vbt.connectome._parcellation import Templates as Templates
from vbt.connectome._parcellation import desikan_killiany as desikan_killiany
from vbt.connectome._parcellation import mni_templates as mni_templates
from vbt.connectome._quality import QualityCheck as QualityCheck
from vbt.connectome._tracts import Tracts as Tracts
from vbt.connectome._tvb import read_connectome as read_connectome
from vbt.connectome._tvb import read_tvb_connectivity as read_tvb_connectivity
