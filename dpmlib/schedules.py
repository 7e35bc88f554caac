"""Noise schedules: the Gaussian path x_t = α_t x_0 + σ_t ε and its half log-SNR λ_t = log(α_t / σ_t).

A schedule is three formulas: log α(t), log σ(t) and the inverse of λ. Everything is float64, because the
differences of λ that solvers live on would otherwise drown in rounding. Times run from 0 (data) to `t_max` (noise).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import softplus

from .levels import Levels


def _float64(t) -> Tensor:
    return torch.as_tensor(t, dtype=torch.float64)


class Schedule:
    """What all schedules share; a subclass gives `log_alpha`, `log_sigma` and `t_of_lam`.

    `t_max` is the noisy end; `t_end` is where a grid stops by default, a little before the data.
    """

    t_max: float = 1.0
    t_end: float = 1e-3

    def log_alpha(self, t) -> Tensor:
        raise NotImplementedError

    def log_sigma(self, t) -> Tensor:
        """log σ_t of a variance-preserving path, α² + σ² = 1, without cancellation at small t."""
        return 0.5 * torch.log(-torch.expm1(2 * self.log_alpha(t)))

    def t_of_lam(self, lam) -> Tensor:
        """The time at which λ_t = `lam`, the inverse of `lam(t)`. Any shape, float64."""
        raise NotImplementedError

    def alpha(self, t) -> Tensor:
        """Signal coefficient α_t. `t`: float or tensor of any shape in [0, t_max]; returns float64."""
        return self.log_alpha(self.checked(t)).exp()

    def sigma(self, t) -> Tensor:
        """Noise coefficient σ_t, float64, the shape of `t`."""
        return self.log_sigma(self.checked(t)).exp()

    def lam(self, t) -> Tensor:
        """Half log-SNR λ_t = log(α_t / σ_t) in nats, float64; +inf where σ_t = 0."""
        t = self.checked(t)
        return self.log_alpha(t) - self.log_sigma(t)

    def rates(self, t) -> tuple[Tensor, Tensor]:
        """(d log α/dt, dλ/dt), float64, the shape of `t`, by automatic differentiation of the formulas above.

        At a knot of a discrete chain: the slopes of the later interval.
        """
        with torch.inference_mode(False), torch.enable_grad():
            t = self.checked(t).detach().clone().requires_grad_()
            log_alpha = self.log_alpha(t) + 0 * t  # VE's is a constant, which has no graph
            slope, = torch.autograd.grad(log_alpha.sum(), t)
            log_sigma_slope, = torch.autograd.grad(self.log_sigma(t).sum(), t)
        return slope, slope - log_sigma_slope

    def level(self, t) -> Levels:
        """The levels at times `t`: shape () for one, (B,) for one per sample.

        Raises ValueError if a time lies outside [0, t_max] or is NaN.
        """
        t = self.checked(t)
        log_alpha, log_sigma = self.log_alpha(t), self.log_sigma(t)
        return Levels(t, log_alpha.exp(), log_sigma.exp(), log_alpha - log_sigma)

    def checked(self, t) -> Tensor:
        t = _float64(t)
        inside = (t >= 0) & (t <= self.t_max * (1 + 1e-12))
        if not bool(inside.all()):
            raise ValueError(f"t = {t[~inside].flatten()[:3].tolist()} is outside [0, {self.t_max:g}] of {self!r}")
        return t


def _log_alpha_of_lam(lam) -> Tensor:
    """log α where α² + σ² = 1, so α² = sigmoid(2λ)."""
    return -0.5 * softplus(-2 * _float64(lam))


@dataclass(frozen=True)
class LinearVP(Schedule):
    """β(t) linear in t (Song et al. 2021, eq. 33): log α_t = −¼ t² (β_max − β_min) − ½ t β_min."""

    beta_min: float = 0.1
    beta_max: float = 20.0

    def __post_init__(self):
        if not 0 < self.beta_min <= self.beta_max:
            raise ValueError(f"beta_min, beta_max = {self.beta_min}, {self.beta_max}: need 0 < beta_min <= beta_max")

    def log_alpha(self, t):
        t = _float64(t)
        return -0.25 * t**2 * (self.beta_max - self.beta_min) - 0.5 * t * self.beta_min

    def t_of_lam(self, lam):
        minus_log = -_log_alpha_of_lam(lam)
        half = 0.5 * self.beta_min
        return 2 * minus_log / (half + (half**2 + (self.beta_max - self.beta_min) * minus_log).sqrt())


@dataclass(frozen=True)
class SubVP(LinearVP):
    """α of `LinearVP` with σ_t = 1 − α_t² (Song et al. 2021, eq. 29): the noise of sub-VP, never more than VP's."""

    def log_sigma(self, t):
        return torch.log(-torch.expm1(2 * self.log_alpha(t)))

    def t_of_lam(self, lam):
        # e^λ = α/(1 − α²) gives α = 2 e^λ/(1 + √(1 + 4 e^{2λ})); LinearVP then finds the t of that α by its own λ
        lam = _float64(lam)
        root = (1 + 4 * (2 * lam).exp()).sqrt()
        log_alpha = math.log(2) + lam - torch.log1p(root)
        sigma = 2 / (1 + root)  # 1 − α² = α e^{−λ}
        return super().t_of_lam(log_alpha - 0.5 * sigma.log())


