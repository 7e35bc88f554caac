"""The toys have the moments they promise; CIFAR-10 is read or refused, never half read, and never executed."""

import functools
import hashlib
import http.server
import os
import pickle
import socket
import struct
import tarfile
import threading

import numpy as np
import pytest
import torch

import dpmlib
from dpmlib import data
from dpmlib.data import cifar


def g(seed=0):
    return torch.Generator().manual_seed(seed)


# Toys

@pytest.mark.parametrize("name", data.toy_names)
def test_toys_are_standard_by_construction(name):
    n = 100_000
    x = data.toy2d(name, n, g(), torch.float64)
    assert x.shape == (n, 2) and x.abs().max() < 4
    assert (x.mean(0).abs() < 4.5 / n**0.5).all()
    error = x.square().std(0) / n**0.5
    assert ((x.square().mean(0) - 1).abs() < 4.5 * error).all()


@pytest.mark.parametrize("name", data.toy_names)
def test_toys_depend_on_the_generator_alone(name):
    torch.manual_seed(1)
    state = torch.get_rng_state()
    x = data.toy2d(name, 100, g(3))
    assert torch.equal(torch.get_rng_state(), state) and x.dtype == torch.float32
    assert torch.equal(x, data.toy2d(name, 100, g(3), torch.float64).float())
    assert not torch.equal(x, data.toy2d(name, 100, g(4)))


@pytest.mark.parametrize("name", ["grid8", "grid25", "twopeaks", "petals"])
def test_mixtures_have_exactly_mean_0_and_variance_1_and_are_what_is_sampled(name):
    mixture = data.toy_mixture(name)
    assert isinstance(mixture, dpmlib.GaussianMixture)
    w, m, c = mixture.weights, mixture.means.reshape(-1, 2), mixture.covariances
    assert (w @ m).abs().max() < 1e-12
    assert ((w @ (m.square() + c.diagonal(dim1=1, dim2=2))) - 1).abs().max() < 1e-12
    # cross-entropy of the samples = entropy, by an independent integral of -p log p on a grid
    axis = torch.linspace(-5, 5, 401, dtype=torch.float64)
    p = mixture.log_prob(torch.cartesian_prod(axis, axis))
    cell = (axis[1] - axis[0]) ** 2
    assert (p.exp().sum() * cell).item() == pytest.approx(1, abs=1e-4)
    minus_log = -mixture.log_prob(data.toy2d(name, 20_000, g(), torch.float64))
    assert (minus_log.mean() + (p.exp() * p).sum() * cell).abs() < 4.5 * minus_log.std() / 20_000**0.5


def test_checkerboard_fills_its_cells_and_no_others():
    cell = (data.toy2d("checkerboard", 8000, g(), torch.float64) * (4 / 3)**0.5 + 2).floor().long()
    assert cell.min() == 0 and cell.max() == 3 and ((cell.sum(1) % 2) == 0).all()
    counts = (4 * cell[:, 0] + cell[:, 1]).bincount(minlength=16)
    assert (counts > 0).sum() == 8 and (counts[counts > 0] - 1000).abs().max() < 150


def test_toys_refuse():
    for arguments, match in [(("moon", 5, g()), "moons, spirals"), (("moons", 0, g()), "n is 0"), (("moons", 2.5, g()), "n is 2.5"),
                             (("moons", 5, None), "generator"), (("moons", 5, g(), torch.int64), "dtype")]:
        with pytest.raises(ValueError, match=match):
            data.toy2d(*arguments)
    with pytest.raises(ValueError, match="grid8, grid25"):
        data.toy_mixture("moons")


# Reading CIFAR-10

N = 4
PIXELS = np.arange(N * 3072, dtype=np.uint32).astype(np.uint8).reshape(N, 3072)
LABELS = [3, 0, 9, 1]


def batch(labels=LABELS, pixels=PIXELS):
    return {b"batch_label": b"x", b"labels": labels, b"data": pixels, b"filenames": [b"a"] * N}


def python2(old):
    """What Python 2 with numpy 1 wrote, byte by byte: str for bytes, and (if old) no version in the array's state."""
    raw = PIXELS.tobytes()
    state = (b"(" if old else b"(K\x01") + b"K\x04M\x00\x0c\x86"
    return (b"\x80\x02}(U\x04datacnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R" + state
            + b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
            + b"T" + struct.pack("<i", len(raw)) + raw + b"tbU\x06labels](K\x03K\x00K\x09K\x01eu.")


def test_the_order_of_the_files_does_not_matter():
    images = np.random.default_rng(0).integers(0, 256, (500, 3, 32, 32), np.uint8)
    mixed = images[np.random.default_rng(1).permutation(500)]
    first = images[cifar._shuffled(images)]
    assert (first == mixed[cifar._shuffled(mixed)]).all()
    ranks = np.lexsort(first.reshape(500, -1).T[::-1])  # nor is it an order of the pixels: "the first 1000" are a sample
    assert abs(np.corrcoef(ranks.argsort(), np.arange(500))[0, 1]) < 0.15


