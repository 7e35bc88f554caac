"""Oracles: distributions whose diffusion is known in closed form, with the Denoiser's own signature.

If x_0 ~ Σ_k w_k N(μ_k, Σ_k), then x_t ~ Σ_k w_k N(α μ_k, α² Σ_k + σ² I), and score, density, posterior mean and
posterior covariance at every level follow by Gaussian algebra, done here in the eigenbasis of each Σ_k.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from .levels import Levels, diffuse, per_sample
from .posterior import Posterior

COVARIANCES = (None, "isotropic", "diagonal", "full")


def _check_covariance_choice(covariance):
    if covariance not in COVARIANCES:
        raise ValueError(f"covariance = {covariance!r}: choose one of {COVARIANCES}")


class GaussianMixture:
    """Σ_k w_k N(μ_k, Σ_k) and everything that diffusion makes of it, exactly.

    `weights` (K,) positive, normalised here; `means` (K, *event); `covariances` (K, d, d) symmetric positive definite, d the
    size of an event. Results have the dtype of the arguments they are asked with; give float64 to prove theorems.

    Raises ValueError for shapes that do not fit, NaN, weights that are not positive, covariances that are not
    symmetric positive definite.
    """

    def __init__(self, weights, means, covariances):
        weights, means, covariances = (torch.as_tensor(v, dtype=torch.float64) for v in (weights, means, covariances))
        K, self.event = len(means), tuple(means.shape[1:])
        d = math.prod(self.event)
        if weights.shape != (K,) or covariances.shape != (K, d, d) or K < 1:
            raise ValueError(f"weights {tuple(weights.shape)}, means {tuple(means.shape)}, covariances {tuple(covariances.shape)}: "
                             "need (K,), (K, *event), (K, d, d) with d the size of an event")
        for name, value in (("weights", weights), ("means", means), ("covariances", covariances)):
            if not bool(value.isfinite().all()):
                raise ValueError(f"{name} holds NaN or infinity")
        if not bool((weights > 0).all()):
            raise ValueError(f"weights = {weights.tolist()[:8]}: every weight must be positive")
        if not torch.allclose(covariances, covariances.mT, rtol=1e-8, atol=1e-12):
            raise ValueError("covariances are not symmetric")
        self.variances, self.bases = torch.linalg.eigh(covariances)  # (K, d) ascending, (K, d, d) columns
        if not bool((self.variances > 0).all()):
            raise ValueError(f"covariances are not positive definite: smallest eigenvalue {self.variances.min():.3g}")
        self.weights, self.means, self.covariances = weights / weights.sum(), means.reshape(K, d), covariances

    def sample(self, n: int, generator: torch.Generator, dtype=torch.float64, return_labels: bool = False):
        """n independent draws, (n, *event); with `return_labels` also the component of each, (n,)."""
        if n < 1:
            raise ValueError(f"n = {n}: draw at least one sample")
        labels = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        z = torch.randn(n, self.means.shape[1], generator=generator, dtype=torch.float64, device=self.means.device)
        x = torch.empty_like(z)
        for k in range(len(self.means)):
            chosen = labels == k
            x[chosen] = self.means[k] + (z[chosen] * self.variances[k].sqrt()) @ self.bases[k].T
        x = x.reshape(n, *self.event).to(dtype)
        return (x, labels) if return_labels else x

    def log_prob(self, x: Tensor, level: Levels | None = None) -> Tensor:
        """log q_t(x) in nats, (B,), for x (B, *event) at `level` (() or (B,)); without a level the data's own density."""
        return torch.logsumexp(self._resolve(x, level)[0], dim=1)

    def denoiser(self, covariance: str | None = None) -> Callable[..., Posterior]:
        """The exact denoiser (x, level) -> Posterior.

        `covariance` asks for second moments too: "isotropic" (mean of the diagonal, var (B, 1, …)), "diagonal" (var of
        the shape of x) or "full" (cov (B, d, d), and var its diagonal).
        """
        _check_covariance_choice(covariance)
        return lambda x, level: self._posterior(x, level, covariance)

    def _resolve(self, x, level):
        """Log joint of x and component (B, K); x in each eigenbasis, centred (B, K, d); the marginal variances."""
        if x.ndim < 1 or tuple(x.shape[1:]) != self.event:
            raise ValueError(f"x of shape {tuple(x.shape)}: need (B, {', '.join(map(str, self.event))})")
        flat = x.reshape(len(x), -1)
        weights, means, variances, bases = (v.to(flat) for v in (self.weights, self.means, self.variances, self.bases))
        if level is None:
            alpha, sigma2 = flat.new_ones(1, 1, 1), flat.new_zeros(1, 1, 1)
        else:
            alpha, sigma2 = (per_sample(v.reshape(-1), flat[: v.numel()]).to(flat).reshape(-1, 1, 1)
                             if v.ndim == 0 else per_sample(v, flat).reshape(-1, 1, 1) for v in (level.alpha, level.sigma**2))
        marginal = alpha**2 * variances + sigma2  # (1 or B, K, d)
        # rotate x and α μ separately: one product (B, d) @ (d, K d) instead of K of them
        rotated = torch.einsum("bd,kde->bke", flat, bases) - alpha * torch.einsum("kd,kde->ke", means, bases)
        log_joint = weights.log() - 0.5 * (rotated**2 / marginal + marginal.log() + math.log(2 * math.pi)).sum(-1)
        return log_joint, rotated, marginal, alpha, sigma2

    def _posterior(self, x, level, covariance):
        log_joint, rotated, marginal, alpha, sigma2 = self._resolve(x, level)
        bases, variances = self.bases.to(rotated), self.variances.to(rotated)
        share = torch.softmax(log_joint, dim=1)  # (B, K): which component, given x_t
        means = self.means.to(rotated) + torch.einsum("bke,kde->bkd", alpha * variances / marginal * rotated, bases)
        mean = torch.einsum("bk,bkd->bd", share, means)
        if covariance is None:
            return Posterior(mean.reshape(x.shape), x=x, level=level)
        within = variances * sigma2 / marginal  # (1 or B, K, d): eigenvalues of Cov[x_0 | x_t, k]
        apart = means - mean.unsqueeze(1)
        if covariance == "full":
            cov = torch.einsum("bk,kde,bke,kfe->bdf", share, bases, within.expand_as(apart), bases)
            cov = cov + torch.einsum("bk,bkd,bkf->bdf", share, apart, apart)
            var = cov.diagonal(dim1=1, dim2=2)
            return Posterior(mean.reshape(x.shape), var.reshape(x.shape), cov, x, level)
        var = torch.einsum("bk,kde,bke->bd", share, bases**2, within.expand_as(apart))
        var = (var + torch.einsum("bk,bkd->bd", share, apart**2)).reshape(x.shape)
        if covariance == "isotropic":
            var = var.mean(dim=tuple(range(1, x.ndim)), keepdim=True)
        return Posterior(mean.reshape(x.shape), var, x=x, level=level)


