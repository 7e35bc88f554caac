"""A small GPT: one causal Transformer for all conditionals of the chain rule (Vaswani et al. 2017, Radford et al. 2018).

B batch, T tokens of this call, S = past + T tokens seen so far, W width, H heads, w = W / H, V vocabulary.
"""
import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .base import Ordered, at_least, check_rows, seeded


class Attention(nn.Module):
    """Every token asks all tokens up to itself: softmax(q kᵀ / √w) v, once per head."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, cache: Tensor | None = None, past: int = 0) -> Tensor:
        B, T, W = x.shape
        q, k, v = self.qkv(x).view(B, T, 3, self.heads, -1).permute(2, 0, 3, 1, 4)       # each (B, H, T, w)
        if cache is not None:                                        # (2, B, H, d, w): keys and values of all tokens so far
            cache[0, :, :, past:past + T], cache[1, :, :, past:past + T] = k, v
            k, v = cache[:, :, :, :past + T]                         # each (B, H, S, w)
        # PyTorch aligns is_causal with the first key. With a past, token i may see the keys up to past + i; a single one sees them all.
        seen = torch.ones(T, past + T, dtype=torch.bool, device=x.device).tril(past) if past and T > 1 else None
        h = F.scaled_dot_product_attention(q, k, v, seen, is_causal=T > 1 and seen is None)      # (B, H, T, w)
        return self.out(h.transpose(1, 2).reshape(B, T, W))


class Block(nn.Module):
    """Look around, then think; each reads a normalised copy of the residual stream and adds to it. 12 W² + 13 W parameters."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(width), Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor, cache: Tensor | None = None, past: int = 0) -> Tensor:
        x = x + self.attention(self.norm1(x), cache, past)
        return x + self.mlp(self.norm2(x))


