"""The causal Transformer: laws of any autoregressive model, its cache, and parity with PyTorch's own layers."""
import math
from functools import partial

import pytest
import torch
from scipy.stats import chi2
from torch import nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.kv_cache import multiply_adds, ratio
from dpmlib.autoregressive import parameter_count
from dpmlib.autoregressive.transformer import Block, CausalTransformer

BITS = torch.arange(2**10)[:, None] >> torch.arange(10) & 1


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


def model(shape=10, vocab=2, width=16, depth=2, heads=4, seed=0, dtype=torch.float32, shuffled=True):
    """Random order. The initial weights are large enough for conditionals that really differ."""
    g, d = gen(seed), math.prod([shape] if isinstance(shape, int) else shape)
    net = CausalTransformer(shape, vocab, width, depth, heads, torch.randperm(d, generator=g) if shuffled else None, g)
    return net.to(dtype).requires_grad_(False)


def some(net, n, seed=1):
    return torch.randint(net.vocab, (n, net.d), generator=gen(seed))


def test_probabilities_of_all_states_sum_to_one():
    assert abs(model().log_prob(BITS).double().exp().sum() - 1) < 1e-6
    assert abs(model(dtype=torch.float64).log_prob(BITS).exp().sum() - 1) < 1e-12
    ternary = torch.cartesian_prod(*[torch.arange(3)] * 6)
    assert abs(model((2, 3), 3).log_prob(ternary).double().exp().sum() - 1) < 1e-6


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape, vocab", [(10, 2), ((3, 3, 3), 256), (200, 7)])
def test_no_conditional_sees_itself_or_what_follows_to_the_bit(shape, vocab, dtype):
    net = model(shape, vocab, dtype=dtype)
    x = some(net, 4)
    before, step = net.conditionals(x), net.inverse
    for k in {0, 1, net.d // 2, net.d - 1}:
        y = torch.where(step >= k, some(net, 4, seed=2 + k), x)
        assert torch.equal(net.conditionals(y)[:, step <= k], before[:, step <= k])
        y = x.clone()
        y[:, net.order[k]] = (y[:, net.order[k]] + 1) % vocab
        moved = (net.conditionals(y) != before).any(-1).all(0)
        assert torch.equal(moved, step > k)                          # and everything that follows does see it


def attend(q, k, v, mask=None, is_causal=False, future=-math.inf):
    """Attention as it is defined."""
    assert mask is None
    scores = q @ k.mT / math.sqrt(k.shape[-1])
    if is_causal:
        scores = scores.masked_fill(torch.ones_like(scores, dtype=torch.bool).triu(1), future)
    return scores.softmax(-1) @ v


def test_attention_is_its_definition_and_a_mask_of_minus_ten_would_leak(monkeypatch):
    net = model(shuffled=False)
    x = some(net, 4)
    y = x.clone()
    y[:, -2] = 1 - x[:, -2]
    plain = net.conditionals(x)
    monkeypatch.setattr(F, "scaled_dot_product_attention", attend)
    torch.testing.assert_close(net.conditionals(x), plain, rtol=0, atol=1e-5)
    assert torch.equal(net.conditionals(x)[:, :-1], net.conditionals(y)[:, :-1])
    monkeypatch.setattr(F, "scaled_dot_product_attention", partial(attend, future=-10.))
    assert not torch.equal(net.conditionals(x)[:, 0], net.conditionals(y)[:, 0])


def test_relabelling_the_variables_is_what_order_does():
    net, plain = model(dtype=torch.float64), model(dtype=torch.float64, shuffled=False)
    plain.load_state_dict({k: v for k, v in net.state_dict().items() if k not in ("order", "inverse", "places")}, strict=False)
    plain.position[0].weight.copy_(net.position[0].weight[net.order])
    x = some(net, 7)
    torch.testing.assert_close(net.log_prob(x), plain.log_prob(x[:, net.order]), rtol=0, atol=1e-12)
    assert torch.equal(net.sample(5, gen())[:, net.order], plain.sample(5, gen()))


def test_log_prob_is_the_sum_of_the_conditionals():
    net = model((2, 5), 4)
    x = some(net, 6)
    by_hand = net.conditionals(x).log_softmax(-1).gather(-1, x[..., None])[..., 0].sum(1)
    torch.testing.assert_close(net.log_prob(x), by_hand, rtol=0, atol=1e-5)
    for other in x.float(), x.to(torch.uint8), x.int():
        assert torch.equal(net.log_prob(other), net.log_prob(x))
    assert torch.isfinite(model(3, 256).log_prob(torch.full((1, 3), 255, dtype=torch.uint8))).all()


def test_samples_follow_log_prob_chi_squared(record_property):
    d, n = 6, 40_000
    net = model(d)
    expected = n * net.log_prob(BITS[:2**d, :d]).double().exp()
    counts = torch.bincount((net.sample(n, gen(3)) << torch.arange(d)).sum(1), minlength=2**d)
    rare = expected < 5   # these share a cell
    e, c = (torch.cat([v[~rare], v[rare].sum()[None]]) for v in (expected, counts.double()))
    e, c = e[e > 0], c[e > 0]
    p = chi2.sf(((c - e) ** 2 / e).sum().item(), len(e) - 1)
    record_property("p_value", float(p))
    print(f"chi-squared: p = {p:.3f} with {len(e)} cells")
    assert p > 1e-3 and len(e) > 30


@pytest.mark.parametrize("m", [0, 1, 7, 255])
def test_the_cache_changes_nothing(m):
    net = model(256, 11, width=32, depth=3)
    prompt = torch.randint(11, (m,), generator=gen(4))
    tokens, logits = zip(*net.stream(3, gen(5), prompt))
    x = net.sample(3, gen(5), prompt)
    assert torch.equal(x[:, net.order[:m]], prompt.expand(3, m)) and torch.equal(x[:, net.order[m:]], torch.stack(tokens, 1))
    full = net.conditionals(x)[:, net.order[m:]]
    error = (torch.stack(logits, 1) - full).abs().max().item()
    print(f"cached against full forward: {error:.1e}")
    assert error < 1e-5
    if m == 255:
        assert torch.equal(x, net.sample(3, gen(5), prompt.expand(3, m), cache=False))


@pytest.mark.parametrize("chunks", [[20], [1] * 20, [7, 1, 4, 8]])
def test_the_cache_may_be_filled_in_pieces(chunks):
    net = model(20, 5, dtype=torch.float64)
    tokens = torch.cat([torch.full((3, 1), 5), some(net, 3)[:, 1:]], 1)
    cache = torch.full((2, 2, 3, 4, 20, 4), torch.nan, dtype=torch.float64)
    pieces = [net(part, cache, past) for part, past in zip(tokens.split(chunks, 1), torch.tensor([0, *chunks]).cumsum(0).tolist())]
    torch.testing.assert_close(torch.cat(pieces, 1), net(tokens), rtol=0, atol=1e-12)


def test_a_prompt_may_differ_by_sequence_and_fill_the_context():
    net = model(dtype=torch.float64)
    prompt = some(net, 5)[:, :4]
    x = net.sample(5, gen(), prompt)
    assert torch.equal(x[:, net.order[:4]], prompt) and torch.equal(x, net.sample(5, gen(), prompt, cache=False))
    whole = some(net, 5)
    assert torch.equal(net.sample(5, gen(), whole[:, net.order]), whole)


def test_temperature_divides_the_logits():
    net = model(4, 5)
    cold = net.sample(3, gen(), temperature=1e-3)
    assert torch.equal(net.conditionals(cold).argmax(-1), cold)
    _, logits = next(net.stream(20_000, gen(), temperature=2.))
    tokens, _ = next(net.stream(20_000, gen(), temperature=2.))
    rate = torch.bincount(tokens, minlength=5) / 20_000
    assert (rate - (logits[0] / 2).softmax(0)).abs().max() < 0.015


def test_cached_sampling_is_five_times_faster_at_256():
    times = ratio(n=8, width=64, depth=2, rounds=2)
    print(f"256 tokens, 8 sequences, width 64, 2 blocks: without the cache {times:.1f} times the processor time")
    assert times >= 5


def test_multiply_adds_are_what_the_formula_says():
    net = model(24, 9, width=16, depth=3)
    for cache in True, False:
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:   # the fused kernel is not counted
            net.sample(2, gen(), cache=cache)
        assert counter.get_total_flops() == 2 * 2 * multiply_adds(24, 9, 16, 3, cache)


def test_block_is_pytorchs_encoder_layer():
    ours = Block(24, 3)
    layer = nn.TransformerEncoderLayer(24, 3, 96, dropout=0., activation="gelu", batch_first=True, norm_first=True)
    theirs = {"self_attn.in_proj": ours.attention.qkv, "self_attn.out_proj": ours.attention.out, "linear1": ours.mlp[0],
              "linear2": ours.mlp[2], "norm1": ours.norm1, "norm2": ours.norm2}
    layer.load_state_dict({name + ("_" if "in_proj" in name else ".") + kind: getattr(part, kind)
                           for name, part in theirs.items() for kind in ("weight", "bias")})
    x, mask = torch.randn(2, 7, 24, generator=gen()), nn.Transformer.generate_square_subsequent_mask(7)
    torch.testing.assert_close(ours(x), layer(x, mask, is_causal=True), rtol=0, atol=2e-6)
    assert parameter_count(ours) == parameter_count(layer) == 12 * 24**2 + 13 * 24


@pytest.mark.parametrize("shape, V, W, L", [(10, 2, 8, 1), ((8, 8, 3), 256, 16, 3)])
def test_parameter_count(shape, V, W, L):
    positions = sum([shape] if isinstance(shape, int) else shape)
    formula = (V + 1) * W + positions * W + L * (12 * W**2 + 13 * W) + 2 * W + V * (W + 1)
    assert parameter_count(CausalTransformer(shape, V, W, L)) == formula


def test_it_learns_what_no_logistic_regression_can():
    """Parity of the first two of three bits, known in closed form, along another order than it is made."""
    x = BITS[:8, :3]
    truth = torch.where((x[:, 0] + x[:, 1]) % 2 == x[:, 2], 0.9, 0.1) / 4
    net = CausalTransformer(3, 2, 16, 1, order=[2, 0, 1], generator=gen())
    optimiser = torch.optim.Adam(net.parameters(), 1e-2)
    for _ in range(200):
        kl = truth @ (truth.log() - net.log_prob(x))
        optimiser.zero_grad()
        kl.backward()
        optimiser.step()
    assert abs(kl) < 1e-3


def test_follows_dtype_and_leaves_the_global_generator_alone():
    state = torch.random.get_rng_state()
    a, b = CausalTransformer(5, 3), CausalTransformer(5, 3)
    x = some(a, 2)
    assert torch.equal(a.log_prob(x), b.log_prob(x)) and a.double().log_prob(x).dtype == torch.float64
    s = a.sample(4, gen())
    assert s.dtype == torch.int64 and s.shape == (4, 5) and torch.equal(s, a.sample(4, gen()))
    assert torch.equal(state, torch.random.get_rng_state())


def test_bad_input_is_refused_with_what_is_allowed():
    net = CausalTransformer(4, 3)
    x = torch.zeros(2, 4)
    for bad, says in [(x[:, :3], r"\(batch, 4\)"), (x[0], r"\(batch, 4\)"), (x.tolist(), "tensor"),
                      (x * torch.nan, "NaN"), (x + 3, "0 to 2, got 3"), ((x + 3).to(torch.uint8), "0 to 2, got 3"), (x - 1, "got -1"),
                      (x + 0.5, "got 0.5")]:
        for method in net.log_prob, net.conditionals:
            with pytest.raises(ValueError, match=says):
                method(bad)
    for says, bad in {"n must be": dict(n=0), "temperature must": dict(temperature=0.), "temperature": dict(temperature=math.nan),
                      "at most d = 4 tokens, got 5": dict(prompt=torch.zeros(5)), r"\(m,\) or \(n, m\)": dict(prompt=torch.zeros(3, 2)),
                      "prompt must contain": dict(prompt=torch.tensor([3])), "got nan": dict(prompt=torch.tensor([math.nan]))}.items():
        with pytest.raises(ValueError, match=says):
            net.sample(**{"n": 2, "generator": gen(), **bad})
    for says, bad in {"shape": dict(shape=0), "shape must": dict(shape=(2, 0)), "vocab": dict(vocab=0), "width": dict(width=0),
                      "divide": dict(heads=3), "heads": dict(heads=0), "depth": dict(depth=0),
                      "permutation": dict(order=[0, 1, 2, 2])}.items():
        with pytest.raises(ValueError, match=says):
            CausalTransformer(**{"shape": 4, "vocab": 3, **bad})
