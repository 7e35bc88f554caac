"""Laws of the flow, the VAE and the GAN against closed forms."""
import math

import pytest
import torch

from dpmlib import Gaussian
from dpmlib.data import toy_mixture
from dpmlib.flow import AffineCoupling, CouplingFlow, mlp
from dpmlib.gan import Generator, discriminator_loss, generator_loss, gradient_penalty, js_from_logits, optimal_discriminator, train_gan
from dpmlib.vae import VAE, DiagonalNormal


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def rough_flow(d, layers=6, size=0.3):
    """A flow far from the identity, in float64."""
    g = seeded()
    flow = CouplingFlow(d, layers=layers, width=32, generator=g).double()
    with torch.no_grad():
        for p in flow.parameters():
            p.add_(size / math.sqrt(p.shape[-1]) * torch.randn(p.shape, generator=g, dtype=p.dtype))
    return flow


# Flow

@pytest.mark.parametrize("d", [2, 3, 7])
def test_flow_inverts_and_counts_volume(d):
    flow, x = rough_flow(d), 2 * torch.randn(200, d, generator=seeded(1), dtype=torch.float64)
    z, logdet = flow(x)
    assert (z - x).abs().max() > 1  # not the identity
    assert (flow.inverse(z) - x).abs().max() < 1e-10
    assert (flow(flow.inverse(x))[0] - x).abs().max() < 1e-10
    for i in range(20):
        jacobian = torch.autograd.functional.jacobian(lambda v: flow(v[None])[0][0], x[i])
        assert abs(torch.linalg.slogdet(jacobian)[1] - logdet[i]) < 1e-10


def trained_flow():
    """Fitted to eight separate peaks for a moment: sharp, with bridges, as in the chapter."""
    g, data = seeded(), toy_mixture("grid8").sample(4096, seeded(2)).float()
    flow = CouplingFlow(2, layers=6, width=48, generator=g)
    optimizer = torch.optim.Adam(flow.parameters(), 5e-3)
    for _ in range(100):
        loss = -flow.log_prob(data[torch.randint(len(data), (256,), generator=g)]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return flow.double()


@pytest.mark.parametrize("make", [lambda: rough_flow(2), trained_flow], ids=["random", "trained"])
def test_flow_density_integrates_to_one(make):
    flow = make()
    # x = sinh u: fine where the ridges are, far enough for the heaviest tail
    u = torch.linspace(-3, 3, 301, dtype=torch.float64)
    x, dx = u.sinh(), u.cosh() * (u[1] - u[0])
    with torch.no_grad():
        rows = [flow.log_prob(torch.cartesian_prod(part, x)).exp().view(len(part), -1) @ dx for part in x.split(50)]
    assert abs(torch.cat(rows) @ dx - 1) < 1e-6  # smooth, so the trapezium rule converges faster than any power


def test_flow_samples_follow_its_density():
    flow = rough_flow(2, size=0.2)
    with torch.no_grad():
        x = flow.sample(40_000, seeded(3))
        z, _ = flow(x)
        assert (z.mean(0).abs() < 0.02).all() and (z.T.cov() - torch.eye(2)).abs().max() < 0.03
        # E_p[q/p] = 1 for any density q: here the density and the samples meet
        q = Gaussian(x.mean(0), 0.3 * x.T.cov())
        ratio = (q.log_prob(x) - flow.log_prob(x)).exp()
        assert abs(ratio.mean() - 1) < 4 * ratio.std() / math.sqrt(len(x))


def test_untrained_flow_is_the_identity_and_a_coupling_keeps_to_the_bit():
    flow, x = CouplingFlow(3, generator=seeded()), torch.randn(5, 3, generator=seeded(1))
    assert torch.equal(flow(x)[0], x) and torch.equal(flow.sample(4, seeded(2)), torch.randn(4, 3, generator=seeded(2)))
    coupling = rough_flow(3).couplings[0]
    y, _ = coupling(x.double())
    keep = coupling.keep.bool()
    assert torch.equal(y[:, keep], x.double()[:, keep]) and (y[:, ~keep] != x.double()[:, ~keep]).all()


def test_networks_come_from_the_generator_alone():
    torch.manual_seed(1)
    a = mlp(2, 3, generator=seeded())
    torch.manual_seed(2)
    b = mlp(2, 3, generator=seeded())
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters()))


# VAE

