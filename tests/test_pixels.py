"""Pixels as tokens: the residual code, and models of patches as they are trained, saved and loaded."""
import json
import math

import pytest
import torch
from torch.distributions import MultivariateNormal

from dpmlib import bits_per_dim, checkpoint
from dpmlib.autoregressive import RNADE, CausalTransformer, patches, pixels, scores
from dpmlib.autoregressive.residuals import LinearPrediction
from dpmlib.data import cifar10_or_generated


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


def correlated(n, d, seed=0):
    """8-bit values that a linear prediction knows something about."""
    x = torch.randn(n, d, generator=gen(seed), dtype=torch.float64).cumsum(1)
    return (128 + 20 * x).round().clamp(0, 255).to(torch.uint8)


CODE = LinearPrediction.fit(correlated(2000, 5))


def test_errors_are_a_change_of_variables_to_standard_normals():
    g = gen()
    factor = torch.randn(5, 5, generator=g, dtype=torch.float64) + 5 * torch.eye(5, dtype=torch.float64)
    truth = MultivariateNormal(torch.arange(5, dtype=torch.float64), 100 * factor @ factor.T)
    x = truth.mean + torch.randn(50_000, 5, generator=g, dtype=torch.float64) @ truth.scale_tril.T
    code = LinearPrediction.fit(x)
    z = code.errors(x)
    assert (torch.cov(z.T) - torch.eye(5)).abs().max() < 1e-2 and z.mean(0).abs().max() < 1e-2
    log_prob = torch.distributions.Normal(0., 1.).log_prob(z).sum(1) - code.scale.log().sum()
    assert (log_prob - truth.log_prob(x)).abs().mean() < 0.02 and abs((log_prob - truth.log_prob(x)).mean()) < 1e-3
    torch.testing.assert_close(code.restore(z), x, rtol=0, atol=1e-2)
    assert (code.weight.triu() == 0).all()


def test_the_residual_code_is_a_bijection_that_keeps_the_order():
    x, y = correlated(500, 5, seed=1), torch.randint(256, (500, 5), generator=gen())
    assert torch.equal(CODE.decode(CODE.encode(x)), x) and torch.equal(CODE.encode(CODE.decode(y)), y)
    for k in range(5):
        other = x.clone()
        other[:, k:] = other[:, k:] // 2
        assert torch.equal(CODE.encode(other)[:, :k], CODE.encode(x)[:, :k])
    assert (CODE.encode(x)[:, 1:].double() - 128).std() < 0.6 * x[:, 1:].double().std()
    for whole in CODE.weight * CODE.UNIT, CODE.bias * CODE.UNIT:   # so predictions from integers are exact
        assert torch.equal(whole, whole.round())


def tiny(kind, of, d=5):
    net = CausalTransformer(d, 256, 8, 1, generator=gen()) if kind == "transformer" else RNADE(d, 4, 2, generator=gen())
    return pixels.PixelModel(net, CODE if of == "residuals" or kind == "rnade" else None).requires_grad_(False)


@pytest.mark.parametrize("of", ["values", "residuals"])
def test_a_transformer_of_patches_sums_to_one_and_samples_what_it_says(of):
    code = LinearPrediction.fit(correlated(2000, 2)) if of == "residuals" else None
    net = pixels.fourier_(CausalTransformer(2, 256, 8, 1, generator=gen()), gen(1)).requires_grad_(False)
    model, every = pixels.PixelModel(net, code), torch.cartesian_prod(*[torch.arange(256)] * 2)
    p = torch.cat([model.log_prob(part) for part in every.split(8192)]).double().exp()
    assert abs(p.sum() - 1) < 1e-6
    x = model.sample(20_000, gen(2)).long() // 16                   # 16 x 16 coarse states
    found = torch.bincount(16 * x[:, 0] + x[:, 1], minlength=256) / len(x)
    said = p.view(16, 16, 16, 16).sum((1, 3)).flatten()
    assert (found - said).abs().sum() < 3 * ((2 / torch.pi * said * (1 - said) / len(x)) ** 0.5).sum()


@pytest.mark.parametrize("of", ["values", "residuals"])
def test_a_prompt_is_kept_and_only_its_values_count(of):
    model, prompt = tiny("transformer", of), correlated(3, 5, seed=4)[:, :3]
    x = model.sample(3, gen(), prompt)
    assert x.dtype == torch.uint8 and torch.equal(x[:, :3], prompt)
    assert torch.equal(model.sample(4, gen(), prompt[0])[:, :3], prompt[:1].expand(4, 3))


def test_near_values_begin_as_near_vectors():
    net = pixels.fourier_(CausalTransformer(2, 256, 512, 1), gen())
    phi = net.token.weight[:256].detach()
    kernel = phi @ phi.T
    bump = torch.stack([kernel.diagonal(gap).mean() for gap in range(100)])
    assert torch.equal(phi, net.head.weight) and abs(bump[0] - 1) < 0.05 and bump[1] > 0.98 * bump[0]
    assert (bump[:20].diff() < 0).all() and bump[40:].max() < 0.6


@pytest.mark.parametrize("kind", ["transformer", "rnade"])
@pytest.mark.parametrize("of", ["values", "residuals"])
def test_saved_and_loaded(kind, of, tmp_path):
    model, path = tiny(kind, of), tmp_path / "model.safetensors"
    network = dict(shape=5, vocab=256, width=8, depth=1) if kind == "transformer" else dict(d=5, hidden=4, components=2)
    pixels.save(path, model, model=kind, network=network)
    again, v, noise = pixels.load(path), correlated(7, 5, seed=2), torch.rand(7, 5, generator=gen())
    torch.testing.assert_close(again.log_prob(v, noise), model.log_prob(v, noise), rtol=0, atol=0.02)   # float16
    assert again.notes["network"] == network and (again.code is None) == (model.code is None)
    if model.code:
        assert torch.equal(again.code.weight, model.code.weight) and torch.equal(again.code.encode(v), model.code.encode(v))
    assert again.sample(2, gen()).shape == (2, 5)


