"""NADE and RNADE: one weight matrix shared by all conditionals, so that a pass over d coordinates costs O(dL).

What the k-th hidden layer needs is what the one before it had, and one column of W more:

    a_1 = b,   a_{k+1} = a_k + W_{·,k} x_k,   h_k = σ(a_k)                    Larochelle & Murray (2011), algorithm 1

`scan` runs this recurrence over blocks of coordinates: between blocks it carries a, inside a block it is a masked matrix product. With
block = 1 it is the paper's loop; with block = d it is a masked network in the manner of MADE, and costs O(d²L).
"""
from typing import NamedTuple

import torch
from torch import nn
from torch.nn.functional import pad
from torch.utils.checkpoint import checkpoint

from .base import Ordered, at_least, bernoulli_log_prob, check_binary, check_rows, seeded
from .binary import ancestral_bits


def scan(x, W, b, readout, *rows, block=16, save_memory=False):
    """Yield readout(h, *rows of the block) for one block of T coordinates after the other, h (T, B, L) their hidden layers.

    x (B, d), W (d − 1, L) with row k the column W_{·,k} of the papers, b (L,); `rows` are tensors with d rows, such as the output
    weights. Work O(B·d·L·block), working memory O(B·L·block), whatever d is. With `save_memory`, autograd keeps one a per block
    and computes the rest a second time when it needs it.
    """
    # the bias is the weight of a constant coordinate before the first: then a_k = Σ_{j ≤ k} u_j w_j
    u, w = pad(x[:, :-1], (1, 0), value=1.), torch.cat([b[None], W])

    def step(a, u, w, *rows):
        seen = u * torch.ones(len(w), len(w), dtype=w.dtype, device=w.device).tril()[:, None]
        a = a + seen @ w
        return a[-1].clone(), readout(a.sigmoid(), *rows)

    a = torch.zeros_like(b)
    # split, not slices: the gradient of a slice is as large as what it was cut from
    for now in zip(u.split(block, 1), w.split(block), *(r.split(block) for r in rows)):
        a, out = checkpoint(step, a, *now, use_reentrant=False) if save_memory and torch.is_grad_enabled() else step(a, *now)
        yield out


class NADE(Ordered):
    """Neural autoregressive distribution estimator for binary data.

        h_i = σ(W_{·,<i} x_<i + b),   p(x_i = 1 | x_<i) = σ(α_iᵀ h_i + c_i)       L(d − 1) + L + dL + d = d(2L + 1) parameters

    W and b are shared by all conditionals. The last column of the papers' L × d matrix W is never used and not stored.
    `save_memory` recomputes hidden layers in the backward pass, which makes training's memory O(B·L·(d/block + block)).
    """

    def __init__(self, d, hidden, order=None, generator=None, block=16, save_memory=False):
        super().__init__(d, order)
        g = seeded(generator)
        self.hidden, self.block, self.save_memory = at_least(1, "hidden", hidden), at_least(1, "block", block), save_memory
        self.W = nn.Parameter(3 * torch.randn(d - 1, hidden, generator=g) / d ** 0.5)
        self.b = nn.Parameter(torch.randn(hidden, generator=g))
        self.alpha = nn.Parameter(torch.randn(d, hidden, generator=g) / hidden ** 0.5)
        self.c = nn.Parameter(torch.zeros(d))

    @staticmethod
    def readout(h, alpha, c):
        """Logits (T, B) from hidden layers (T, B, L) and the rows (T, L) and (T,) of α and c."""
        return torch.baddbmm(c[:, None, None], h, alpha[..., None])[..., 0]

    def logits(self, x):
        x = self.arrange(check_binary(x, self.d, self.b.dtype))
        blocks = scan(x, self.W, self.b, self.readout, self.alpha, self.c, block=self.block, save_memory=self.save_memory)
        return self.restore(torch.cat(list(blocks)).T)

    def conditionals(self, x):
        """p(x_i = 1 | what precedes i in the order): (B, d)."""
        return self.logits(x).sigmoid()

    def log_prob(self, x):
        return bernoulli_log_prob(self.logits(x), x.to(self.b.dtype)).sum(-1)

    @torch.no_grad()
    def sample(self, n, generator):
        a = self.b.expand(at_least(1, "n", n), -1).clone()

        def logit(i, x):
            if i:
                a.addr_(x[:, -1], self.W[i - 1])
            return a.sigmoid() @ self.alpha[i] + self.c[i]
        return self.restore(ancestral_bits(logit, n, self.c, generator))


class Mixture(NamedTuple):
    """One-dimensional Gaussian mixtures, one per sample and coordinate, as tensors of shape (…, K)."""
    weights: torch.Tensor
    means: torch.Tensor
    scales: torch.Tensor

    def log_prob(self, x):
        """Log-density at x of shape (…)."""
        return log_mixture(self.weights.log(), self.means, self.scales.log(), x)


