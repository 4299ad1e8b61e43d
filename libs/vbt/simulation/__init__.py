"""Neural masses, networks with conduction delays, integrators, observation models and conditions."""

from vbt.simulation._bold import BalloonWindkessel as BalloonWindkessel
from vbt.simulation._epileptor import Epileptor as Epileptor
from vbt.simulation._epileptor import Epileptor2D as Epileptor2D
from vbt.simulation._linear import Linear as Linear
from vbt.simulation._manifest import ReplayManifest as ReplayManifest
from vbt.simulation._manifest import digest as digest
from vbt.simulation._manifest import record as record
from vbt.simulation._montbrio_pazo_roxin import FixedPoint as FixedPoint
from vbt.simulation._montbrio_pazo_roxin import MontbrioPazoRoxin as MontbrioPazoRoxin
from vbt.simulation._montbrio_pazo_roxin import fixed_points as fixed_points
from vbt.simulation._network import Network as Network
from vbt.simulation._network import Stimulus as Stimulus
from vbt.simulation._network import delay_steps as delay_steps
from vbt.simulation._network import resect as resect
from vbt.simulation._network import stimulate as stimulate
from vbt.simulation._neural_mass import NeuralMass as NeuralMass
from vbt.simulation._neural_mass import Parameter as Parameter
from vbt.simulation._neural_mass import noise_amplitude as noise_amplitude
from vbt.simulation._neural_mass import parameter_table as parameter_table
from vbt.simulation._resting_twin import RestingTwin as RestingTwin
from vbt.simulation._resting_twin import effective_weights as effective_weights
from vbt.simulation._resting_twin import homotopic_pairs as homotopic_pairs
from vbt.simulation._resting_twin import static_covariance as static_covariance
from vbt.simulation._simulate import LANES as LANES
from vbt.simulation._simulate import Simulation as Simulation
from vbt.simulation._simulate import simulate as simulate
