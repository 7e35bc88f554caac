"""Guidance: every prediction type and every guidance type; what guided scores are, and what they are not; bad input."""

import pytest
import torch
from test_laws import gen, mixture, randn

import dpmlib as d
from dpmlib.nets import MLP
from dpmlib.posterior import coefficients

SCHEDULE = d.LinearVP()
WHOLE = mixture()
PARTS = [d.GaussianMixture([1.0], WHOLE.means[k:k + 1], WHOLE.covariances[k:k + 1]) for k in range(len(WHOLE.means))]
X = randn(24, 2, seed=3)


def believe(x, level, y=None):
    """The exact denoiser; y: one component for all."""
    return (WHOLE if y is None else PARTS[y]).denoiser()(x, level)


def log_prob(x, level, y=1):
    """log p(y | x_t) of the mixture, in closed form."""
    return WHOLE.weights[y].log() + PARTS[y].log_prob(x, level) - WHOLE.log_prob(x, level)


def speaking(predicts):
    """A perfect network of the given type, as a user would bring it: (x, t, y) -> p·x_0 + q·ε."""
    def net(x, t, y=None):
        level = SCHEDULE.level(t.double())
        belief = believe(x, level, y)
        p, q = (v.unsqueeze(1) for v in coefficients(predicts, level))
        return p * belief.mean + q * belief.eps

    return d.Denoiser(net, SCHEDULE, predicts)


GUIDES = {
    "uncond": lambda f, s: f,
    "classifier": lambda f, s: d.classifier_guidance(f, log_prob, s),
    "classifier-free": lambda f, s: d.cfg(f, s, y=1),
}


def last(states):
    *_, x = states
    return x


@pytest.mark.parametrize("guide", GUIDES)
@pytest.mark.parametrize("predicts", ["eps", "x0", "v", "flow", "score"])
def test_every_prediction_with_every_guidance(predicts, guide):
    """One state, whatever the network says and however it is guided: that of the formula written by hand."""
    grid = d.levels(SCHEDULE, 8, "lam", t_end=0.01)

    def by_hand(x, level):
        plain, told = believe(x, level), believe(x, level, y=1)
        s = 0.0 if guide == "uncond" else 3.0
        return d.Posterior(plain.mean + s * (told.mean - plain.mean), x=x, level=level)

    ours = last(d.ode_multistep(GUIDES[guide](speaking(predicts), 3.0), X, grid, 2))
    assert (ours - last(d.ode_multistep(by_hand, X, grid, 2))).abs().max() < 1e-8


@pytest.mark.parametrize("t", [0.02, 0.4, 1.0])
def test_the_ends_and_bayes(t):
    level = SCHEDULE.level(t)
    plain, told = believe(X, level), believe(X, level, y=1)
    assert torch.equal(d.cfg(believe, 1.0, y=1)(X, level).mean, told.mean)
    assert torch.equal(d.cfg(believe, 0.0, y=1)(X, level).mean, plain.mean)
    push = d.classifier_guidance(believe, log_prob)(X, level)
    assert (push.score - told.score).abs().max() < 1e-10 * told.score.abs().max().clamp(min=1)
    # a classifier on top of the conditional model is one more unit of scale
    again = d.classifier_guidance(believe, log_prob, 2.0)(X, level, y=1)
    assert (again.score - d.cfg(believe, 3.0, y=1)(X, level).score).abs().max() < 1e-9 * told.score.abs().max().clamp(min=1)


def test_scales_0_and_1_cost_one_call_and_others_two():
    level = SCHEDULE.level(0.5)
    for scale, calls in ((0.0, 1), (1.0, 1), (2.0, 2), (lambda level: 3.0 if level.lam > 5 else 1.0, 1)):
        counted = d.CountCalls(believe)
        d.cfg(counted, scale, y=1)(X, level)
        assert counted.calls == calls


