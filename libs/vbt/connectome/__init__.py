"""From diffusion volumes to a structural connectome."""

from vbt.connectome._connectome import Connectome as Connectome