class Gaussian(GaussianMixture):
    """N(μ, Σ): a mixture of one component. `mean` (*event), `covariance` (d, d)."""

    def __init__(self, mean, covariance):
        mean, covariance = torch.as_tensor(mean), torch.as_tensor(covariance)
        super().__init__(torch.ones(1), mean.unsqueeze(0), covariance.unsqueeze(0))

    @classmethod
    def fit(cls, data: Tensor, ridge: float = 0.0) -> "Gaussian":
        """Maximum likelihood on `data` (n, *event), plus `ridge` on the diagonal; needs n > d or a ridge > 0."""
        if data.ndim < 2 or len(data) < 2:
            raise ValueError(f"data of shape {tuple(data.shape)}: need (n, *event) with n >= 2")
        flat = data.reshape(len(data), -1).double()
        mean = flat.mean(0)
        centred = flat - mean
        covariance = centred.T @ centred / len(flat) + ridge * torch.eye(flat.shape[1], dtype=torch.float64)
        return cls(mean.reshape(data.shape[1:]), covariance)


class Empirical:
    """The uniform distribution on a finite data set, (M, *event): the true optimum for a network trained on it.

    E[x_0 | x_t] = Σ_i softmax_i(−‖x_t − α x_i‖² / 2σ²) x_i. Work and memory are O(B·M + B·d) per call.
    """

    def __init__(self, data: Tensor):
        if data.ndim < 2 or len(data) < 1 or not data.is_floating_point() or not bool(data.isfinite().all()):
            raise ValueError(f"data of shape {tuple(data.shape)} and dtype {data.dtype}: need finite floating-point (M, *event), M >= 1")
        self.data, self.event = data.reshape(len(data), -1), tuple(data.shape[1:])
        self.squares = torch.cat([(part.double() ** 2).sum(1) for part in self.data.split(4096)])

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """n points of the data set, drawn with replacement, (n, *event)."""
        if n < 1:
            raise ValueError(f"n = {n}: draw at least one sample")
        chosen = torch.randint(len(self.data), (n,), generator=generator)
        return self.data[chosen].reshape(n, *self.event)

    def log_prob(self, x: Tensor, level: Levels) -> Tensor:
        """log q_t(x) in nats, (B,): a mixture of M Gaussians of variance σ². Needs σ > 0."""
        flat = self._flat(x)
        alpha, sigma2 = self._columns(level, flat)
        d = flat.shape[1]
        exponent = self._logits(flat, alpha, sigma2) - ((flat.double() ** 2).sum(1, keepdim=True) / (2 * sigma2))
        normaliser = 0.5 * d * (2 * math.pi * sigma2).log().squeeze(1)
        return (torch.logsumexp(exponent, 1) - math.log(len(self.data)) - normaliser).to(x.dtype)

    def denoiser(self, covariance: str | None = None) -> Callable[..., Posterior]:
        """The exact denoiser (x, level) -> Posterior; `covariance` None, "isotropic" or "diagonal" fills `var`."""
        if covariance == "full":
            raise ValueError("covariance = 'full': Empirical gives 'isotropic' or 'diagonal' only")
        _check_covariance_choice(covariance)
        return lambda x, level: self._posterior(x, level, covariance)

    def share(self, x: Tensor, level: Levels) -> Tensor:
        """p(i | x_t), (B, M): how much each training point is believed to be the origin of x_t. float64."""
        flat = self._flat(x)
        return torch.softmax(self._logits(flat, *self._columns(level, flat)), dim=1)

    def _flat(self, x):
        if tuple(x.shape[1:]) != self.event:
            raise ValueError(f"x of shape {tuple(x.shape)}: need (B, {', '.join(map(str, self.event))})")
        return x.reshape(len(x), -1)

    @staticmethod
    def _columns(level, flat):
        if level.t.ndim:
            per_sample(level.t, flat)  # checks the shape
        return level.alpha.reshape(-1, 1).to(flat.device), (level.sigma**2).reshape(-1, 1).to(flat.device)

    def _logits(self, flat, alpha, sigma2, refine: int = 16):
        """−‖x − α x_i‖²/2σ² + ‖x‖²/2σ² for all i, (B, M) float64.

        The products are taken in the data's dtype. At small σ their rounding would decide which point wins, so the
        `refine` best are computed again in float64.
        """
        products = (flat.to(self.data) @ self.data.T).double()
        squares = self.squares.to(products.device)
        logits = (alpha * products - 0.5 * alpha**2 * squares) / sigma2
        if self.data.dtype != torch.float64:
            best = logits.topk(min(refine, len(self.data)), dim=1).indices
            exact = torch.einsum("bd,bjd->bj", flat.double(), self.data[best].double())
            logits.scatter_(1, best, (alpha * exact - 0.5 * alpha**2 * squares[best]) / sigma2)
        return logits

    def _posterior(self, x, level, covariance):
        flat = self._flat(x)
        share = torch.softmax(self._logits(flat, *self._columns(level, flat)), dim=1).to(self.data)
        mean = (share @ self.data).to(flat)
        if covariance is None:
            return Posterior(mean.reshape(x.shape), x=x, level=level)
        var = ((share @ self.data**2).to(flat) - mean**2).clamp(min=0).reshape(x.shape)
        if covariance == "isotropic":
            var = var.mean(dim=tuple(range(1, x.ndim)), keepdim=True)
        return Posterior(mean.reshape(x.shape), var, x=x, level=level)


def forward_sample(oracle, n: int, level: Levels, generator: torch.Generator) -> Tensor:
    """n draws of x_t: x_0 from the oracle, then noise. (n, *event)."""
    x0 = oracle.sample(n, generator)
    return diffuse(x0, level, torch.randn(x0.shape, generator=generator, dtype=x0.dtype, device=x0.device))
