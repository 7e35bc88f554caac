"""How probable the model finds data: the evidence lower bound, term by term, in nats and in bits per dimension."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .ancestral import _table, kernel
from .levels import Levels, diffuse
from .noise import normal_like


@dataclass(frozen=True, eq=False)
class Bound:
    """An evidence lower bound on log p(x_0), per sample, in nats: `nats` = last − prior − Σ steps.

    `prior` (B,) is KL(q(x_N | x_0) ‖ p(x_N)); `steps` (n−1, B) the KL of each step, noisy → clean; `last` (B,) is
    E log p(x_0 | x_1). Each is an unbiased estimate from one noise draw per level and sample.
    """

    prior: Tensor
    steps: Tensor
    last: Tensor
    dims: int

    @property
    def nats(self) -> Tensor:
        return self.last - self.prior - self.steps.sum(0)

    def bits_per_dim(self, bin_width: float | None = None) -> Tensor:
        """−nats in bits per dimension, (B,); see `bits_per_dim`."""
        return bits_per_dim(self.nats, self.dims, bin_width)


def bits_per_dim(log_prob: Tensor, dims: int, bin_width: float | None = None) -> Tensor:
    """−log p / (d ln 2), the shape of `log_prob` (nats).

    For a probability of discrete data leave `bin_width` out. For a density give the width of a bin in the units of x: the
    probability of a bin is density · width^d, so log₂(1/width) bits are added (7 for 8-bit images scaled by 1/128).
    """
    if dims < 1:
        raise ValueError(f"dims = {dims}: need at least one dimension")
    bits = -log_prob / (dims * math.log(2))
    return bits if bin_width is None else bits - math.log2(bin_width)


def dequantise(images: Tensor, noise: Tensor) -> Tensor:
    """8-bit pixels v spread evenly over their bins: (v + u − 128)/127.5, u in [0, 1); the dtype and shape of `noise`.

    In units of `data.to_unit`, which puts v at the middle of its bin; a bin is 2/255 wide, so for the density of the result
    give `bits_per_dim` that width (6.994 bits). By Jensen's inequality E_u log p is at most the log-probability of the image
    (Theis et al. 2016, §3.1). Raises ValueError unless `images` is uint8 and `noise` has its shape, in [0, 1).
    """
    if images.dtype != torch.uint8 or noise.shape != images.shape:
        raise ValueError(f"images of dtype {images.dtype} and shape {tuple(images.shape)}, noise of shape {tuple(noise.shape)}: "
                         "need uint8 and one number per pixel")
    if not bool(((noise >= 0) & (noise < 1)).all()):
        raise ValueError("noise has entries outside [0, 1): it says where in its bin a pixel lies")
    return (images.to(noise) + noise - 128) / 127.5


def elbo(denoiser, x0: Tensor, grid: Levels, eta: float = 1.0, variance=None, last_variance: float | None = None,
         bins: int | None = None, prior: Callable[[Tensor], Tensor] | None = None,
         generator: torch.Generator | None = None, noise: Tensor | None = None) -> Bound:
    """The bound log p(x_0) ≥ E log p(x_0 | x_1) − KL(q(x_N | x_0) ‖ p(x_N)) − Σ E KL(q_ω(x_s | x_t, x_0) ‖ p(x_s | x_t)).

    (Ho et al. 2020, eq. 5, for any η > 0 and any c.) `x0`: (B, …); `grid` must end at the data, σ = 0. Both kernels of a step are
    Gaussian with means γ x_0 + κ x_t and γ x̂_0 + κ x_t and variances ω² and ω² + γ² c, so its KL needs only x_0 − x̂_0.

    `variance`: c as in `ancestral`. `last_variance` replaces c in p(x_0 | x_1) = N(x̂_0, c). With `bins` that term is the
    probability of the pixel's bin, for data in [−1, 1] on `bins` equally spaced values, the outermost open to ±∞; without, a
    density. `prior` is log p(x_N) as a function of (B, …); by default N(0, σ_N² I) with its KL in closed form.
    `noise` (of the shape of x0) is used at every level instead of fresh draws from `generator`.

    Raises ValueError for a grid that does not end at the data, η ≤ 0 (KL to a point is infinite), c = 0 in the last term.
    """
    if not eta > 0:
        raise ValueError(f"eta = {eta}: the bound needs eta > 0, with eta = 0 every step is a point mass")
    if grid.sigma[-1] != 0:
        raise ValueError(f"grid ends at σ = {grid.sigma[-1]:.3g}: the bound is on log p(x_0), use to_zero=True")
    steps, table = kernel(grid, eta), _table(variance, grid)
    dims, B = x0[0].numel(), len(x0)

    def total(values):
        return values.expand(x0.shape).reshape(B, -1).sum(1)

    def draw():
        return normal_like(x0, generator) if noise is None else noise

    kls = []
    for i, here in enumerate(grid[:-1]):
        eps = draw()
        x = diffuse(x0, here, eps)
        if i == 0:
            prior_kl = _prior_kl(x0, x, eps, here, prior, total)
        belief = denoiser(x, here)
        c = table[i] if table is not None else belief.var
        gamma, omega2 = steps.gamma[i], steps.omega2[i]
        if i < len(grid) - 2:
            if table is None and belief.cov is not None:
                kls.append(_full_kl((x0 - belief.mean).reshape(B, -1), belief.cov, gamma, omega2))
                continue
            excess = gamma**2 * (0.0 if c is None else c) / omega2  # how much wider the model's kernel is, minus 1
            excess = torch.as_tensor(excess).to(x0)
            apart = gamma**2 / omega2 * (x0 - belief.mean) ** 2
            kls.append(0.5 * total((apart - excess) / (1 + excess) + torch.log1p(excess)))
    if last_variance is not None:
        c = last_variance
    if c is None or not bool((torch.as_tensor(c) > 0).all()):
        raise ValueError("the last term p(x_0 | x_1) has variance 0: give variance or last_variance > 0")
    if last_variance is None and table is None and belief.cov is not None:
        last = _full_log_normal((x0 - belief.mean).reshape(B, -1), belief.cov)
    else:
        c = torch.as_tensor(c, dtype=torch.float64).to(x0.device)
        last = total(log_normal(x0, belief.mean, c) if bins is None else log_bin(x0, belief.mean, c, bins))
    return Bound(prior_kl, torch.stack(kls) if kls else x0.new_zeros(0, B), last, dims)


def _prior_kl(x0, x, eps, level, prior, total):
    if prior is None:
        return 0.5 * total((level.alpha / level.sigma) ** 2 * x0**2)
    log_q = total(-0.5 * eps**2 - 0.5 * math.log(2 * math.pi) - level.sigma.log())
    return log_q - prior(x)


def _full_kl(apart, cov, gamma, omega2):
    """KL between N(γ x_0, ω² I) and N(γ x̂_0, ω² I + γ² C), per sample."""
    excess = gamma**2 / omega2 * cov
    wide = excess + torch.eye(cov.shape[-1]).to(cov)
    root = torch.linalg.cholesky(wide)
    whitened = torch.linalg.solve_triangular(root, apart.unsqueeze(-1), upper=False).squeeze(-1)
    trace = -torch.linalg.solve(wide, excess).diagonal(dim1=1, dim2=2).sum(1)
    log_det = 2 * root.diagonal(dim1=1, dim2=2).log().sum(1)
    return 0.5 * (gamma**2 / omega2 * (whitened**2).sum(1) + trace + log_det)


def _full_log_normal(apart, cov):
    root = torch.linalg.cholesky(cov)
    whitened = torch.linalg.solve_triangular(root, apart.unsqueeze(-1), upper=False).squeeze(-1)
    return -(0.5 * whitened**2 + root.diagonal(dim1=1, dim2=2).log() + 0.5 * math.log(2 * math.pi)).sum(1)


def log_normal(x: Tensor, mean: Tensor, var: Tensor | float) -> Tensor:
    """log N(x; mean, var) per coordinate, in nats; arguments broadcast."""
    var = torch.as_tensor(var, dtype=None if isinstance(var, Tensor) else torch.float64).to(x.device)
    return -0.5 * ((x - mean) ** 2 / var + (2 * math.pi * var).log())


def log_bin(x: Tensor, mean: Tensor, var: Tensor | float, bins: int = 256) -> Tensor:
    """log of the mass that N(mean, var) puts on the bin around x, per coordinate, in nats, float64.

    Bins are centred on `bins` equally spaced values of [−1, 1]; the outermost reach to ±∞ (Ho et al. 2020, eq. 13). It is a
    difference of two log_ndtr, taken in whichever tail keeps its digits. Raises ValueError for values between the bins.
    """
    if bins < 2:
        raise ValueError(f"bins = {bins}: need at least 2")
    x, mean = x.double(), mean.double()
    index = (x + 1) * (bins - 1) / 2
    if not bool(((index - index.round()).abs() < 1e-3).all()):
        raise ValueError(f"x is not on the {bins} values of [−1, 1]: scale pixels as 2 v/{bins - 1} − 1")
    std = torch.as_tensor(var, dtype=torch.float64).to(x.device).sqrt()
    half = 1 / (bins - 1)
    low = torch.where(index < 0.5, -torch.inf, (x - half - mean) / std)
    high = torch.where(index > bins - 1.5, torch.inf, (x + half - mean) / std)
    flip = low > -high  # the bin lies to the right of the mean: mirror it
    low, high = torch.where(flip, -high, low), torch.where(flip, -low, high)
    log_low, log_high = torch.special.log_ndtr(low), torch.special.log_ndtr(high)
    return log_high + torch.log(-torch.expm1(log_low - log_high))