def test_scale_of_a_level_and_a_negative_condition():
    scale = lambda level: 4.0 if -1 < level.lam < 1 else 1.0
    for t in (0.1, SCHEDULE.t_of_lam(0.0).item()):
        level = SCHEDULE.level(t)
        for guide in (lambda s: d.cfg(believe, s, y=1), lambda s: d.classifier_guidance(believe, log_prob, s)):
            assert torch.allclose(guide(scale)(X, level).mean, guide(float(scale(level)))(X, level).mean)
    away = d.cfg(believe, 2.0, against={"y": 0}, y=1)(X, level).score
    assert (away - 2 * believe(X, level, y=1).score + believe(X, level, y=0).score).abs().max() < 1e-9


# --- a guided score is not the score of a diffused density --------------------------------------------------------

def gaussian_pair(v, mu=0.7):
    whole, part = (d.Gaussian(torch.tensor([m]).double(), torch.tensor([[c]]).double()) for m, c in ((0.0, 1.0), (mu, v)))
    return lambda x, level, y=None: (whole if y is None else part).denoiser()(x, level)


def tilted(v, s, mu=0.7):
    """N(0,1)^{1-s} N(mu, v)^s: mean and variance."""
    return s * mu / (v + s * (1 - v)), v / (v + s * (1 - v))


@pytest.mark.parametrize("s", [2.0, 6.0])
def test_guided_scores_are_not_diffused(s, v=0.3):
    """The guided score is linear, with a slope that is steeper than that of the diffused tilted density, except at the ends."""
    mean, variance = tilted(v, s)
    target = d.Gaussian(torch.tensor([mean]).double(), torch.tensor([[variance]]).double())
    x = torch.linspace(-3, 3, 7, dtype=torch.float64).unsqueeze(1)
    for t in (1e-4, 0.2, 0.5):
        level = SCHEDULE.level(t)
        guided, diffused = d.cfg(gaussian_pair(v), s, y=1)(x, level).score, target.denoiser()(x, level).score
        steeper = (guided.diff(dim=0) / diffused.diff(dim=0)).flatten()
        a2 = (level.alpha**2).item()
        map_ = lambda u: s * u / (1 + (s - 1) * u)  # the tilt, on u = 1 - variance
        assert steeper.numpy() == pytest.approx((1 - a2 * map_(1 - v)) / (1 - map_(a2 * (1 - v))), rel=1e-6)
        assert (steeper > 1.03).all() if t > 1e-3 else (steeper < 1.05).all()


@pytest.mark.parametrize("s", [1.0, 2.0, 5.0])
def test_what_a_guided_sampler_draws(s, record_property, v=0.4, mu=0.7):
    """ODE: variance v^s. SDE: mean μ(1 − v^s)/(1 − v), variance (v − v^{2s})/((2s − 1)(1 − v)). Neither is the tilted density."""
    guided = d.cfg(gaussian_pair(v), s, y=1)
    grid = d.levels(SCHEDULE, 200, "lam", t_end=1e-4)
    x = torch.tensor([[-1.0], [0.0], [1.0]], dtype=torch.float64)  # an affine map: three points tell it
    low, middle, high = last(d.ode_multistep(guided, x, grid, 3, rule="taylor")).flatten().tolist()
    variance = ((high - low) / 2) ** 2
    record_property("ode_variance", variance)
    assert variance == pytest.approx(v**s, rel=5e-3)
    assert middle > tilted(v, s)[0] - 1e-2

    # the guided mean is slope·x + shift, so the SDE carries a mean and a variance; all levels are asked at once
    grid = d.levels(SCHEDULE, 3000, "lam", t_end=1e-4)
    at_0, at_1 = (guided(torch.full((3001, 1), v, dtype=torch.float64), grid).mean.flatten() for v in (0.0, 1.0))
    h = grid.lam.diff()
    weight = -grid.alpha[1:] * torch.expm1(-2 * h)
    gain = grid.sigma[1:] / grid.sigma[:-1] * torch.exp(-h) + weight * (at_1 - at_0)[:-1]
    m, var = 0.0, 1.0
    for slope, shift, noise in zip(gain.tolist(), (weight * at_0[:-1]).tolist(), (-grid.sigma[1:] ** 2 * torch.expm1(-2 * h)).tolist()):
        m, var = slope * m + shift, slope**2 * var + noise
    assert m == pytest.approx(mu * (1 - v**s) / (1 - v), rel=1e-2)
    assert var == pytest.approx((v - v ** (2 * s)) / ((2 * s - 1) * (1 - v)), rel=1e-2)
    if s > 1:
        assert abs(var / tilted(v, s)[1] - 1) > 0.1 and abs(variance / tilted(v, s)[1] - 1) > 0.1