FORMATS = {f"protocol {p}": pickle.dumps(batch(), p) for p in range(pickle.HIGHEST_PROTOCOL + 1)}
FORMATS |= {"text keys": pickle.dumps({k.decode(): v for k, v in batch().items()}),
            "numpy 1": pickle.dumps(batch(), 2).replace(b"numpy._core", b"numpy.core"),
            "fortran order": pickle.dumps(batch(pixels=np.asfortranarray(PIXELS)), 4),
            "python 2": python2(False), "older python 2": python2(True)}


@pytest.mark.parametrize("form", FORMATS)
def test_every_way_to_write_a_batch_is_read(form, tmp_path):
    (tmp_path / "b").write_bytes(FORMATS[form])
    images, labels = cifar._read(tmp_path / "b", N)
    assert np.array_equal(images, PIXELS.reshape(N, 3, 32, 32)) and labels.tolist() == LABELS and labels.dtype == np.int64


class Evil:
    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call


def tampered():
    good = pickle.dumps(batch(), 4)
    yield "empty", b"", "refused"
    yield "truncated", good[:-5000], "refused"
    yield "noise", bytes(range(256)) * 9, "refused"
    yield "system", pickle.dumps(Evil(os.system, ("touch executed",))), r"posix\.system|nt\.system"
    yield "eval", pickle.dumps(batch(pixels=Evil(eval, ("open('executed', 'w')",)))), r"builtins\.eval"
    yield "open", b"cio\nopen\n(Vexecuted\nVw\ntR.", r"io\.open"
    yield "getattr", b"\x80\x04cbuiltins\ngetattr\n.", r"builtins\.getattr"
    yield "dotted", b"\x80\x04\x8c\x05numpy\x94\x8c\x11ndarray.__class__\x94\x93.", "calls for"
    yield "numpy loader", b"\x80\x02cnumpy\nload\n(Vexecuted\ntR.", r"numpy\.load"
    yield "allowed name, other use", b"\x80\x02cnumpy\nndarray\n)R.", "refused"
    yield "list", pickle.dumps([1]), "list"
    yield "no data", pickle.dumps({b"labels": LABELS}), "no entry"
    yield "text as data", pickle.dumps(batch(pixels=b"x" * 3072 * N)), "not an array"
    yield "float", pickle.dumps(batch(pixels=PIXELS.astype(np.float32))), "uint8"
    yield "int8", pickle.dumps(batch(pixels=PIXELS.view(np.int8))), "uint8"
    yield "objects", pickle.dumps(batch(pixels=PIXELS.astype(object))), "uint8"
    yield "too few rows", pickle.dumps(batch(pixels=PIXELS[:-1])), r"shape \(3, 3072\)"
    yield "three axes", pickle.dumps(batch(pixels=PIXELS.reshape(N, 3, 1024))), "shape"
    yield "shape that lies", good.replace(b"K\x04M\x00\x0c", b"K\x05M\x00\x0c"), "as its shape says"
    yield "too few labels", pickle.dumps(batch(LABELS[:-1])), "labels"
    yield "label 10", pickle.dumps(batch([3, 0, 10, 1])), "0…9"
    yield "label -1", pickle.dumps(batch([3, 0, -1, 1])), "0…9"
    yield "label True", pickle.dumps(batch([3, 0, True, 1])), "0…9"
    yield "label 1.0", pickle.dumps(batch([3, 0, 1., 1])), "0…9"
    yield "labels as text", pickle.dumps(batch("3091")), "list"


