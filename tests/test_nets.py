"""The networks: shapes, gradients, precision, errors, and that no sample looks at its batch-mates."""

import pytest
import torch

import dpmlib
from dpmlib.nets import MLP, Preconditioned
from dpmlib.unet import UNet, sinusoids

CHAIN = dpmlib.DiscreteVP.linear(1000)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def awake(net, seed=0):
    """The network with every zero-initialised weight drawn anew, so that all of it has a say."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in net.parameters():
            if not p.any():
                p.normal_(0, 0.05, generator=generator)
    return net


def unet(**changes):
    settings = dict(channels=3, size=8, width=16, multipliers=(1, 2), blocks=1, attention=(2,), classes=4, patch=2, heads=2)
    return awake(UNet(**{**settings, **changes}))


NETS = {"mlp": (lambda: awake(MLP(2, width=32, depth=2, classes=4)), (2,)), "unet": (unet, (3, 8, 8)),
        "preconditioned": (lambda: Preconditioned(unet(), CHAIN), (3, 8, 8))}


@pytest.fixture(params=NETS)
def net_and_shape(request):
    make, shape = NETS[request.param]
    return make(), shape


def test_shape_dtype_and_a_gradient_for_every_parameter(net_and_shape):
    net, shape = net_and_shape
    x, t, y = draw(5, *shape), torch.linspace(0.1, 1, 5), torch.arange(5)
    out = net(x, t, y)
    assert out.shape == x.shape and out.dtype == x.dtype
    out.square().sum().backward()
    for name, p in net.named_parameters():
        assert p.grad is not None and p.grad.isfinite().all() and p.grad.any(), name


def test_a_sample_does_not_depend_on_its_batch_mates(net_and_shape):
    net, shape = net_and_shape
    net.eval()
    x, t, y = draw(6, *shape), torch.linspace(0.1, 1, 6), torch.tensor([0, 1, 2, 3, 4, 0])
    with torch.no_grad():
        whole = net(x, t, y)
        assert torch.allclose(whole[2:3], net(x[2:3], t[2:3], y[2:3]), atol=1e-5)
        x[0], t[0], y[0] = 100.0, 0.5, 3
        assert torch.equal(net(x, t, y)[1:], whole[1:])


def test_samples_do_not_depend_on_batch_mates():
    net, shape = Preconditioned(unet().eval(), CHAIN), (3, 8, 8)
    denoiser, grid, noise = dpmlib.Denoiser(net, CHAIN), dpmlib.levels(CHAIN, 5, to_zero=True), draw(4, *shape)

    def sample(rows):
        generators = [torch.Generator().manual_seed(100 + i) for i in rows]
        *_, x0 = dpmlib.ancestral(denoiser, noise[rows], grid, generator=generators)
        return x0

    with torch.no_grad():
        assert torch.allclose(sample([0, 1, 2, 3])[2], sample([2])[0], atol=1e-4)


def test_time_and_label_matter_and_no_label_is_the_last_one(net_and_shape):
    net, shape = net_and_shape
    x, t = draw(3, *shape), torch.full((3,), 0.5)
    label = lambda k: torch.full((3,), k)
    assert torch.equal(net(x, t), net(x, t, label(4)))
    assert not torch.allclose(net(x, t), net(x, t, label(0)))
    assert not torch.allclose(net(x, t), net(x, 0.9 * t))


@pytest.mark.parametrize("dtype, tolerance", [(torch.bfloat16, 0.05), (torch.float16, 0.01)])
def test_half_precision(net_and_shape, dtype, tolerance):
    net, shape = net_and_shape
    x, t = draw(4, *shape), torch.tensor([0.25, 0.5, 0.75, 1.0])
    with torch.no_grad():
        exact, half = net(x, t), net.to(dtype)(x.to(dtype), t)
    assert half.dtype == dtype
    assert (half.float() - exact).square().mean().sqrt() < tolerance * exact.square().mean().sqrt()


def test_autocast_returns_the_dtype_of_the_input(net_and_shape):
    net, shape = net_and_shape
    with torch.autocast("cpu", torch.bfloat16):
        assert net(draw(2, *shape), torch.ones(2)).dtype == torch.float32


def test_channels_last_is_the_same_network():
    net, x, t = unet().eval(), draw(2, 3, 8, 8), torch.ones(2)
    with torch.no_grad():
        plain = net(x, t)
        last = net.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last), t)
    assert torch.allclose(plain, last, atol=1e-5)


@pytest.mark.parametrize("change", [dict(patch=1), dict(multipliers=(1, 2, 2), size=16), dict(blocks=2, attention=()),
                                    dict(channels=1, classes=0), dict(dropout=0.5)])
def test_other_shapes_of_u_net(change):
    net = unet(**change)
    c, size, _ = net.shape
    assert net(draw(2, c, size, size), torch.ones(2)).shape == (2, c, size, size)


def test_bad_shapes():
    net, t = unet(), torch.ones(2)
    for x, number, y in [(draw(2, 3, 9, 9), t, None), (draw(2, 1, 8, 8), t, None), (draw(2, 3, 8, 8), torch.ones(3), None),
                         (draw(2, 3, 8, 8), torch.tensor(1.0), None), (draw(2, 3, 8, 8), t, torch.zeros(2)),
                         (draw(2, 3, 8, 8), t, torch.zeros(3).long())]:
        with pytest.raises(ValueError, match="shape"):
            net(x, number, y)
    with pytest.raises(ValueError, match="size"):
        unet(size=10)
    with pytest.raises(ValueError, match="classes"):
        unet(classes=0)(draw(2, 3, 8, 8), t, torch.zeros(2).long())
    for label in (-1, 5):
        with pytest.raises(ValueError, match=rf"y holds labels .*{label}.*in 0\.\.4"):
            unet(classes=4)(draw(2, 3, 8, 8), t, torch.tensor([0, label]))
    for x, number in [(draw(2, 3), t), (draw(4), t), (draw(2, 2), torch.ones(1))]:
        with pytest.raises(ValueError, match="shape"):
            MLP(2)(x, number)
    with pytest.raises(ValueError, match="classes"):
        MLP(2)(draw(2, 2), t, torch.zeros(2).long())


def test_preconditioning_is_v_in_disguise():
    """ε̂ = σ x + α F must give the x_0 that a network F of v gives."""
    net = unet().eval()
    x, level = draw(3, 3, 8, 8).double(), CHAIN.level(torch.tensor([0.05, 0.5, 1.0]))
    with torch.no_grad():
        eps = dpmlib.Denoiser(Preconditioned(net.double(), CHAIN), CHAIN)(x, level)
        v = dpmlib.Denoiser(net, CHAIN, predicts="v")(x, level)
    assert torch.allclose(eps.mean, v.mean, atol=1e-8)


def test_sinusoids_tell_every_step_of_a_chain_from_the_next():
    codes = sinusoids(torch.arange(1, 1001).float(), 48)
    assert codes.shape == (1000, 48)
    assert torch.cdist(codes, codes).fill_diagonal_(9).min() > 0.1
