"""What is believed about x_0 once x_t is seen, and the languages in which a network may say it."""

from dataclasses import dataclass

from torch import Tensor

from .levels import Levels, combine, per_sample

# out = p·x_0 + q·ε, as (p, q) of (α, σ)
PREDICTIONS = {
    "eps": lambda alpha, sigma: (0 * alpha, 1 + 0 * alpha),
    "x0": lambda alpha, sigma: (1 + 0 * alpha, 0 * alpha),
    "v": lambda alpha, sigma: (-sigma, alpha),
    "flow": lambda alpha, sigma: (-1 + 0 * alpha, 1 + 0 * alpha),
    "score": lambda alpha, sigma: (0 * alpha, -1 / sigma),
}


def coefficients(predicts: str, level: Levels) -> tuple[Tensor, Tensor]:
    """The row (p, q) of a prediction type at `level`: out = p·x_0 + q·ε. ValueError for an unknown type."""
    if predicts not in PREDICTIONS:
        raise ValueError(f"predicts = {predicts!r}: choose one of {', '.join(map(repr, PREDICTIONS))}")
    return PREDICTIONS[predicts](level.alpha, level.sigma)


def target(x0: Tensor, noise: Tensor, level: Levels, predicts: str) -> Tensor:
    """What a network of this prediction type regresses on: p·x_0 + q·ε, the shape of `x0`."""
    p, q = coefficients(predicts, level)
    return combine(p, x0, q, noise)


def mean_from_output(out: Tensor, x: Tensor, level: Levels, predicts: str) -> Tensor:
    """E[x_0 | x_t] = (q·x_t − σ·out)/(α q − σ p), the shape of `x`."""
    p, q = coefficients(predicts, level)
    whole = level.alpha * q - level.sigma * p
    return combine(q / whole, x, -level.sigma / whole, out)


@dataclass(frozen=True, eq=False)
class Posterior:
    """The belief about x_0 given x_t: `mean` (B, …) and, where known, a variance.

    `var` broadcasts against `x` (isotropic or per coordinate); `cov` is the full covariance (B, d, d) of the flattened
    x_0. `x` and `level` are what was seen; `eps`, `score`, `v` and `flow` are affine views of the mean through them
    and lose their meaning where σ = 0.
    """

    mean: Tensor
    var: Tensor | float | None = None
    cov: Tensor | None = None
    x: Tensor | None = None
    level: Levels | None = None

    @property
    def eps(self) -> Tensor:
        """E[ε | x_t] = (x_t − α E[x_0 | x_t]) / σ."""
        if self.x is None or self.level is None:
            raise ValueError("eps, score, v and flow need x and level: Posterior(mean, x=…, level=…)")
        alpha, sigma = per_sample(self.level.alpha, self.x), per_sample(self.level.sigma, self.x)
        return (self.x - alpha * self.mean) / sigma

    @property
    def score(self) -> Tensor:
        """∇ log q_t(x_t) = −E[ε | x_t]/σ (Tweedie)."""
        eps = self.eps
        return -eps / per_sample(self.level.sigma, self.x)

    @property
    def v(self) -> Tensor:
        """E[α ε − σ x_0 | x_t] (Salimans and Ho 2022)."""
        eps = self.eps
        return per_sample(self.level.alpha, self.x) * eps - per_sample(self.level.sigma, self.x) * self.mean

    @property
    def flow(self) -> Tensor:
        """E[ε − x_0 | x_t], the velocity of the straight path."""
        return self.eps - self.mean
