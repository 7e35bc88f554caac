"""Normalising flows from affine couplings (Dinh et al. 2017, RealNVP): exact density, exact inverse, one pass each way.

Not to be confused with the schedule ``dpmlib.Flow`` (the straight path of flow matching).
"""
import math

import torch
from torch import Tensor, nn

from .noise import normal_like


def mlp(inputs: int, outputs: int, width: int = 64, depth: int = 2, *, generator: torch.Generator,
        activation: type[nn.Module] = nn.SiLU, spread: float = 1.0, zero: bool = False) -> nn.Sequential:
    """A plain perceptron ``(B, inputs) -> (B, outputs)`` with `depth` hidden layers of `width` units, drawn from `generator` alone.

    Weights are uniform in ±√(3/fan_in), so that unit inputs give unit outputs, and biases in ±1; both times `spread` in the first
    layer. A network that reads few coordinates wants spread > 1: its units then differ within the data instead of all
    bending at the origin. ``zero=True`` starts the last layer at 0, so that the output is 0 before training.
    """
    for name, value in (("inputs", inputs), ("outputs", outputs), ("width", width), ("depth", depth)):
        if int(value) != value or value < 1:
            raise ValueError(f"{name} = {value}: need an integer ≥ 1")
    uniform = lambda *shape: 2 * torch.rand(shape, generator=generator) - 1
    sizes, layers = [inputs, *[width] * depth, outputs], []
    for i, o in zip(sizes, sizes[1:]):
        layer, scale = nn.utils.skip_init(nn.Linear, i, o), 1.0 if layers else spread
        with torch.no_grad():
            layer.weight.copy_(scale * math.sqrt(3 / i) * uniform(o, i))
            layer.bias.copy_(scale * uniform(o))
        layers += [layer, activation()]
    if zero:
        nn.init.zeros_(layers[-2].weight)
        nn.init.zeros_(layers[-2].bias)
    return nn.Sequential(*layers[:-1])


def standard_normal_log_prob(z: Tensor) -> Tensor:
    """log N(z; 0, I) in nats, ``(B, ...) -> (B,)``."""
    return -0.5 * (z ** 2 + math.log(2 * math.pi)).flatten(1).sum(1)


class AffineCoupling(nn.Module):
    """y = b x + (1 − b)(x exp(s(b x)) + m(b x)), log|det ∂y/∂x| = Σ (1 − b) s      (Dinh et al. 2017, eq. 9).

    keep: ``(d,)`` of 0 and 1, the mask b of the coordinates that pass unchanged. net: ``(B, d) -> (B, 2 d)`` gives s and m.
    s is squashed to (−bound, bound): no single layer can stretch by more than e^bound, which keeps early training finite
    and both directions accurate.
    """

    def __init__(self, keep: Tensor, net: nn.Module, bound: float = 2.0):
        super().__init__()
        self.register_buffer("keep", torch.as_tensor(keep, dtype=torch.get_default_dtype()))
        if self.keep.ndim != 1 or not 0 < self.keep.sum() < len(self.keep) or not ((self.keep == 0) | (self.keep == 1)).all():
            raise ValueError(f"keep = {keep.tolist()}: need a vector of 0 and 1 with at least one of each")
        if not bound > 0:
            raise ValueError(f"bound = {bound}: need bound > 0")
        self.net, self.bound = net, bound

    def scale_and_shift(self, kept):
        s, m = self.net(kept).chunk(2, dim=1)
        change = 1 - self.keep
        return change * self.bound * torch.tanh(s / self.bound), change * m

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """``(B, d) -> (B, d), (B,)``: the image y and log|det ∂y/∂x|."""
        s, m = self.scale_and_shift(self.keep * x)
        return x * s.exp() + m, s.sum(1)

    def inverse(self, y: Tensor) -> Tensor:
        """``(B, d) -> (B, d)``. The network is never inverted: what it reads is what the layer left alone."""
        s, m = self.scale_and_shift(self.keep * y)
        return (y - m) * (-s).exp()


class CouplingFlow(nn.Module):
    """z = f_L(… f_1(x)) with z ~ N(0, I), hence log p(x) = log N(f(x); 0, I) + Σ_l log|det ∂f_l|.

    d: dimension ≥ 2. layers: number of couplings; their masks alternate, so two of them move every coordinate.
    The last layer of every network starts at zero, so an untrained flow is the identity and p(x) = N(x; 0, I).
    """

    def __init__(self, d: int, layers: int = 8, width: int = 64, depth: int = 2, bound: float = 2.0, *,
                 generator: torch.Generator):
        super().__init__()
        if int(d) != d or d < 2:
            raise ValueError(f"d = {d}: need an integer ≥ 2, since a coupling reads one part and changes another")
        if int(layers) != layers or layers < 1:
            raise ValueError(f"layers = {layers}: need an integer ≥ 1")
        self.d = d
        self.couplings = nn.ModuleList(
            AffineCoupling((torch.arange(d) + i) % 2, mlp(d, 2 * d, width, depth, generator=generator,
                                                                activation=nn.Tanh, spread=3.0, zero=True), bound)
            for i in range(layers))

    def _check(self, name, x):
        if x.ndim != 2 or x.shape[1] != self.d:
            raise ValueError(f"{name} has shape {tuple(x.shape)}: need (B, {self.d})")
        if not torch.isfinite(x).all():
            raise ValueError(f"{name} holds NaN or infinity")

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """``(B, d) -> (B, d), (B,)``: latent z and log|det ∂z/∂x|. ValueError for another shape, NaN or infinity."""
        self._check("x", x)
        total = x.new_zeros(len(x))
        for coupling in self.couplings:
            x, logdet = coupling(x)
            total = total + logdet
        return x, total

    def inverse(self, z: Tensor) -> Tensor:
        """``(B, d) -> (B, d)``: the data point that `forward` maps to z."""
        self._check("z", z)
        for coupling in reversed(self.couplings):
            z = coupling.inverse(z)
        return z

    def log_prob(self, x: Tensor) -> Tensor:
        """Exact log p(x) in nats, ``(B, d) -> (B,)``."""
        z, logdet = self(x)
        return standard_normal_log_prob(z) + logdet

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """n draws ``(n, d)``: one Gaussian draw and one inverse pass."""
        if int(n) != n or n < 1:
            raise ValueError(f"n = {n}: need an integer ≥ 1")
        return self.inverse(normal_like(next(self.parameters()).new_empty(n, self.d), generator))