class LinearGaussian:
    """x = W z + b + σ ε with z ~ N(0, I): p(x) and p(z | x) in closed form, and a VAE with a linear, wrong encoder."""

    def __init__(self, exact=False):
        f64 = {"dtype": torch.float64}
        self.W = torch.tensor([[1.0, 0.5], [-0.5, 1.0], [0.3, 0.6]], **f64)
        self.b, self.sigma = torch.tensor([0.2, -1.0, 0.5], **f64), 0.7
        precision = torch.eye(2, **f64) + self.W.T @ self.W / self.sigma**2
        self.covariance = torch.linalg.inv(precision)  # of z given x, full
        self.to_mean = self.covariance @ self.W.T / self.sigma**2
        self.marginal = Gaussian(self.b, self.W @ self.W.T + self.sigma**2 * torch.eye(3, **f64))
        encoder, decoder = torch.nn.Linear(3, 4).double(), torch.nn.Linear(2, 3).double()
        with torch.no_grad():
            decoder.weight.copy_(self.W)
            decoder.bias.copy_(self.b)
            encoder.weight.zero_()
            encoder.bias.zero_()
            encoder.weight[:2] = self.to_mean + (0 if exact else 0.1)
            encoder.bias[:2] = -self.to_mean @ self.b
            encoder.bias[2:] = self.covariance.diagonal().log() / 2 + (0 if exact else 0.2)
        self.vae = VAE(encoder, decoder, (2,)).double()
        with torch.no_grad():
            self.vae.log_std.fill_(math.log(self.sigma))
        self.x = self.marginal.sample(6, seeded(5))

    def gap(self):
        """KL(q ‖ p(z | x)), (B,): from a diagonal Gaussian to a full one."""
        q, mean = self.vae.posterior(self.x), (self.x - self.b) @ self.to_mean.T
        variance, apart = (2 * q.log_std).exp(), q.mean - mean
        precision = torch.linalg.inv(self.covariance)
        return 0.5 * ((variance * precision.diagonal()).sum(1) + torch.einsum("bi,ij,bj->b", apart, precision, apart) - 2
                      + self.covariance.logdet() - variance.log().sum(1))


def test_gap_of_the_elbo_is_the_kl_to_the_posterior():
    with torch.no_grad():
        case = LinearGaussian()
        truth, draws = case.marginal.log_prob(case.x), case.vae.log_weights(case.x, 200_000, seeded())
        assert (case.gap() > 0.02).all()
        error = (draws.mean(0) + case.gap() - truth).abs()
        assert (error < 5 * draws.std(0) / math.sqrt(len(draws))).all() and error.max() < 0.02
        # the estimate with the KL in closed form has the same mean
        again = torch.stack([case.vae.elbo(case.x.repeat(1000, 1), seeded(i)).view(1000, -1).mean(0) for i in range(20)])
        assert ((again.mean(0) - draws.mean(0)).abs() < 5 * again.std(0) / math.sqrt(20) + 0.005).all()


def test_exact_posterior_leaves_no_gap_in_any_draw():
    case = LinearGaussian(exact=True)  # W has orthogonal columns up to 0.18/σ²: make the posterior diagonal
    W = case.W.clone()
    W[2] = 0
    case.W.copy_(W)
    precision = torch.eye(2, dtype=torch.float64) + W.T @ W / case.sigma**2
    covariance = torch.linalg.inv(precision)
    assert covariance[0, 1].abs() < 1e-15
    with torch.no_grad():
        case.vae.decoder.weight.copy_(W)
        to_mean = covariance @ W.T / case.sigma**2
        case.vae.encoder.weight[:2] = to_mean
        case.vae.encoder.bias[:2] = -to_mean @ case.b
        case.vae.encoder.bias[2:] = covariance.diagonal().log() / 2
        marginal = Gaussian(case.b, W @ W.T + case.sigma**2 * torch.eye(3, dtype=torch.float64))
        weights = case.vae.log_weights(case.x, 50, seeded())
    assert (weights - marginal.log_prob(case.x)).abs().max() < 1e-12


