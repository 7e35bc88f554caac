"""Autoregressive models against what must hold for any of them, to the bit where it can be, and against closed forms."""
import time
import weakref
from functools import partial

import pytest
import torch
from scipy.stats import chi2
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from dpmlib.autoregressive import FVSBN, NADE, RNADE, AutoregressiveMLP, naive_log_prob, parameter_count
from dpmlib.data import toy_mixture

D = 10
BITS = torch.arange(2**D)[:, None] >> torch.arange(D) & 1
MODELS = {
    "FVSBN": lambda d, **kw: FVSBN(d, **kw),
    "MLP": lambda d, **kw: AutoregressiveMLP(d, 5, **kw),
    "NADE": lambda d, **kw: NADE(d, 6, block=4, **kw),
    "RNADE": lambda d, **kw: RNADE(d, 6, 3, block=4, **kw),
}
BINARY = ["FVSBN", "MLP", "NADE"]
each, each_binary = pytest.mark.parametrize("name", MODELS), pytest.mark.parametrize("name", BINARY)


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


def random_model(name, d=D, seed=0, dtype=torch.float64):
    """Random order and weights large enough that the conditionals really differ."""
    g = gen(seed)
    model = MODELS[name](d, order=torch.randperm(d, generator=g)).to(dtype)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(0.7 * torch.randn(p.shape, generator=g, dtype=dtype))
    return model


def some_data(name, n, d, seed=1, dtype=torch.float64):
    x = torch.randn(n, d, generator=gen(seed), dtype=dtype)
    return x if name == "RNADE" else (x > 0).to(dtype)


def flat_conditionals(model, x):
    """(B, d, numbers per conditional)"""
    c = model.conditionals(x)
    return c[..., None] if torch.is_tensor(c) else torch.cat(c, -1)


@each_binary
def test_probabilities_of_all_states_sum_to_one(name):
    assert abs(random_model(name).log_prob(BITS).exp().sum() - 1) < 1e-12
    assert abs(random_model(name, dtype=torch.float32).log_prob(BITS).double().exp().sum() - 1) < 1e-6


def test_rnade_integrates_to_one_on_the_plane():
    model = random_model("RNADE", 2)
    # sinh stretches the grid: fine where the mass is, far out in the tails
    u = torch.linspace(-6, 6, 501, dtype=torch.float64)
    t, w = 0.3 * u.sinh(), 0.3 * u.cosh() * (u[1] - u[0])
    density = model.log_prob(torch.cartesian_prod(t, t)).detach().exp().view(len(t), -1)
    assert abs(w @ density @ w - 1) < 1e-6


@each
def test_log_prob_is_the_sum_of_the_conditionals(name):
    model, x = random_model(name), some_data(name, 7, D)
    c = model.conditionals(x)
    terms = c.log_prob(x) if name == "RNADE" else torch.distributions.Bernoulli(probs=c).log_prob(x)
    torch.testing.assert_close(terms.sum(1), model.log_prob(x), rtol=0, atol=1e-10)


@each
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_conditional_sees_itself_or_what_follows(name, dtype):
    model, x = random_model(name, dtype=dtype), some_data(name, 16, D, dtype=dtype)
    before = flat_conditionals(model, x)
    for k, i in enumerate(model.order.tolist()):
        later = model.order[k:]
        y = x.clone()
        y[:, later] = 1 - y[:, later] if name != "RNADE" else 1e3 * torch.randn(16, D - k, generator=gen(k), dtype=dtype)
        after = flat_conditionals(model, y)
        assert torch.equal(after[:, model.order[:k + 1]], before[:, model.order[:k + 1]])
        y = x.clone()
        y[:, i] = 1 - y[:, i]
        moved = (flat_conditionals(model, y) != before).any(-1).all(0)
        assert moved[model.order[k + 1:]].all()   # and everything that follows does see it


@each
def test_relabelling_the_coordinates_is_what_order_does(name):
    model, x = random_model(name), some_data(name, 7, D)
    plain = MODELS[name](D).double()
    state = {k: v for k, v in model.state_dict().items() if k not in ("order", "inverse")}
    plain.load_state_dict(state, strict=False)
    torch.testing.assert_close(model.log_prob(x), plain.log_prob(x[:, model.order]), rtol=0, atol=1e-12)
    assert torch.equal(model.sample(5, gen())[:, model.order], plain.sample(5, gen()))