def test_a_guided_mean_leaves_the_hull_and_thresholding_brings_it_back_with_eps():
    data = randn(40, 12, seed=5).clamp(-1, 1)
    classes = [d.Empirical(data[:20]), d.Empirical(data)]
    both = lambda x, level, y=None: (classes[1] if y is None else classes[0]).denoiser()(x, level)
    level, x = SCHEDULE.level(0.6), randn(30, 12, seed=6)
    assert d.cfg(both, 1.0, y=0)(x, level).mean.abs().max() <= 1 + 1e-12
    wild = d.cfg(both, 8.0, y=0)
    assert wild(x, level).mean.abs().max() > 1.2
    for tame in (d.clip_x0(wild), d.dynamic_threshold(wild, 0.9)):
        belief = tame(x, level)
        assert belief.mean.abs().max() <= 1 + 1e-12
        assert (level.alpha * belief.mean + level.sigma * belief.eps - x).abs().max() < 1e-12
        assert (belief.eps - wild(x, level).eps).abs().max() > 0.1
    # every threshold in the solver's x_0 form bounds its end; at order 1 into the data the end is the last mean itself
    end = last(d.ode_multistep(d.clip_x0(wild), randn(30, 12, seed=7), d.levels(SCHEDULE, 5, to_zero=True), 2))
    assert end.abs().max() <= 1 + 1e-12


def test_guidance_keeps_dtype_and_leaves_no_graph():
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        for guide in (d.cfg(believe, 2.0, y=1), d.classifier_guidance(believe, log_prob)):
            mean = d.dynamic_threshold(guide)(X.to(dtype), SCHEDULE.level(0.5)).mean
            assert mean.dtype == dtype and mean.isfinite().all() and not mean.requires_grad
    with torch.no_grad():  # a classifier's gradient is taken even there
        assert d.classifier_guidance(believe, log_prob)(X, SCHEDULE.level(0.5)).mean.isfinite().all()


NET = d.Denoiser(MLP(2, 16, 1, classes=3), SCHEDULE)
LEVEL = SCHEDULE.level(0.5)


@pytest.mark.parametrize("call, words", [
    (lambda: d.cfg(believe, 2.0), "condition"),
    (lambda: d.cfg(believe, 2.0, y=None), "y.*None"),
    (lambda: d.cfg(NET, 2.0, y=torch.zeros(5, dtype=torch.long))(X.float(), LEVEL), r"y of shape \(5,\) for 24"),
    (lambda: d.cfg(NET, 2.0, {"y": torch.zeros(5, dtype=torch.long)}, y=torch.zeros(24, dtype=torch.long))(X.float(), LEVEL), "y of shape"),
    (lambda: d.classifier_guidance(believe, lambda x, level: log_prob(x, level).detach())(X, LEVEL), "gradient"),
    (lambda: d.classifier_guidance(believe, lambda x, level: x)(X, LEVEL), r"shape \(24, 2\)"),
    (lambda: d.classifier_guidance(believe, log_prob)(X, d.Flow().level(1.0)), "alpha = 0"),
    (lambda: d.dynamic_threshold(believe, 0.0), "quantile"),
    (lambda: d.dynamic_threshold(believe, least=0.0), "least"),
])
def test_bad_input_is_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_an_unconditional_network_refuses_labels():
    net = d.Denoiser(MLP(2, 16, 1), SCHEDULE)
    with pytest.raises(ValueError, match="0 classes"):
        d.cfg(net, 2.0, y=torch.zeros(24, dtype=torch.long))(X.float(), LEVEL)


def test_samples_of_the_generator_alone():
    """Guidance draws no numbers: the SDE's noise is the caller's."""
    grid = d.levels(SCHEDULE, 6, to_zero=True)
    a, b = (last(d.sde_multistep(d.cfg(believe, 3.0, y=2 % len(PARTS)), X, grid, 2, generator=gen())) for _ in range(2))
    assert torch.equal(a, b)