@pytest.mark.parametrize("content, match", [pytest.param(c, m, id=i) for i, c, m in tampered()])
def test_a_tampered_batch_is_refused_by_name_and_nothing_is_executed(content, match, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data_batch_3").write_bytes(content)
    with pytest.raises(ValueError, match=match) as error:
        cifar._read(tmp_path / "data_batch_3", N)
    assert "data_batch_3" in str(error.value) and not (tmp_path / "executed").exists()


# Finding CIFAR-10

@pytest.fixture
def small(monkeypatch, tmp_path):
    """A world in which a batch has four images and the cache is empty; returns the files, by name."""
    monkeypatch.setattr(cifar, "_PER_FILE", N)
    monkeypatch.setattr(cifar, "_cache", lambda: tmp_path / "cache")
    monkeypatch.setattr(cifar, "URL", f"http://127.0.0.1:{unused_port()}/cifar.tar.gz")
    monkeypatch.delenv("DPMLIB_DATA", raising=False)
    for proxy in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(proxy, raising=False)
    names = [name for names in cifar._FILES.values() for name in names]
    return {name: pickle.dumps(batch([i] * N)) for i, name in enumerate(names)}


def unused_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def write(files, folder):
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


@pytest.mark.parametrize("above", [False, True])
def test_found_where_the_variable_points(small, above, tmp_path, monkeypatch):
    folder = write(small, tmp_path / "mine" / "cifar-10-batches-py")
    monkeypatch.setenv("DPMLIB_DATA", str(folder.parent if above else folder))
    images, labels = data.cifar10("train")
    assert images.shape == (5 * N, 3, 32, 32) and images.dtype == torch.uint8 and labels.dtype == torch.int64
    assert labels.tolist() == sorted(list(range(5)) * N) and data.cifar10("test")[1].tolist() == [5] * N
    some = data.cifar10_or_generated("train", 6)
    assert torch.equal(some.images, images[:6]) and not some.generated and some.images.untyped_storage().nbytes() == 6 * 3072
    (folder / "data_batch_2").unlink()
    with pytest.raises(ValueError, match="lacks data_batch_2"):
        data.cifar10("test")


def test_found_in_the_cache_when_the_variable_points_nowhere(small, tmp_path, monkeypatch):
    write(small, tmp_path / "cache" / "cifar-10-batches-py")
    monkeypatch.setenv("DPMLIB_DATA", str(tmp_path / "nowhere"))
    assert len(data.cifar10("train")[0]) == 5 * N


def test_downloaded_once_and_checked(small, tmp_path, monkeypatch):
    served = tmp_path / "served"
    write(small, served / "cifar-10-batches-py")
    with tarfile.open(served / "cifar.tar.gz", "w:gz") as archive:
        archive.add(served / "cifar-10-batches-py", "cifar-10-batches-py")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=served)
    monkeypatch.setattr(http.server.SimpleHTTPRequestHandler, "log_message", lambda *a: None)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(cifar, "URL", f"http://127.0.0.1:{server.server_port}/cifar.tar.gz")
        with pytest.raises(ValueError, match="hash"):
            data.cifar10("test")
        monkeypatch.setattr(cifar, "MD5", hashlib.md5((served / "cifar.tar.gz").read_bytes()).hexdigest())
        assert data.cifar10("test")[1].tolist() == [5] * N
        server.shutdown()
    assert len(data.cifar10("train")[0]) == 5 * N  # the server is gone
    assert sorted(p.name for p in (tmp_path / "cache").iterdir()) == ["cifar-10-batches-py", "cifar-10-python.tar.gz"]


def test_without_data_and_without_a_network(small, capsys):
    with pytest.raises(ConnectionError, match="DPMLIB_DATA"):
        data.cifar10("train")
    some = data.cifar10_or_generated("test", 3)
    assert some.generated and some.images.shape == (3, 3, 32, 32) and len(some.labels) == 3
    out, err = capsys.readouterr()
    assert out.count("\n") == 1 and "generated" in out and err == ""


def test_a_server_that_never_answers_is_given_up():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        with pytest.raises(OSError):
            cifar._reach(f"http://127.0.0.1:{s.getsockname()[1]}/", seconds=0.2)


def test_splits_and_sizes_are_checked():
    for call in (data.cifar10, data.cifar10_or_generated):
        with pytest.raises(ValueError, match="'train', 'test'"):
            call("valid")
    for n in (0, 10_001, 2.5):
        with pytest.raises(ValueError, match="10000"):
            data.cifar10_or_generated("test", n)


def test_the_real_images():
    try:
        images, labels = data.cifar10("test")
    except ConnectionError:
        pytest.skip("CIFAR-10 is not here")
    assert images.shape == (10_000, 3, 32, 32) and labels.bincount().tolist() == [1000] * 10
    mean = (images.double() / 255).mean((0, 2, 3))
    assert torch.allclose(mean, mean.new_tensor([0.494, 0.485, 0.450]), atol=2e-3)


# Values

def test_units():
    every = torch.arange(256, dtype=torch.uint8)
    x = data.to_unit(every)
    assert x.dtype == torch.float32 and x[0] == -1 and x[-1] == 1
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        if dtype != torch.bfloat16:
            assert torch.equal(data.from_unit(data.to_unit(every, dtype)), every)
    assert data.from_unit(torch.tensor([-7., 7., 0.0039, 0.0041])).tolist() == [0, 255, 128, 128]
    assert data.from_unit(torch.tensor([float("inf"), -float("inf")])).tolist() == [255, 0]
    for bad in (torch.tensor([float("nan")]), every):
        with pytest.raises(ValueError, match="x"):
            data.from_unit(bad)
    with pytest.raises(ValueError, match="uint8"):
        data.to_unit(x)


def test_generated_images():
    state = torch.get_rng_state()
    images, labels = data.generated_images(600)
    assert torch.equal(torch.get_rng_state(), state)
    again, _ = data.generated_images(501)
    assert torch.equal(images[:501], again) and not torch.equal(data.generated_images(5, "test")[0], images[:5])
    assert labels.unique().tolist() == list(range(10))
    x = images.double() / 255
    assert torch.allclose(x.mean((0, 2, 3)), x.new_tensor([0.4914, 0.4822, 0.4465]), atol=0.03)
    assert torch.allclose(x.std((0, 2, 3)), x.new_tensor([0.2470, 0.2435, 0.2616]), atol=0.03)
    for bad in ((0,), (5, "valid")):
        with pytest.raises(ValueError):
            data.generated_images(*bad)