@each_binary
def test_samples_follow_log_prob_chi_squared(name, record_property):
    d, n = 6, 40_000
    model = random_model(name, d)
    states = BITS[:2**d, :d]
    expected = n * model.log_prob(states).exp().detach()
    counts = torch.bincount((model.sample(n, gen(3)).long() << torch.arange(d)).sum(1), minlength=2**d)
    order = expected.argsort()   # rare states share a cell, as the test wants at least 5 expected in each
    cell = (expected[order].cumsum(0) / 10).floor().clamp(max=2**d).long()
    pool = lambda v: torch.zeros(2**d + 1, dtype=torch.float64).index_add(0, cell, v[order].double())
    e, c = pool(expected), pool(counts)
    e, c = e[e > 0], c[e > 0]
    p = float(chi2.sf(((c - e) ** 2 / e).sum().item(), len(e) - 1))   # a plain number, so that it can travel between processes
    record_property("p_value", float(p))
    print(f"chi-squared {name}: p = {p:.3f} with {len(e)} cells")
    assert p > 1e-3


def energy_distance(x, y):
    apart = lambda a, b: torch.cdist(a, b).sum()
    n, m = len(x), len(y)
    return 2 * apart(x, y) / (n * m) - apart(x, x) / (n * (n - 1)) - apart(y, y) / (m * (m - 1))


def test_rnade_samples_follow_log_prob_energy_distance(record_property):
    """Against exact draws from the same density, made by resampling a fine grid; a shifted set is told apart."""
    model, n = random_model("RNADE", 2, seed=2), 1000
    side = torch.linspace(-15, 15, 801, dtype=torch.float64)
    grid = torch.cartesian_prod(side, side)
    weight = model.log_prob(grid).detach().exp()
    assert abs(weight.sum() * (side[1] - side[0]) ** 2 - 1) < 1e-3   # the grid holds all of it
    draw = lambda seed: grid[torch.multinomial(weight / weight.sum(), n, replacement=True, generator=gen(seed))]
    sample = model.sample(n, gen(4))
    ours, theirs = energy_distance(sample, draw(5)), torch.stack([energy_distance(draw(s), draw(s + 1)) for s in range(10, 26, 2)])
    record_property("energy_distance", float(ours))
    print(f"energy distance {ours:.5f}; between exact sets {theirs.mean():.5f} ± {theirs.std():.5f}")
    assert ours < theirs.mean() + 5 * theirs.std()
    assert energy_distance(sample + sample.std(0) / 4, draw(5)) > theirs.mean() + 10 * theirs.std()


@pytest.mark.parametrize("d, L, K", [(1, 3, 2), (2, 4, 1), (10, 7, 3), (50, 16, 5)])
def test_parameter_counts_are_the_lecture_notes_formulas(d, L, K):
    assert parameter_count(FVSBN(d)) == sum(range(1, d + 1))
    assert parameter_count(AutoregressiveMLP(d, L)) == sum(L * (i - 1) + L + L + 1 for i in range(1, d + 1))
    assert parameter_count(NADE(d, L)) == L * (d - 1) + L + d * (L + 1) == d * (2 * L + 1)
    assert parameter_count(RNADE(d, L, K)) == L * (d - 1) + L + 3 * d * K * (L + 1)


NADES = {"NADE": lambda d, L=16, **kw: NADE(d, L, **kw), "RNADE": lambda d, L=16, **kw: RNADE(d, L, 2, **kw)}


@pytest.mark.parametrize("name", NADES)
@pytest.mark.parametrize("d, block", [(1, 4), (7, 1), (33, 8), (33, 64), (700, 16)])
def test_the_scan_agrees_with_the_definition(name, d, block):
    model, x = NADES[name](d, block=block).double(), some_data(name, 5, d)
    exact = naive_log_prob(model, x)
    torch.testing.assert_close(model.log_prob(x), exact, rtol=0, atol=1e-9)
    small, x = NADES[name](d, block=block), x.float()   # in float32 both are off by rounding: the scan no more than the definition
    off = [(f(x).double() - exact).abs().max() for f in (small.log_prob, partial(naive_log_prob, small))]
    assert off[0] <= 5 * off[1] + 1e-6 * d


