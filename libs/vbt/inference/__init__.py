"""Likelihoods, sampling, diagnostics and the gate between a posterior and a report."""

from vbt.inference._bands import BandSpectra as BandSpectra
from vbt.inference._bands import band_spectra as band_spectra
from vbt.inference._calibration import Calibration as Calibration
from vbt.inference._calibration import PredictiveCheck as PredictiveCheck
from vbt.inference._checkpoint import Checkpoint as Checkpoint
from vbt.inference._gate import FitDiagnostics as FitDiagnostics
from vbt.inference._gate import Novelty as Novelty
from vbt.inference._gate import ParameterDiagnostics as ParameterDiagnostics
from vbt.inference._gate import SamplerDiagnostics as SamplerDiagnostics
from vbt.inference._gate import gate as gate
from vbt.inference._linear_network import PRIORS as PRIORS
from vbt.inference._nuts import Draws as Draws
from vbt.inference._nuts import Mode as Mode
from vbt.inference._nuts import Posterior as Posterior
from vbt.inference._resting_state import calibrate_resting_state as calibrate_resting_state
from vbt.inference._resting_state import coupling_at as coupling_at
from vbt.inference._resting_state import model_correlation as model_correlation
from vbt.inference._resting_state import used_regions as used_regions
from vbt.inference._whittle import whittle as whittle
from vbt.simulation import effective_weights as effective_weights
