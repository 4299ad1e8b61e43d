"""From diffusion volumes to a structural connectome."""

from vbt.connectome._brain import extract_brain as extract_brain
from vbt.connectome._connectome import Connectome as Connectome
from vbt.connectome._parcellation import Parcellation as Parcellation
from vbt.connectome._parcellation import Templates as Templates
from vbt.connectome._parcellation import desikan_killiany as desikan_killiany
from vbt.connectome._parcellation import mni_templates as mni_templates