@dataclass(frozen=True)
class CosineVP(Schedule):
    """α_t = cos((t + s)/(1 + s)·π/2) / cos(s/(1 + s)·π/2) (Nichol and Dhariwal 2021, eq. 17).

    α vanishes at t = 1, so the schedule ends at the time `t_max` where λ = `lam_min`.
    """

    s: float = 0.008
    lam_min: float = -5.1

    def __post_init__(self):
        if not (self.s > 0 and math.isfinite(self.lam_min)):
            raise ValueError(f"s, lam_min = {self.s}, {self.lam_min}: need s > 0 and a finite lam_min")

    @property
    def t_max(self) -> float:
        return self.t_of_lam(self.lam_min).item()

    @property
    def _start(self) -> float:
        return self.s / (1 + self.s) * math.pi / 2

    def _angle(self, t):
        return (_float64(t) + self.s) / (1 + self.s) * math.pi / 2

    def log_alpha(self, t):
        return self._angle(t).cos().log() - math.log(math.cos(self._start))

    def log_sigma(self, t):
        # cos² b − cos² a = sin(a − b) sin(a + b) keeps every digit at small t
        a, b = self._angle(t), self._start
        return 0.5 * ((a - b).sin() * (a + b).sin()).log() - math.log(math.cos(b))

    def t_of_lam(self, lam):
        log_alpha, b = _log_alpha_of_lam(lam), self._start
        sigma2 = -torch.expm1(2 * log_alpha)
        angle = torch.atan2((sigma2 * math.cos(b) ** 2 + math.sin(b) ** 2).sqrt(), log_alpha.exp() * math.cos(b))
        return angle * 2 / math.pi * (1 + self.s) - self.s


@dataclass(frozen=True)
class VE(Schedule):
    """α_t = 1, σ_t = σ_min (σ_max/σ_min)^t (Song et al. 2021, eq. 30). σ_0 = σ_min > 0: t = 0 is not quite data."""

    sigma_min: float = 0.01
    sigma_max: float = 50.0
    t_end = 0.0

    def __post_init__(self):
        if not 0 < self.sigma_min < self.sigma_max:
            raise ValueError(f"sigma_min, sigma_max = {self.sigma_min}, {self.sigma_max}: need 0 < sigma_min < sigma_max")

    def log_alpha(self, t):
        return torch.zeros_like(_float64(t))

    def log_sigma(self, t):
        return math.log(self.sigma_min) + _float64(t) * math.log(self.sigma_max / self.sigma_min)

    def t_of_lam(self, lam):
        return (-_float64(lam) - math.log(self.sigma_min)) / math.log(self.sigma_max / self.sigma_min)


@dataclass(frozen=True)
class Flow(Schedule):
    """The straight path α_t = 1 − t, σ_t = t of rectified flow and flow matching (Lipman et al. 2023).

    λ_1 = −∞: a grid uniform in λ needs `t_start` < 1.
    """

    def log_alpha(self, t):
        return torch.log1p(-_float64(t))

    def log_sigma(self, t):
        return _float64(t).log()

    def t_of_lam(self, lam):
        return torch.sigmoid(-_float64(lam))


@dataclass(frozen=True, eq=False)
class DiscreteVP(Schedule):
    """A chain with noise rates β_1 … β_N, made continuous: log α is linear between the times t_n = n/N.

    `betas`: (N,) in (0, 1), so that ᾱ_n = Π_{i≤n}(1 − β_i) = α(n/N)² (Ho et al. 2020).
    """

    betas: Tensor

    def __post_init__(self):
        betas = _float64(self.betas).detach().clone()
        if betas.ndim != 1 or len(betas) < 1 or not bool(((betas > 0) & (betas < 1)).all()):
            raise ValueError(f"betas of shape {tuple(betas.shape)}: need a vector with every entry in (0, 1)")
        object.__setattr__(self, "betas", betas)
        steps = torch.cat([betas.new_zeros(1), 0.5 * torch.log1p(-betas)])
        object.__setattr__(self, "_log_alphas", steps.cumsum(0))

    def __repr__(self):
        return f"DiscreteVP(N={self.N}, betas={self.betas[0]:.3g}…{self.betas[-1]:.3g})"

    @classmethod
    def linear(cls, N: int = 1000, first: float = 1e-4, last: float = 0.02) -> "DiscreteVP":
        """β_n from 1e-4 to 0.02 in equal steps for N = 1000 (Ho et al. 2020); other N keep N·β fixed.

        Raises ValueError where N is so small that a rate would reach 1 (N <= 20 with the default rates).
        """
        if N < 1:
            raise ValueError(f"N = {N}: a chain has at least one step")
        return cls(torch.linspace(first, last, N, dtype=torch.float64) * (1000 / N))

    @classmethod
    def cosine(cls, N: int = 1000, s: float = 0.008, beta_max: float = 0.999) -> "DiscreteVP":
        """1 − β_n = ᾱ(n/N)/ᾱ((n−1)/N) of the cosine schedule, β clipped (Nichol and Dhariwal 2021, §3.2)."""
        if N < 1:
            raise ValueError(f"N = {N}: a chain has at least one step")
        angle = (torch.arange(N + 1, dtype=torch.float64) / N + s) / (1 + s) * math.pi / 2
        return cls((1 - (angle[1:].cos() / angle[:-1].cos()) ** 2).clamp(max=beta_max))

    @property
    def N(self) -> int:
        return len(self.betas)

    @property
    def t_end(self) -> float:
        return 1 / self.N

    def log_alpha(self, t):
        position = _float64(t) * self.N
        left = position.floor().clamp(0, self.N - 1)
        knots = self._log_alphas.to(position.device)
        low, high = knots[left.long()], knots[left.long() + 1]
        return low + (position - left) * (high - low)

    def t_of_lam(self, lam):
        log_alpha = _log_alpha_of_lam(lam)
        knots = self._log_alphas.to(log_alpha.device)
        right = torch.searchsorted(-knots, -log_alpha).clamp(1, self.N)
        low, high = knots[right - 1], knots[right]
        return (right - 1 + (log_alpha - low) / (high - low)) / self.N