def test_the_command_trains_and_goes_on(tmp_path, monkeypatch):
    images = correlated(60, 3 * 16 * 16).view(60, 3, 16, 16)
    monkeypatch.setattr(pixels, "cifar10", lambda split: (images, None))
    size = ["--size", "2", "--width", "16", "--depth", "1", "--tests", "32", "--every", "10", "--out", str(tmp_path)]
    first = pixels.main([*size, "--steps", "30"])
    assert pixels.load(tmp_path / "patches_transformer_residuals.safetensors").notes["steps"] == 30
    log = first.code and pixels.main([*size, "--steps", "40"]) and pixels.load(tmp_path / "patches_transformer_residuals.safetensors").notes
    assert log["steps"] == 40 and log["command"].endswith("--size 2 --every 10 --tests 32 --width 16 --depth 1 --steps 40")
    assert log["test_patches"] == 32 and abs(log["test_bits_per_dim"] - pixels.bits_on_patches(first, images, 32, 2).mean()) < 0.5


def test_the_committed_scores_are_those_of_the_committed_models(record_property):
    """Each model's mean is what its log says, and on the same patches the Transformer beats RNADE, and RNADE the Gaussian."""
    bits, notes = checkpoint.load(pixels.WEIGHTS / "patches_scores.safetensors")
    assert notes["models"] == scores.MODELS
    for name, file in scores.MODELS.items():
        log = json.loads((pixels.WEIGHTS / f"{file}.json").read_text())
        assert log["test_patches"] == len(bits[name]) == 4096
        assert abs(bits[name].mean() - log["test_bits_per_dim"]) < 2e-3 < log["standard_error"] / 5
    for better, worse in ("Transformer", "RNADE"), ("RNADE", "Gaussian"):
        gain = bits[worse] - bits[better]
        error = gain.std() / len(gain) ** 0.5
        record_property(f"{worse} minus {better}", float(gain.mean()))
        print(f"{better} beats {worse} by {gain.mean():.3f} ± {error:.3f} bits/dim")
        assert gain.mean() > 10 * error and gain.mean() > 0.1


def test_the_committed_models_reproduce_their_scores():
    images = cifar10_or_generated("test")
    if images.generated:
        pytest.skip("needs CIFAR-10")
    bits, _ = checkpoint.load(pixels.WEIGHTS / "patches_scores.safetensors")
    g = gen()
    v = patches(images.images, 4096, g)
    noise = torch.rand(v.shape, generator=g)
    for (name, file), n in zip(scores.MODELS.items(), (64, 512)):
        model = pixels.load(file)
        with torch.no_grad():
            again = bits_per_dim(model.log_prob(v[:n], noise[:n]), v.shape[1])
        torch.testing.assert_close(again, bits[name][:n], rtol=0, atol=2e-3)
        assert sum(p.numel() for p in model.model.parameters()) == model.notes["parameters"]


def test_the_gaussian_is_scored_in_bits_of_integers():
    """On white noise of 16 grey levels a Gaussian pays log2(s √(2πe)) bits, s the deviation of a uniform on [0, 16)."""
    white = torch.randint(16, (400, 3, 32, 32), generator=gen(), dtype=torch.uint8)
    bits = scores.gaussian_bits(white[:300], white[300:], 500, 2)
    s = 16 / 12**0.5
    assert abs(bits.mean() - math.log2(s * (2 * math.pi * math.e) ** 0.5)) < 0.02


def test_bad_input_is_refused_with_what_is_allowed(tmp_path):
    for bad in torch.zeros(5), torch.zeros(4, 5), torch.full((9, 2), torch.nan):
        with pytest.raises(ValueError, match="x must"):
            LinearPrediction.fit(bad)
    with pytest.raises(FileNotFoundError):
        pixels.load(tmp_path / "none.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"not a file of tensors")
    with pytest.raises(ValueError, match="truncated"):
        pixels.load(tmp_path / "broken.safetensors")
    with pytest.raises(ValueError, match="from 0 to 255"):
        tiny("transformer", "values").log_prob(torch.full((1, 5), 256))


def test_patches_are_cut_from_the_images():
    images = torch.arange(5 * 3 * 32 * 32).view(5, 3, 32, 32)        # every value says where it stands
    p = patches(images, 200, gen()).view(200, 8, 8, 3)
    image, rest = p // 3072, p % 3072
    assert torch.equal(rest // 1024, torch.arange(3).expand(200, 8, 8, 3)) and (image == image[:, :1, :1, :1]).all()
    row, column = rest % 1024 // 32, rest % 32
    assert torch.equal(row - row[:, :1, :1, :1], torch.arange(8)[:, None, None].expand(200, 8, 8, 3))
    assert torch.equal(column - column[:, :1, :1, :1], torch.arange(8)[:, None].expand(200, 8, 8, 3))
    assert row.min() == column.min() == 0 and row.max() == column.max() == 31 and image.unique().numel() == 5
    for bad in dict(images=images[0]), dict(n=0), dict(size=33), dict(size=0):
        with pytest.raises(ValueError, match=next(iter(bad))):
            patches(**{"images": images, "n": 2, "generator": gen(), **bad})