class CausalTransformer(Ordered):
    """p(x) = Π_k p(x_{o_k} | x_{o_1}, …, x_{o_{k−1}}) for d variables with values 0 … vocab − 1, along the order o.

    `shape` is d, or the axes whose product is d if x is a flattened array, such as (8, 8, 3); the learned position of a variable
    is the sum of one embedding per axis. Step k reads a start token, then x_{o_1}, x_{o_2}, …, each at the position of the
    variable that is to be predicted next. Nothing is tied and nothing dropped out.

        (V + 1) W + Σ shape · W + depth (12 W² + 13 W) + 2 W + V (W + 1) parameters

    `generator` draws the initial weights. ValueError: sizes < 1, heads that do not divide width, no permutation.
    """

    def __init__(self, shape: int | Sequence[int], vocab: int, width: int = 64, depth: int = 2, heads: int = 4,
                 order: Tensor | Sequence[int] | None = None, generator: torch.Generator | None = None):
        shape = tuple(at_least(1, "shape", size) for size in ([shape] if isinstance(shape, int) else shape))
        super().__init__(math.prod(shape), order)
        self.vocab, self.width, self.heads = at_least(1, "vocab", vocab), at_least(1, "width", width), at_least(1, "heads", heads)
        if width % heads:
            raise ValueError(f"heads must divide width = {width}, got {heads}")
        self.register_buffer("places", torch.stack(torch.unravel_index(self.order, shape)))      # (axes, d): step by step
        with torch.random.fork_rng(devices=[]):                      # torch's own initial weights are overwritten below
            self.token = nn.Embedding(vocab + 1, width)              # the last row is the start token
            self.position = nn.ModuleList(nn.Embedding(size, width) for size in shape)
            self.blocks = nn.ModuleList(Block(width, heads) for _ in range(at_least(1, "depth", depth)))
            self.norm = nn.LayerNorm(width)
            self.head = nn.Linear(width, vocab)
        g = seeded(generator)
        for name, weight in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(weight)
            elif weight.ndim == 2:                                   # the 2·depth branches share the variance of one stream
                branches = 2 * depth if name.endswith(("out.weight", "mlp.2.weight")) else 1
                nn.init.normal_(weight, std=(weight.shape[1] * branches) ** -0.5, generator=g)

    def forward(self, tokens: Tensor, cache: Tensor | None = None, past: int = 0) -> Tensor:
        """Logits (B, T, V) of what follows each of the `tokens` (B, T), int64, which stand at places past … past + T − 1 of the input."""
        h = self.token(tokens)                                                                   # (B, T, W)
        for table, place in zip(self.position, self.places):
            h = h + table(place[past:past + tokens.shape[1]])
        for i, block in enumerate(self.blocks):
            h = block(h, None if cache is None else cache[i], past)
        return self.head(self.norm(h))

    def conditionals(self, x: Tensor) -> Tensor:
        """Logits (B, d, V), row i of p(x_i | what precedes i in the order). x: (B, d), whole numbers of any dtype.

        ValueError: another shape, NaN, values outside 0 … vocab − 1.
        """
        steps = self.arrange(self._tokens(check_rows(x, self.d, torch.float32), "x"))
        return self.restore(self(torch.cat([self._start(len(x)), steps[:, :-1]], 1)))

    def log_prob(self, x: Tensor) -> Tensor:
        """(B, d) → (B,), in nats: all conditionals in one pass. ValueError as `conditionals`."""
        return -F.cross_entropy(self.conditionals(x).mT, x.long(), reduction="none").sum(1)

    @torch.no_grad()
    def stream(self, n: int, generator: torch.Generator, prompt: Tensor | None = None, temperature: float = 1.,
               cache: bool = True) -> Iterator[tuple[Tensor, Tensor]]:
        """Draw n sequences along the order, yielding (tokens (n,), logits (n, V)) step after step.

        `prompt`, (m,) or (n, m), holds the first m tokens; it is read in one pass and not yielded again. With `cache` a step
        computes one token and keeps its keys and values; without, it runs the whole prefix again, for comparison.
        ValueError: n < 1, temperature ≤ 0, a prompt of another shape, of more than d tokens, or with values outside 0 … vocab − 1.
        """
        if not temperature > 0:
            raise ValueError(f"temperature must be > 0, got {temperature}")
        tokens, past, store = self._prompt(n, prompt), 0, None                                   # (n, 1 + m): start and prompt
        if cache:
            store = self.head.weight.new_empty(len(self.blocks), 2, n, self.heads, self.d, self.width // self.heads)
        for _ in range(self.d + 1 - tokens.shape[1]):
            logits = self(tokens[:, past:], store, past)[:, -1]                                  # (n, V)
            token = torch.multinomial((logits / temperature).softmax(-1), 1, generator=generator)
            yield token[:, 0], logits
            past = tokens.shape[1] if cache else 0
            tokens = torch.cat([tokens, token], 1)

    def sample(self, n: int, generator: torch.Generator, prompt: Tensor | None = None, temperature: float = 1.,
               cache: bool = True) -> Tensor:
        """(n, d) int64: a prompt and what `stream` draws after it, in the data's order of columns."""
        drawn = [token[:, None] for token, _ in self.stream(n, generator, prompt, temperature, cache)]
        return self.restore(torch.cat([self._prompt(n, prompt)[:, 1:], *drawn], 1))

    def _start(self, n: int) -> Tensor:
        return torch.full((n, 1), self.vocab, device=self.order.device)

    def _tokens(self, x: Tensor, name: str) -> Tensor:
        x = x if x.is_floating_point() else x.long()                 # as uint8, 256 would be 0 in the next line
        wrong = x[~((x >= 0) & (x < self.vocab) & (x == x.floor()))]
        if len(wrong):
            raise ValueError(f"{name} must contain only whole numbers from 0 to {self.vocab - 1}, got {wrong[0].item():g}")
        return x.long()

    def _prompt(self, n: int, prompt: Tensor | None) -> Tensor:
        """The start token and the prompt: (n, 1 + m)."""
        start = self._start(at_least(1, "n", n))
        if prompt is None:
            return start
        if prompt.ndim not in (1, 2) or prompt.ndim == 2 and len(prompt) != n:
            raise ValueError(f"prompt must have shape (m,) or (n, m) with n = {n}, got {tuple(prompt.shape)}")
        if prompt.shape[-1] > self.d:
            raise ValueError(f"prompt must have at most d = {self.d} tokens, got {prompt.shape[-1]}")
        return torch.cat([start, self._tokens(prompt, "prompt").expand(n, -1)], 1)
