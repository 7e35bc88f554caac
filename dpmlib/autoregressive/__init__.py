"""Autoregressive models, p(x) = Π_i p(x_i | x_<i), behind one interface (see `base`): log_prob, conditionals, sample, order."""
from .base import Ordered, bernoulli_log_prob, check_binary, check_rows, parameter_count
from .binary import FVSBN, AutoregressiveMLP
from .nade import NADE, RNADE, Mixture, naive_log_prob, scan
from .patches import patches
from .transformer import CausalTransformer

__all__ = ["FVSBN", "AutoregressiveMLP", "CausalTransformer", "NADE", "RNADE", "Mixture", "Ordered", "bernoulli_log_prob", "check_binary",
           "check_rows", "naive_log_prob", "parameter_count", "patches", "scan"]