class RNADE(Ordered):
    """NADE for real data: each conditional is a mixture of K Gaussians whose parameters are linear in h_i.

        p(x_i | x_<i) = Σ_k π_ik N(x_i | μ_ik, σ_ik²),    π_i = softmax(V_i^πᵀ h_i + b_i^π),
        μ_i = V_i^μᵀ h_i + b_i^μ,    σ_i = exp(V_i^σᵀ h_i + b_i^σ)             dL + 3dK(L + 1) parameters

    Uria, Murray & Larochelle (2013), with logistic hidden units. Expects data of roughly unit scale; every conditional
    starts near a mixture of mean 0 and variance 1.
    """

    def __init__(self, d, hidden, components, order=None, generator=None, block=16, save_memory=False):
        super().__init__(d, order)
        g = seeded(generator)
        self.hidden, self.components = at_least(1, "hidden", hidden), at_least(1, "components", components)
        self.block, self.save_memory = at_least(1, "block", block), save_memory
        self.W = nn.Parameter(3 * torch.randn(d - 1, hidden, generator=g) / d ** 0.5)
        self.b = nn.Parameter(2 * torch.randn(hidden, generator=g))   # thresholds all over the data, not all at its mean
        self.V = nn.Parameter(0.1 * torch.randn(d, hidden, 3 * components, generator=g) / hidden ** 0.5)
        self.c = nn.Parameter(torch.zeros(d, 3 * components))
        # Components that start equal stay equal: lay the means along the quantiles of N(0, 1), and make the whole's variance 1.
        means = 0.95 * torch.special.ndtri((torch.arange(components) + 0.5) / components)
        with torch.no_grad():
            self.c[:, components:2 * components] = means
            self.c[:, 2 * components:] = 0.5 * torch.log(1 - means.square().mean())

    @staticmethod
    def readout(h, V, c):
        """log π, μ, log σ, each (T, B, K), from hidden layers (T, B, L) and the rows (T, L, 3K) and (T, 3K) of V and its biases."""
        pi, mu, log_sigma = torch.baddbmm(c[:, None], h, V).chunk(3, -1)
        return pi.log_softmax(-1), mu, log_sigma

    def conditionals(self, x):
        """The mixtures of all conditionals at x: a `Mixture` of (B, d, K) tensors."""
        x = self.arrange(check_rows(x, self.d, self.b.dtype))
        blocks = scan(x, self.W, self.b, self.readout, self.V, self.c, block=self.block, save_memory=self.save_memory)
        pi, mu, log_sigma = (self.restore(torch.cat(parts).transpose(0, 1)) for parts in zip(*blocks))
        return Mixture(pi.exp(), mu, log_sigma.exp())

    def log_prob(self, x):
        x = self.arrange(check_rows(x, self.d, self.b.dtype))
        terms = lambda h, x, V, c: log_mixture(*self.readout(h, V, c), x).sum(0)
        return sum(scan(x, self.W, self.b, terms, x.T, self.V, self.c, block=self.block, save_memory=self.save_memory))

    @torch.no_grad()
    def sample(self, n, generator):
        a = self.b.expand(at_least(1, "n", n), -1).clone()
        x = a.new_empty(n, self.d)
        for i in range(self.d):
            pi, mu, log_sigma = (p[0] for p in self.readout(a.sigmoid()[None], self.V[i:i + 1], self.c[i:i + 1]))
            k = torch.multinomial(pi.exp(), 1, generator=generator)
            noise = torch.randn(n, 1, generator=generator, device=x.device, dtype=x.dtype)
            x[:, i] = (mu.gather(1, k) + log_sigma.gather(1, k).exp() * noise)[:, 0]
            if i < self.d - 1:
                a.addr_(x[:, i], self.W[i])
        return self.restore(x)


def log_mixture(log_weights, means, log_scales, x):
    """log Σ_k π_k N(x | μ_k, σ_k²) for x (…) and parameters (…, K)."""
    z = (x[..., None] - means) * torch.exp(-log_scales)
    return torch.logsumexp(log_weights - 0.5 * z ** 2 - log_scales - 0.9189385332046727, -1)   # ½ log 2π


def naive_log_prob(model, x):
    """log p(x) of a NADE or RNADE with every hidden layer computed afresh from all of x_<i: O(d²L). The definition, kept as a reference."""
    binary = isinstance(model, NADE)
    x = model.arrange((check_binary if binary else check_rows)(x, model.d, model.b.dtype))
    V, total = model.alpha if binary else model.V, x.new_zeros(len(x))
    for i in range(model.d):
        h = torch.sigmoid(torch.addmm(model.b, x[:, :i], model.W[:i]))
        out = model.readout(h[None], V[i:i + 1], model.c[i:i + 1])
        total = total + (bernoulli_log_prob(out[0], x[:, i]) if binary else log_mixture(*(p[0] for p in out), x[:, i]))
    return total
