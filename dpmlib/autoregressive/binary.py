"""Binary data, one private set of weights per conditional: logistic regressions (FVSBN) and one-layer networks (MLP)."""
import torch
from torch import nn

from .base import Ordered, at_least, bernoulli_log_prob, check_binary, seeded


class FVSBN(Ordered):
    """Fully visible sigmoid belief network: every conditional is a logistic regression on what came before.

        p(x_i = 1 | x_<i) = σ(c_i + Σ_{j<i} α_j^{(i)} x_j)           i parameters each, d(d + 1)/2 in all

    Neal (1992), Frey et al. (1996). Weights start at zero, a fair coin per coordinate: the log-likelihood is concave, so the start
    does not matter. Only the d(d − 1)/2 weights that exist are stored, row after row of the strictly lower triangle.
    """

    def __init__(self, d, order=None):
        super().__init__(d, order)
        self.alpha = nn.Parameter(torch.zeros(d * (d - 1) // 2))
        self.c = nn.Parameter(torch.zeros(d))

    def matrix(self):
        """The weights as a (d, d) strictly lower triangular matrix in the model's order: row i holds α^{(i)}."""
        return self.alpha.new_zeros(self.d, self.d).index_put(lower(self), self.alpha)

    def logits(self, x):
        x = self.arrange(check_binary(x, self.d, self.c.dtype))
        return self.restore(x @ self.matrix().T + self.c)

    def conditionals(self, x):
        """p(x_i = 1 | what precedes i in the order): (B, d)."""
        return self.logits(x).sigmoid()

    def log_prob(self, x):
        return bernoulli_log_prob(self.logits(x), x.to(self.c.dtype)).sum(-1)

    @torch.no_grad()
    def sample(self, n, generator):
        alpha = self.matrix()
        return self.restore(ancestral_bits(lambda i, x: x @ alpha[i, :i] + self.c[i], n, self.c, generator))


class AutoregressiveMLP(Ordered):
    """Every conditional has a network of its own, with one hidden layer of L units.

        h_i = σ(A_i x_<i + b_i),   p(x_i = 1 | x_<i) = σ(α_iᵀ h_i + c_i)       L d(d − 1)/2 + 2dL + d parameters

    Bengio & Bengio (2000) without their sharing. A is stored as d(d − 1)/2 rows of length L, one for each pair j < i.
    """

    def __init__(self, d, hidden, order=None, generator=None):
        super().__init__(d, order)
        g = seeded(generator)
        fan_in = torch.arange(1, d).repeat_interleave(torch.arange(1, d))[:, None]
        self.hidden = at_least(1, "hidden", hidden)
        self.A = nn.Parameter(torch.randn(d * (d - 1) // 2, hidden, generator=g) / fan_in.sqrt())
        self.b = nn.Parameter(torch.randn(d, hidden, generator=g))
        self.alpha = nn.Parameter(torch.randn(d, hidden, generator=g) / hidden ** 0.5)
        self.c = nn.Parameter(torch.zeros(d))

    def logits(self, x):
        x = self.arrange(check_binary(x, self.d, self.c.dtype))
        i, j = lower(self)
        # all d first layers as one (d, d·L) matrix, zero wherever a conditional must not look
        A = self.A.new_zeros(self.d, self.d, self.hidden).index_put((j, i), self.A).flatten(1)
        h = torch.sigmoid((x @ A).unflatten(1, (self.d, -1)) + self.b)
        return self.restore((h * self.alpha).sum(-1) + self.c)

    def conditionals(self, x):
        """p(x_i = 1 | what precedes i in the order): (B, d)."""
        return self.logits(x).sigmoid()

    def log_prob(self, x):
        return bernoulli_log_prob(self.logits(x), x.to(self.c.dtype)).sum(-1)

    @torch.no_grad()
    def sample(self, n, generator):
        def logit(i, x):
            rows = slice(i * (i - 1) // 2, i * (i + 1) // 2)
            return torch.sigmoid(x @ self.A[rows] + self.b[i]) @ self.alpha[i] + self.c[i]
        return self.restore(ancestral_bits(logit, n, self.c, generator))


def lower(model):
    """Index pairs (i, j) with j < i, row after row."""
    return tuple(torch.tril_indices(model.d, model.d, -1, device=model.order.device))


def ancestral_bits(logit, n, like, generator):
    """Bits one after the other: x_i ~ Bernoulli(σ(logit(i, x_<i))). Returns (n, d) in the model's order, dtype and device of `like`."""
    d = len(like)
    u = torch.rand(at_least(1, "n", n), d, generator=generator, device=like.device, dtype=like.dtype)
    x = torch.zeros_like(u)
    for i in range(d):
        x[:, i] = (u[:, i] < logit(i, x[:, :i]).sigmoid()).to(like.dtype)
    return x