def test_importance_weighted_bound_rises_to_the_likelihood():
    with torch.no_grad():
        case = LinearGaussian()
        truth = case.marginal.log_prob(case.x)
        means, errors, repeats = [], [], 4000
        for K in (1, 2, 5, 20, 100):
            draws = case.vae.iw_bound(case.x.repeat(repeats, 1), K, seeded(K)).view(repeats, -1)
            means.append(draws.mean(0))
            errors.append(draws.std(0) / math.sqrt(repeats))
    for mean, above, e, f in zip(means, means[1:], errors, errors[1:]):
        assert (mean < above + 3 * (e + f)).all() and mean.mean() < above.mean()
    assert all((mean < truth + 4 * e).all() for mean, e in zip(means, errors))
    assert (truth - means[0] > 0.02).all() and (truth - means[-1]).abs().max() < 0.01


def test_bounds_order_on_the_same_draws():
    g = seeded()
    vae = VAE(mlp(2, 4, generator=g), mlp(2, 2, generator=g), (2,), log_std=-1.0)
    x = toy_mixture("grid8").sample(300, g).float()
    with torch.no_grad():
        w = vae.log_weights(x, 64, g)
        elbo, bounds = w.mean(0), [torch.logsumexp(w.view(64 // K, K, -1), 1).mean(0) - math.log(K) for K in (1, 4, 16, 64)]
        assert torch.allclose(elbo, bounds[0], atol=1e-4)
        assert all((low <= high + 1e-4).all() for low, high in zip(bounds, bounds[1:]))
        assert torch.equal(vae.iw_bound(x, 8, seeded(1)), torch.logsumexp(vae.log_weights(x, 8, seeded(1)), 0) - math.log(8))
    # the closed-form KL against its own Monte Carlo estimate
    q = DiagonalNormal(torch.tensor([[0.5, -1.0]], dtype=torch.float64), torch.tensor([[-0.7, 0.3]], dtype=torch.float64))
    z = q.sample(g, 400_000)
    kl = (q.log_prob(z) - DiagonalNormal(torch.zeros(1, 2), torch.zeros(1, 2)).log_prob(z)).mean(0)
    assert abs(kl - q.kl_to_standard()) < 0.01


def test_vae_takes_images_and_other_likelihoods():
    g = seeded()
    encoder = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 4, 4))
    decoder = torch.nn.Sequential(torch.nn.ConvTranspose2d(4, 6, 4, 4))
    vae = VAE(encoder, decoder, (4, 8, 8), likelihood=DiagonalNormal.split)
    x = torch.randn(5, 3, 32, 32, generator=g)
    assert vae.elbo(x, g).shape == vae.iw_bound(x, 3, g).shape == (5,) and vae.log_weights(x, 3, g).shape == (3, 5)
    assert vae.sample(2, g).shape == (2, 3, 32, 32) and "log_std" not in dict(vae.named_parameters())
    vae.elbo(x, g).mean().backward()
    assert all(p.grad.isfinite().all() for p in vae.parameters())


# GAN

def test_gan_losses_at_the_optimum():
    p, q = (Gaussian(torch.full((1,), m, dtype=torch.float64), torch.full((1, 1), v, dtype=torch.float64)) for m, v in ((0, 1), (1, 2)))
    x = torch.linspace(-14, 14, 20001, dtype=torch.float64)[:, None]
    dx, log_p, log_q = x[1, 0] - x[0, 0], p.log_prob(x), q.log_prob(x)
    middle = torch.logaddexp(log_p, log_q) - math.log(2)
    js = 0.5 * dx * ((log_p.exp() * (log_p - middle)).sum() + (log_q.exp() * (log_q - middle)).sum())
    D = optimal_discriminator(log_p, log_q)
    value = dx * ((log_p.exp() * D.log()).sum() + (log_q.exp() * (1 - D).log()).sum())
    assert abs(value - (2 * js - math.log(4))) < 1e-9
    # any other discriminator does worse, and the losses are those of the definition
    for tilt in (0.9, 1.1):
        E = torch.sigmoid(tilt * (log_p - log_q))
        assert dx * ((log_p.exp() * E.log()).sum() + (log_q.exp() * (1 - E).log()).sum()) < value - 1e-4
    real, fake = torch.tensor([0.3, -2.0]), torch.tensor([1.0, -40.0])
    assert torch.isclose(discriminator_loss(real, fake), -(real.sigmoid().log().mean() + (1 - fake.sigmoid()).log().mean()))
    assert math.isclose(discriminator_loss(torch.zeros(3), torch.zeros(3)), 2 * math.log(2), rel_tol=1e-6)
    assert abs(js_from_logits(torch.zeros(3), torch.zeros(3))) < 1e-7
    assert discriminator_loss(torch.tensor([-1e4]), torch.tensor([1e4])).isfinite()


def test_gradient_of_the_generator_saturates_only_in_the_minimax_game():
    for logit in (-10.0, -1.0, 2.0):
        D = 1 / (1 + math.exp(-logit))
        for kind, expected in (("minimax", -D), ("non-saturating", -(1 - D))):
            fake = torch.tensor([logit], dtype=torch.float64, requires_grad=True)
            generator_loss(fake, kind).backward()
            assert abs(fake.grad.item() - expected) < 1e-12


def test_gradient_penalty_of_a_linear_discriminator():
    D = torch.nn.Linear(3, 1).double()
    x = torch.randn(7, 3, generator=seeded(), dtype=torch.float64)
    assert torch.isclose(gradient_penalty(D, x), 0.5 * D.weight.square().sum())


def test_gan_learns_a_gaussian():
    g = seeded()
    data = torch.tensor([1.0, -1.0]) + 0.5 * torch.randn(4096, 2, generator=g)
    model, D = Generator(mlp(2, 2, 32, 1, generator=g), 2), mlp(2, 1, 32, 1, generator=g)
    losses = list(train_gan(model, D, data, 800, generator=g, r1=1.0))
    x = model.sample(4000, g).detach()
    assert (x.mean(0) - data.mean(0)).abs().max() < 0.15 and (x.std(0) - 0.5).abs().max() < 0.15
    assert len(losses) == 800 and abs(losses[-1][0] - 2 * math.log(2)) < 0.1


# Bad input

def test_bad_input_is_named():
    g = seeded()
    flow, nan = CouplingFlow(2, layers=2, generator=g), torch.full((3, 2), math.nan)
    vae = VAE(mlp(2, 4, generator=g), mlp(2, 2, generator=g), (2,))
    model, D, x = Generator(mlp(2, 2, generator=g), 2), mlp(2, 1, generator=g), torch.zeros(3, 2)
    for call, names in [
        (lambda: CouplingFlow(1, generator=g), "d = 1"), (lambda: CouplingFlow(2, layers=0, generator=g), "layers = 0"),
        (lambda: AffineCoupling(torch.ones(2), D), "keep"), (lambda: AffineCoupling(torch.tensor([0, 2]), D), "keep"),
        (lambda: AffineCoupling(torch.tensor([0, 1]), D, bound=0), "bound = 0"), (lambda: mlp(2, 0, generator=g), "outputs = 0"),
        (lambda: flow.log_prob(torch.zeros(3, 5)), r"x has shape \(3, 5\): need \(B, 2\)"), (lambda: flow.log_prob(nan), "x holds NaN"),
        (lambda: flow.inverse(torch.zeros(2)), "z has shape"), (lambda: flow.sample(0, g), "n = 0"),
        (lambda: flow.sample(2, None), "generator"),
        (lambda: VAE(D, D, ()), "latent"), (lambda: VAE(D, D, (0,)), "latent"), (lambda: vae.elbo(nan, g), "x holds NaN"),
        (lambda: vae.elbo(x, g, beta=-1), "beta = -1"), (lambda: vae.iw_bound(x, 0, g), "K = 0"),
        (lambda: vae.log_weights(x, 1.5, g), "K = 1.5"), (lambda: vae.sample(-1, g), "n = -1"),
        (lambda: vae.likelihood(torch.zeros(3, 3)), "z has shape"), (lambda: VAE(mlp(2, 6, generator=g), D, (2,)).elbo(x, g), "latents"),
        (lambda: DiagonalNormal.split(torch.zeros(3, 3)), "even"),
        (lambda: Generator(D, 0), "latent = 0"), (lambda: model(torch.zeros(3, 4)), "z has shape"), (lambda: model.sample(0, g), "n = 0"),
        (lambda: generator_loss(x, "wasserstein"), "kind = 'wasserstein'"),
        (lambda: next(train_gan(model, D, nan, 5, generator=g)), "data holds NaN"),
        (lambda: next(train_gan(model, D, x, 0, generator=g)), "steps = 0"),
        (lambda: next(train_gan(model, D, x, 5, generator=g, r1=-1)), "r1 = -1"),
        (lambda: next(train_gan(model, D, x, 5, generator=g, ratio=0)), "ratio = 0"),
    ]:
        with pytest.raises(ValueError, match=names):
            call()