@pytest.mark.parametrize("name", NADES)
def test_saving_memory_changes_no_gradient(name):
    plain, thrifty = (NADES[name](40, block=8, save_memory=s).double() for s in (False, True))
    x = some_data(name, 5, 40)
    for model in plain, thrifty:
        model.log_prob(x).sum().backward()
    for p, q in zip(plain.parameters(), thrifty.parameters()):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", NADES)
def test_work_is_linear_in_d(name):
    """Products counted, so exact; the definition's count grows with d²."""
    def flops(f, d):
        model, x = NADES[name](d), some_data(name, 4, d, dtype=torch.float32)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            f(model, x)
        return counter.get_total_flops()
    scan = [flops(lambda m, x: m.log_prob(x), d) for d in (256, 1024, 4096)]
    assert scan[1] == 4 * scan[0] and scan[2] == 4 * scan[1]
    assert flops(naive_log_prob, 1024) > 10 * flops(naive_log_prob, 256)


def seconds(*calls, repeats=7):
    """Best processor time of each call, taken in turns, so that a busy machine hurts all of them alike."""
    best = [float("inf")] * len(calls)
    for _ in range(repeats):
        for i, f in enumerate(calls):
            start = time.process_time()
            f()
            best[i] = min(best[i], time.process_time() - start)
    return best


@pytest.mark.parametrize("name", NADES)
def test_time_is_linear_in_d(name):
    ds = 256, 1024, 4096
    with torch.no_grad():
        t = seconds(*(partial(NADES[name](d).log_prob, some_data(name, 32, d, dtype=torch.float32)) for d in ds))
    print(name, {d: f"{1e3 * s:.1f} ms" for d, s in zip(ds, t)})
    assert t[1] / t[0] <= 6 and t[2] / t[1] <= 6


def test_the_scan_beats_the_definition_by_5_at_3072():
    model, x = NADE(3072, 64), some_data("NADE", 16, 3072, dtype=torch.float32)
    with torch.no_grad():
        fast, slow = seconds(lambda: model.log_prob(x), lambda: naive_log_prob(model, x), repeats=3)
    print(f"naive / scan = {slow / fast:.1f}")
    assert slow / fast >= 5


class PeakMemory(TorchDispatchMode):
    """Bytes of tensor storage alive at once, of those made inside the context."""
    def __enter__(self):
        self.alive, self.peak, self.made = 0, 0, weakref.WeakSet()
        return super().__enter__()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        given = {t.untyped_storage()._cdata for t in tree_leaves((args, kwargs)) if torch.is_tensor(t)}
        for t in tree_leaves(out):
            if torch.is_tensor(t) and (s := t.untyped_storage())._cdata not in given and s not in self.made:   # no view of an old one
                self.made.add(s)
                self.alive += s.nbytes()
                self.peak = max(self.peak, self.alive)
                weakref.finalize(s, self.free, s.nbytes())
        return out

    def free(self, size):
        self.alive -= size


def peak(f):
    with PeakMemory() as memory:
        f()
    return memory.peak


@pytest.mark.parametrize("name", NADES)
def test_working_memory_does_not_grow_with_d(name):
    """All that may grow is what has the size of the input or of the weights; a layer of (B, d, L) would be 16 times that."""
    B, L = 64, 64
    grown = {}
    with torch.no_grad():
        for d in (512, 2048):
            model, x = NADES[name](d, L), some_data(name, B, d, dtype=torch.float32)
            grown[d] = peak(lambda: model.log_prob(x)) - 4 * L * d
    print(name, {d: f"{p / 1e6:.1f} MB" for d, p in grown.items()})
    assert grown[2048] - grown[512] <= 6 * 4 * B * (2048 - 512)


@pytest.mark.parametrize("name", NADES)
def test_saving_memory_saves_memory(name):
    x = some_data(name, 32, 1024, dtype=torch.float32)
    plain, thrifty = (peak(lambda: NADES[name](1024, 64, save_memory=s).log_prob(x).sum().backward()) for s in (False, True))
    print(f"{name}: a gradient at d = 1024 holds {plain / 1e6:.0f} MB, with save_memory {thrifty / 1e6:.0f} MB")
    assert thrifty < plain / 2


