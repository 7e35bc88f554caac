"""What linear prediction leaves over: a change of variables that keeps the order, for densities and, losslessly, for integers."""
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class LinearPrediction:
    """The best linear prediction of x_k from x_<k, x̂_k = b_k + Σ_{j<k} A_kj x_j, and the standard deviation s_k of its error.

    For real x:       z_k = (x_k − x̂_k) / s_k,                  log p(x) = log p(z) − Σ_k log s_k
    For 8-bit x:      y_k = (x_k − round(x̂_k) + 128) mod 256,   p(x) = p(y): a bijection for every rounded prediction

    Either way the k-th variable is exchanged for one that determines it, given those before: conditionals stay conditionals.
    A and b are whole multiples of 1/4096, so that predictions from integers are exact and decoding inverts encoding on any machine.
    """

    weight: Tensor      # A (d, d), strictly lower triangular, float64
    bias: Tensor        # b (d,), float64
    scale: Tensor       # s (d,), float64

    UNIT = 4096

    @classmethod
    def fit(cls, x: Tensor) -> "LinearPrediction":
        """From data (N, d), N > d: if x = m + C z with C Cᵀ the covariance, then C⁻¹ (x − m) are the errors over their deviations.

        A variance of 1/12, that of rounding, is added. ValueError: another shape, N ≤ d, NaN.
        """
        if x.ndim != 2 or len(x) <= x.shape[1]:
            raise ValueError(f"x must have shape (N, d) with N > d, got {tuple(x.shape)}")
        x = x.double()
        if not torch.isfinite(x).all():
            raise ValueError("x must be finite, got NaN or infinity in it")
        mean = x.mean(0)
        factor = torch.linalg.cholesky(torch.cov(x.T) + torch.eye(x.shape[1], dtype=x.dtype, device=x.device) / 12)
        inverse = torch.linalg.inv(factor)
        weight = -(inverse * factor.diagonal()[:, None]).tril(-1)
        whole = lambda v: (v * cls.UNIT).round() / cls.UNIT
        return cls(whole(weight), whole(mean - weight @ mean), factor.diagonal().clone())

    def predict(self, x: Tensor) -> Tensor:
        """(B, d) → x̂ (B, d), float64."""
        return x.double() @ self.weight.T + self.bias

    def errors(self, x: Tensor) -> Tensor:
        """Real x (B, d) → z (B, d), float32. log p(x) = log p(z) − scale.log().sum()."""
        return ((x - self.predict(x)) / self.scale).float()

    def restore(self, z: Tensor) -> Tensor:
        """The inverse of `errors`, (B, d), float64, one variable after the other."""
        x = torch.zeros_like(z, dtype=torch.float64)
        for k in range(z.shape[1]):
            x[:, k] = x @ self.weight[k] + self.bias[k] + self.scale[k] * z[:, k]
        return x

    def encode(self, x: Tensor) -> Tensor:
        """8-bit x (B, d) → y (B, d), int64 in 0 … 255, 128 where the prediction was right."""
        return ((x.double() - (self.predict(x) + 0.5).floor() + 128) % 256).long()

    def decode(self, y: Tensor) -> Tensor:
        """The inverse of `encode`, (B, d) uint8, one variable after the other."""
        x = torch.zeros_like(y, dtype=torch.float64)
        for k in range(y.shape[1]):
            x[:, k] = (y[:, k] - 128 + (x @ self.weight[k] + self.bias[k] + 0.5).floor()) % 256
        return x.to(torch.uint8)
