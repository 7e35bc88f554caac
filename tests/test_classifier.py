"""The classifier: what it is fed, what it answers, and what guidance and distances get from it."""

import pytest
import torch

import dpmlib as d
from dpmlib import checkpoint as files
from dpmlib import classifier as c

CHAIN = d.DiscreteVP.linear(1000)


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


def test_shapes_and_features():
    net = c.Classifier(width=8, classes=4).eval()
    x = torch.randn(5, 3, 32, 32, generator=gen())
    features = net.features(x)
    assert features.shape == (5, 64) and torch.equal(net(x), net.head(features)) and net(x).shape == (5, 4)
    assert torch.equal(net(x), net(x, torch.zeros(5)))  # clean by default
    assert torch.allclose(net(x)[:2], net(x[:2]), atol=1e-5)  # no answer depends on the batch-mates
    with pytest.raises(ValueError, match=r"x of shape \(5, 3, 16, 16\)"):
        net(x[..., :16, :16])


def test_half_of_a_batch_is_clean_and_every_image_is_moved_by_little():
    images = torch.randint(256, (64, 3, 32, 32), dtype=torch.uint8, generator=gen(1))
    labels = torch.arange(64)
    x, t, y = c.batches(images, labels, CHAIN, 256, shift=0)(gen(2))
    clean, unit = t == 0, d.data.to_unit(images)
    assert 90 < int(clean.sum()) < 166  # 128 ± 8
    straight = (x[clean] == unit[y[clean]]).flatten(1).all(1)
    mirrored = (x[clean] == unit[y[clean]].flip(-1)).flatten(1).all(1)
    assert bool((straight ^ mirrored).all()) and 0.3 < float(straight.float().mean()) < 0.7
    level = CHAIN.level(t[~clean].double())
    noise = (x[~clean].double() - level.alpha[:, None, None, None] * unit[y[~clean]].double()) / level.sigma[:, None, None, None]
    mirrored = noise.square().flatten(1).mean(1) > 1.5  # a mirrored image does not leave noise behind; at late times nobody can tell
    assert (noise[~mirrored].square().mean() - 1).abs() < 0.1
    moved, _, y = c.batches(images, labels, CHAIN, 256, shift=3)(gen(3))
    assert moved.shape == x.shape and float((moved[:20] - unit[y[:20]]).abs().mean()) > 0.1


def test_it_learns_and_comes_back_from_its_file(tmp_path):
    """Bright against dark images, in the loop that trains everything; then saved and loaded."""
    images = torch.cat([torch.full((32, 3, 32, 32), v, dtype=torch.uint8) for v in (60, 200)])
    labels = torch.arange(2).repeat_interleave(32)
    torch.manual_seed(0)
    net = c.Classifier(width=4, classes=2)

    def loss(model, batch, generator):
        x, t, y = batch
        return torch.nn.functional.cross_entropy(model(x, t), y, reduction="none")

    run = d.train.fit(net, loss, c.batches(images, labels, CHAIN, 32), 40, generator=gen(), batch=32, lr=1e-2, warmup=5, ema=0.9)
    assert c.accuracy(run.model, images, labels) == 1.0
    path = tmp_path / "net.safetensors"
    files.save(path, {k: v.half() if v.is_floating_point() else v for k, v in run.model.state_dict().items()}, classifier=net.config)
    x = d.data.to_unit(images)
    assert torch.allclose(c.load(path)(x), run.model(x), atol=0.02)
    files.save(path, {"a": torch.zeros(1)}, step=1)
    with pytest.raises(ValueError, match="holds no classifier"):
        c.load(path)


def test_its_gradient_guides():
    """log p(y | x_t) of a linear classifier is known: guidance adds s ∇ log p to the score, to rounding."""
    net = c.Classifier(width=4, classes=3).double().eval()
    x, y = torch.randn(4, 3, 32, 32, generator=gen(), dtype=torch.float64), torch.tensor([0, 1, 2, 0])
    level = CHAIN.level(torch.tensor(0.5, dtype=torch.float64))
    value = c.log_prob(net, y)
    assert torch.allclose(value(x, level).exp() + sum(c.log_prob(net, (y + k) % 3)(x, level).exp() for k in (1, 2)), torch.ones(4).double())

    def plain(x, level):  # data N(0, I): E[x_0 | x_t] = α x_t
        return d.Posterior(level.alpha * x, x=x, level=level)

    at = x.clone().requires_grad_()
    push, = torch.autograd.grad(value(at, level).sum(), at)
    guided = d.classifier_guidance(plain, value, 2.0)(x, level)
    assert torch.allclose(guided.score, plain(x, level).score + 2 * push, atol=1e-10)
    one = c.log_prob(net, torch.tensor(1))(x, level)
    assert torch.allclose(one, c.log_prob(net, torch.tensor([1, 1, 1, 1]))(x, level))


def test_the_committed_classifier_knows_most_test_images_clean_or_a_little_noisy(record_property):
    net = c.load()
    assert net.notes["test_accuracy"] > 0.85
    try:
        images, labels = (part[:500] for part in d.data.cifar10("test"))
    except ConnectionError:
        pytest.skip("needs CIFAR-10")
    clean = c.accuracy(net, images, labels)
    assert abs(clean - net.notes["test_accuracy"]) < 5 * (0.87 * 0.13 / 500) ** 0.5
    x0, shares = d.data.to_unit(images[:200]), {}
    for t in (0.1, 0.3, 0.9):
        x = d.diffuse(x0, CHAIN.level(t), torch.randn(x0.shape, generator=gen()))
        shares[t] = float((net(x, torch.full((200,), t)).argmax(1) == labels[:200]).float().mean())
    record_property("accuracy", clean)
    for t, share in shares.items():
        record_property(f"accuracy at t = {t}", share)
    assert clean > shares[0.1] > shares[0.3] > 0.25 and shares[0.9] < 0.3  # the label fades with the image