def test_fvsbn_learns_a_logistic_truth_and_nade_what_it_cannot():
    """Parity of the first two of three bits: no FVSBN can know it (its best KL is log 2 − h(0.9)); NADE does."""
    x = BITS[:8, :3].double()
    truth = torch.where((x[:, 0] + x[:, 1]) % 2 == x[:, 2], 0.9, 0.1).double() / 4
    best = {}
    for model in FVSBN(3).double(), NADE(3, 8, generator=gen()).double():
        optimiser = torch.optim.LBFGS(model.parameters(), max_iter=500, line_search_fn="strong_wolfe")

        def closure():
            optimiser.zero_grad()
            kl = truth @ (truth.log() - model.log_prob(x))
            kl.backward()
            return kl
        best[type(model)] = optimiser.step(closure) and closure().item()
    h = -(0.9 * torch.tensor(0.9).log() + 0.1 * torch.tensor(0.1).log())
    assert abs(best[FVSBN] - (torch.tensor(2.).log() - h)) < 1e-6 and best[NADE] < 1e-3


@pytest.mark.parametrize("name", ["grid8", "twopeaks"])
def test_rnade_learns_a_mixture_whose_density_is_known(name):
    g, truth = gen(), toy_mixture(name)
    model, steps = RNADE(2, 64, 20, generator=g), 800
    optimiser = torch.optim.Adam(model.parameters(), 1e-2, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    data = truth.sample(20_000, g).float()
    for _ in range(steps):
        loss = -model.log_prob(data[torch.randint(len(data), (256,), generator=g)]).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    x = truth.sample(20_000, g)
    with torch.no_grad():
        kl = (truth.log_prob(x) - model.log_prob(x)).mean().item()
    print(f"KL(truth ‖ RNADE) on {name}: {kl:.4f} nats")
    assert -0.01 < kl <= 0.05


@each
def test_what_it_returns_has_the_shape_and_dtype_it_should(name):
    model, x = random_model(name, 5, dtype=torch.float32), some_data(name, 3, 5)
    s = model.sample(4, gen())
    assert model.log_prob(x).shape == (3,) and s.shape == (4, 5) and s.dtype == torch.float32
    assert torch.equal(s, model.sample(4, gen())) and not s.requires_grad
    c = model.conditionals(x)
    assert c.shape == (3, 5) if name in BINARY else all(t.shape == (3, 5, 3) for t in c)
    if name in BINARY:
        assert torch.equal(model.log_prob(x.bool()), model.log_prob(x)) and ((s == 0) | (s == 1)).all()
    state = torch.random.get_rng_state()
    assert torch.equal(flat_conditionals(MODELS[name](5), x), flat_conditionals(MODELS[name](5), x))
    assert torch.equal(state, torch.random.get_rng_state())   # the global generator is left alone


@each
def test_bad_input_is_refused_with_what_is_allowed(name):
    model = MODELS[name](4)
    x = some_data(name, 3, 4)
    shape = r"\(batch, 4\)"
    for bad, says in [(x[:, :3], shape), (x[0], shape), (x.tolist(), "tensor"), (x * torch.nan, "NaN"), (x / 0, "finite")]:
        for method in model.log_prob, model.conditionals:
            with pytest.raises(ValueError, match=says):
                method(bad)
    if name in BINARY:
        for bad in 0.5 * x + 0.1, 2 * x + 1, -1 - x:
            with pytest.raises(ValueError, match="only 0 and 1"):
                model.log_prob(bad)
    for order in [0, 1, 2], [0, 1, 2, 2], [1, 2, 3, 4], [0., 1., 2., 3.], torch.eye(4):
        with pytest.raises(ValueError, match="permutation of 0 … 3"):
            MODELS[name](4, order=order)
    for n in 0, -1, 1.5:
        with pytest.raises(ValueError, match="n must be an integer ≥ 1"):
            model.sample(n, gen())
    with pytest.raises(ValueError, match="d must be"):
        MODELS[name](0)


@pytest.mark.parametrize("make, says", [
    (lambda: RNADE(4, 3, 0), "components must be an integer ≥ 1, got 0"), (lambda: RNADE(4, 0, 2), "hidden"),
    (lambda: NADE(4, 0), "hidden"), (lambda: NADE(4, 3, block=0), "block"), (lambda: AutoregressiveMLP(4, -1), "hidden")])
def test_bad_sizes_are_refused(make, says):
    with pytest.raises(ValueError, match=says):
        make()
