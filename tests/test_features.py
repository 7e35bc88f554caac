"""Features and the distances made of them: streamed as whole, beside an independent implementation, and Inception's interface."""

import sys
from types import ModuleType

import pytest
import torch
from torch import nn
from torchmetrics.image.fid import FrechetInceptionDistance

import dpmlib as d
from dpmlib import features
from dpmlib.metrics import frechet_distance


def images(n, seed=0):
    return torch.randint(256, (n, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


class Pixels(nn.Module):
    """Sixty-odd numbers of an image, all of them informative: means of 8 × 8 patches and of their squares."""

    def forward(self, x):
        x = x.float() / 127.5 - 1 if x.dtype == torch.uint8 else x
        return torch.cat([nn.functional.avg_pool2d(x**k, 8).flatten(1) for k in (1, 2)], 1).double()


def test_frechet_agrees_with_torchmetrics_on_the_same_features():
    a, b = images(300), (images(280, seed=1).float() * 0.8 + 20).to(torch.uint8)
    theirs = FrechetInceptionDistance(feature=Pixels(), input_img_size=(3, 32, 32)).set_dtype(torch.float64)
    for part in a.split(50):
        theirs.update(part, real=True)
    for part in b.split(50):
        theirs.update(part, real=False)
    ours = frechet_distance(features.moments(Pixels(), a, 64), features.moments(Pixels(), b, 64))
    assert ours == pytest.approx(float(theirs.compute()), rel=1e-4)
    assert ours > 0.01


def test_a_set_against_itself_is_zero_and_a_singular_covariance_breaks_nothing():
    net = features.classifier()
    few = features.moments(net, images(40))  # 256 features of 40 images: the covariance has rank 39
    assert frechet_distance(few, few) < 1e-8 * float(few.covariance.trace())
    assert frechet_distance(few, features.moments(net, images(40, seed=1))) > 0


def test_batches_make_no_difference():
    net, x = features.classifier(), images(30)
    whole, parts = features.moments(net, x, 30), features.moments(net, d.data.to_unit(x), 7)
    assert torch.allclose(whole.mean, parts.mean, atol=1e-5) and torch.allclose(whole.covariance, parts.covariance, atol=1e-4)
    assert net(d.data.to_unit(x)).shape == (30, 256)
    with pytest.raises(ValueError, match="0 images"):
        features.moments(net, x[:0])
    with pytest.raises(ValueError, match=r"features returned \(30, 3, 32, 32\)"):
        features.moments(lambda x: x, x)


def test_inception_is_fed_eight_bits_and_its_absence_named(monkeypatch):
    for name in ("torch_fidelity", "torch_fidelity.feature_extractor_inceptionv3"):
        monkeypatch.setitem(sys.modules, name, None)  # not to be imported
    with pytest.raises(ImportError, match=r"dpmlib\[fid\]"):
        features.inception()
    fed = []

    class Extractor(nn.Module):
        def __init__(self, name, features_list, feature_extractor_weights_path=None):
            super().__init__()
            assert features_list == ["2048"] and feature_extractor_weights_path == "file.pth"

        def forward(self, x):
            fed.append(x)
            return (x.float().flatten(1)[:, :2048],)

    module = ModuleType("torch_fidelity.feature_extractor_inceptionv3")
    module.FeatureExtractorInceptionV3 = Extractor
    monkeypatch.setitem(sys.modules, "torch_fidelity", ModuleType("torch_fidelity"))
    monkeypatch.setitem(sys.modules, "torch_fidelity.feature_extractor_inceptionv3", module)
    net, x = features.inception("file.pth"), images(3)
    assert net(d.data.to_unit(x)).shape == (3, 2048) and torch.equal(fed[0], x)
    assert features.moments(net, x).count == 3
