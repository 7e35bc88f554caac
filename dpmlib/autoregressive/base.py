"""What every autoregressive model here has in common: an order of the coordinates, and checks of what comes in.

The interface, duck-typed; data x is (B, d), one row per sample, columns in the *data's* order everywhere:

    model.log_prob(x)            -> (B,)   log p(x) = Σ_k log p(x_{o_k} | x_{o_1}, …, x_{o_{k−1}}), in nats, with o = model.order
    model.conditionals(x)        -> parameters of every conditional at x, column i for coordinate i:
                                    probabilities (B, d) of a 1 for binary data, a `Mixture` of (B, d, K) tensors for real data
    model.sample(n, generator)   -> (n, d) ancestral samples, one coordinate after the other along the order
"""
import torch
from torch import nn


class Ordered(nn.Module):
    """The order o in which the coordinates are generated: o_1 first. Default 0, 1, …, d − 1.

    `arrange` takes columns from the data's order to the model's (column k becomes coordinate o_k), `restore` takes them back.
    Weights live in the model's order, so that `W[:k]` is always what the k-th conditional may see.
    """

    def __init__(self, d, order=None):
        super().__init__()
        self.d = at_least(1, "d", d)
        order = torch.arange(d) if order is None else torch.as_tensor(order).detach().cpu()
        if order.shape != (d,) or order.is_floating_point() or not torch.equal(order.sort().values.long(), torch.arange(d)):
            raise ValueError(f"order must be a permutation of 0 … {d - 1}, got {short(order)}")
        self.register_buffer("order", order.long())
        self.register_buffer("inverse", order.long().argsort())

    def arrange(self, x):
        return x[:, self.order]

    def restore(self, x):
        return x[:, self.inverse]


def parameter_count(model):
    """How many numbers a module learns."""
    return sum(p.numel() for p in model.parameters())


def bernoulli_log_prob(logits, x):
    """log p(x) of independent bits with p(1) = σ(logits), elementwise: x·logit − log(1 + e^logit), which cannot overflow."""
    return x * logits - torch.nn.functional.softplus(logits)


def at_least(low, name, value):
    """`value`, if it is an int ≥ low; `ValueError` otherwise."""
    if not isinstance(value, int) or isinstance(value, bool) or value < low:
        raise ValueError(f"{name} must be an integer ≥ {low}, got {value!r}")
    return value


def check_rows(x, d, dtype):
    """x as (B, d) of `dtype`; `ValueError` for another shape, NaN or infinity."""
    if not isinstance(x, torch.Tensor) or x.ndim != 2 or x.shape[1] != d:
        raise ValueError(f"x must be a tensor of shape (batch, {d}), got {tuple(x.shape) if isinstance(x, torch.Tensor) else type(x)}")
    if not torch.isfinite(x).all():
        raise ValueError("x must be finite, got NaN or infinity in it")
    return x.to(dtype)


def check_binary(x, d, dtype):
    """x as (B, d) of `dtype`; `ValueError` for another shape or for entries other than 0 and 1 (bool and integers are fine)."""
    x = check_rows(x, d, dtype)
    wrong = x[(x != 0) & (x != 1)]
    if len(wrong):
        raise ValueError(f"x must contain only 0 and 1 for a Bernoulli model, got {wrong[0].item():g}")
    return x


def seeded(generator):
    """The caller's generator for initial weights, or a fresh one with seed 0: the global generator is never touched."""
    return torch.Generator().manual_seed(0) if generator is None else generator


def short(x):
    return f"{x[:8].tolist()}{'…' if len(x) > 8 else ''} of shape {tuple(x.shape)}" if x.ndim else x
