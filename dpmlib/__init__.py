"""dpmlib: autoregressive and diffusion probabilistic models, the library under the book."""

from . import data, metrics
from .adaptive import adaptive
from .ancestral import ancestral, kernel, n0i_variance
from .covariance import gamma, posterior_variance, reverse_variance, variance_bounds
from .denoiser import CountCalls, Denoiser, chain_label, clip_x0, with_variance
from .guidance import cfg, classifier_guidance, dynamic_threshold
from .levels import Levels, check_grid, diffuse, levels, with_data
from .likelihood import Bound, bits_per_dim, dequantise, elbo, log_bin, log_normal
from .ode import divergence, ode_log_prob, probability_flow, rademacher, runge_kutta, solve_adaptive
from .oracles import Empirical, Gaussian, GaussianMixture
from .posterior import PREDICTIONS, Posterior, target
from .pretrained import pretrained
from .rivals import deis, heun, pndm, unipc
from .schedules import VE, CosineVP, DiscreteVP, Flow, LinearVP, Schedule, SubVP
from .score_matching import denoising_score_matching, explicit_score_matching, implicit_score_matching, sliced_score_matching
from .sde import drift_diffusion, euler_maruyama, forward_sde, langevin, predictor_corrector, reverse_diffusion
from .solvers import multistep_orders, ode_multistep, ode_singlestep, sde_multistep, singlestep_orders
from .trajectory import even as even_trajectory
from .trajectory import optimal as optimal_trajectory

__version__ = "0.1.0"
