"""The commands behind the chapter on measuring: a part of each committed result again, and the laws that it leans on."""

import json

import pytest
import torch

from dpmlib import checkpoint, features, metrics
from dpmlib.autoregressive.patches import patches
from dpmlib.data import cifar10, cifar10_or_generated
from dpmlib.pretrained import WEIGHTS
from dpmlib.unet import UNet


@pytest.fixture
def commands(monkeypatch):
    """Both commands, imported as they import one another: from their own folder."""
    monkeypatch.syspath_prepend(str(WEIGHTS.parents[1] / "benchmarks"))
    import measuring
    import measuring_real
    return measuring, measuring_real


@pytest.fixture(scope="module")
def images():
    found = cifar10_or_generated("test", 2)
    if found.generated:
        pytest.skip("the committed results are of CIFAR-10")
    return cifar10("test")[0]


def read(name):
    return json.loads((WEIGHTS / name).read_text())


def test_tiles_are_the_patches_of_an_image_and_all_of_it(commands):
    real = commands[1]
    image = torch.arange(2 * 3072).reshape(2, 3, 32, 32)
    tiles = real.tiles(image)
    assert tiles.shape == (32, 192) and torch.equal(tiles.flatten().sort().values, image.flatten())
    corner = patches(image[1:, :, 8:16, 24:], 1, torch.Generator())
    assert torch.equal(tiles[16 + 4 + 3], corner[0])


def test_bits_of_the_first_images_are_those_of_the_file(commands, images, record_property):
    real, file = commands[1], read("measuring_bits.json")
    stored = dict(zip(file["columns"], torch.tensor(file["bits_per_dim"], dtype=torch.float64).T))
    noise = real.noise_of(4)
    for name, column in (("Transformer", "transformer"), ("RNADE", "rnade")):
        apart = (real.patch_bits(name, images[:4], noise) - stored[column][:4]).abs().max()
        record_property(f"{column}_apart", float(apart))
        assert apart < 2e-3
    assert torch.allclose(real.histogram_bits(cifar10("train")[0], images[:4]), stored["histogram"][:4], atol=1e-4)
    for kind in ("zlib", "PNG"):
        assert (real.file_bits(images[:4], kind) - stored[kind.lower()][:4]).abs().max() < 0.05
    assert len(stored["transformer"]) == file["images"] >= 512


def test_bias_of_gaussian_features_is_the_theorems(commands, record_property):
    """A known covariance: the mean distance of n samples to the truth is C/n, of two sets C (1/n + 1/m)."""
    real, g = commands[1], torch.Generator().manual_seed(0)
    s = 0.6 ** torch.arange(5, dtype=torch.float64)
    constant = real.slope(torch.randn(200_000, 5, generator=g, dtype=torch.float64) * s.sqrt())
    exact = float(1.25 * s.sum() + 0.5 * (s.outer(s) / (s[:, None] + s)).sum())
    assert constant == pytest.approx([exact, exact], rel=0.02)
    one, two = [], []
    for _ in range(400):
        a, b = (torch.randn(n, 5, generator=g, dtype=torch.float64) * s.sqrt() for n in (200, 400))
        one.append(metrics.gaussian_frechet(a.mean(0), torch.cov(a.T), 0 * s, torch.diag(s)))
        two.append(metrics.frechet_distance(a, b))
    for found, expected in ((one, exact / 200), (two, exact * (1 / 200 + 1 / 400))):
        mean, error = torch.tensor(found).mean(), torch.tensor(found).std() / 20
        assert abs(mean - expected) < 4 * error + 0.03 * expected
        record_property(f"times_{expected:.4f}", float(mean / expected))


def test_distance_of_real_images_is_that_of_the_file(commands, images):
    file, (tensors, notes) = read("measuring_protocol.json"), checkpoint.load(WEIGHTS / "measuring_moments.safetensors")
    truth = metrics.Moments(notes["count"], tensors["mean"].double(), tensors["covariance"].double() * (notes["count"] - 1))
    seen = commands[1].extract(features.classifier(), images[:128])
    rows = {row["n"]: row for row in file["bias"]["classifier"]["test"]}
    assert metrics.frechet_distance(seen, truth) == pytest.approx(rows[128]["first"], rel=0.01)
    assert all(by < 1e-6 for by in file["copies"]["the same"].values())


def test_slope_foretells_the_bias_of_real_features():
    for name, one in read("measuring_protocol.json")["bias"].items():
        for who in ("train", "test"):
            row = next(row for row in one[who] if row["n"] == 5000)
            assert row["mean"] == pytest.approx(one["slope_fourth_moments"] * (1 / 5000 + 1 / 10_000), rel=0.15), (name, who)


@pytest.mark.parametrize("table, method, K", [("rk", "DPM-Solver-2", 12), ("vpsde", "Euler-Maruyama", 10), ("vpsde", "SN-DPM", 10)])
def test_a_cell_asks_the_network_as_often_as_it_says(commands, monkeypatch, table, method, K):
    measuring, asked, features = commands[0], [], UNet.features
    monkeypatch.setattr(UNet, "features", lambda *given, **more: asked.append(1) or features(*given, **more))
    made = measuring.samples(table, method, K, count=2)
    assert made.shape == (2, 3, 32, 32) and made.dtype == torch.uint8
    assert len(asked) == K


def test_sampling_goes_on_where_it_was_stopped_and_new_weights_have_new_files(commands, monkeypatch, tmp_path):
    measuring, drawn = commands[0], []
    monkeypatch.setattr(measuring, "CELLS", measuring.CELLS[:4])
    monkeypatch.setattr(measuring, "samples", lambda *cell: drawn.append(cell) or torch.zeros(2, 3, 32, 32, dtype=torch.uint8))
    measuring.sample(tmp_path, 0, 2, 2)
    assert len(drawn) == 2
    measuring.sample(tmp_path, 0, 1, 2)
    assert len(drawn) == 4 and len(list(tmp_path.iterdir())) == 4
    before = measuring.path_of(tmp_path, "rk", "RK2 (t)", 12), measuring.path_of(tmp_path, "vpsde", "A-DPM", 10)
    monkeypatch.setitem(measuring.VPSDE, "A-DPM", ["cifar10_heads.safetensors"])
    after = measuring.path_of(tmp_path, "rk", "RK2 (t)", 12), measuring.path_of(tmp_path, "vpsde", "A-DPM", 10)
    assert before[0] == after[0] and before[1] != after[1]


def test_committed_neighbours_are_the_nearest(commands, images):
    """In pixels, for two samples, against all training images and their mirror images, by |x|² + |y|² − 2 xy in one pass."""
    tensors, notes = checkpoint.load(WEIGHTS / "measuring_neighbours.safetensors")
    some, train = tensors["samples"][:2].float(), cifar10("train")[0]
    queries = torch.cat([some, some.flip(3)]).flatten(1)
    parts = [part.flatten(1).float() for part in train.split(10_000)]
    squares = torch.cat([y.square().sum(1)[:, None] - 2 * y @ queries.T for y in parts]) + queries.square().sum(1)
    distance = squares.T.reshape(2, 2, -1).transpose(0, 1).flatten(1).sqrt() / 127.5  # of a sample: as it is, then mirrored
    best, index = distance.sort(1)
    assert torch.equal(index[:, :3].int(), tensors["sample_pixels_index"][:2])
    assert best[:, 0].tolist() == pytest.approx(tensors["sample_pixels_first"][:2].tolist(), rel=1e-3)
    assert best[:, :50].mean(1).tolist() == pytest.approx(tensors["sample_pixels_mean"][:2].tolist(), rel=1e-3)
