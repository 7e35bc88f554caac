"""CIFAR-10 (Krizhevsky 2009) from its official Python files, read without trusting them."""

import os
import pickle
import shutil
import threading
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from .generated import generated_images

URL = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
MD5 = "c58f30108f718f92721af3b95e74349a"
_FOLDER = "cifar-10-batches-py"
_FILES = {"train": tuple(f"data_batch_{i}" for i in range(1, 6)), "test": ("test_batch",)}
_PER_FILE = 10_000

class_names = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


class Images(NamedTuple):
    """images uint8 (n, 3, 32, 32), labels int64 (n,), and whether they were generated for want of the real ones."""
    images: torch.Tensor
    labels: torch.Tensor
    generated: bool


def cifar10(split):
    """CIFAR-10's "train" (50,000) or "test" (10,000) images: uint8 (n, 3, 32, 32) and labels int64 (n,) in 0…9.

    Found in $DPMLIB_DATA (a folder that holds cifar-10-batches-py, or that folder itself), else in the user's cache,
    else downloaded there, once, and checked against the published MD5. The files are in circulation in more than one
    order; here it is always the same one, a shuffled one, so that "the first 1000 images" are the same everywhere.

    ValueError: an unknown split; a file that is missing from its folder, truncated, tampered with, or a pickle that
    names anything but an array of bytes. ConnectionError: neither found nor to be downloaded.
    """
    if split not in _FILES:
        raise ValueError(f"split is {split!r}; allowed: 'train', 'test'")
    folder = _find() or _download()
    names = _FILES[split]
    images = np.empty((len(names) * _PER_FILE, 3, 32, 32), np.uint8)
    labels = np.empty(len(images), np.int64)
    for i, name in enumerate(names):
        here = slice(i * _PER_FILE, (i + 1) * _PER_FILE)
        images[here], labels[here] = _read(folder / name, _PER_FILE)
    order = _shuffled(images)
    return torch.from_numpy(images[order]), torch.from_numpy(labels[order])


def cifar10_or_generated(split, n=None):
    """The first n images of cifar10(split), all without n, as Images(images, labels, generated).

    Without the data and without a network: one printed line, and n generated images with `generated` True
    (see generated_images). ValueError: as cifar10, and n outside 1…50,000 (train) or 1…10,000 (test).
    """
    size = len(_FILES.get(split, ())) * _PER_FILE
    if size and n is not None and not (isinstance(n, int) and 1 <= n <= size):
        raise ValueError(f"n is {n!r}; for split {split!r} it must be an integer in 1…{size}, or None")
    try:
        images, labels = cifar10(split)
    except ConnectionError:
        print("CIFAR-10 is not on this machine and cannot be downloaded: going on with generated images.")
        return Images(*generated_images(size if n is None else n, split), True)
    # A copy: a slice would keep all 150 MB alive.
    return Images(images, labels, False) if n is None else Images(images[:n].clone(), labels[:n].clone(), False)


def to_unit(images, dtype=torch.float32):
    """8-bit values to [-1, 1]: (v − 127.5)/127.5, so that neighbouring grey levels are 2/255 apart. ValueError: not uint8."""
    if images.dtype != torch.uint8:
        raise ValueError(f"images has dtype {images.dtype}; it must be torch.uint8")
    return images.to(dtype).sub_(127.5).div_(127.5)


def from_unit(x):
    """[-1, 1] to uint8: the nearest of the 256 values, beyond the ends the end. The inverse of to_unit. ValueError: NaN."""
    if not x.is_floating_point() or x.isnan().any():
        raise ValueError(f"x ({x.dtype}) must be floating-point and free of NaN")
    return (x * 127.5 + 127.5).round_().clamp_(0, 255).to(torch.uint8)


def _shuffled(images):
    """The order by a hash of each image's bytes: it does not depend on the order they come in. 25 ms for 50,000."""
    words = images.reshape(len(images), -1).view("<u8")
    factors = np.arange(1, words.shape[1] + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) | np.uint64(1)
    keys = np.concatenate([(some * factors).sum(1) for some in np.array_split(words, 10)])  # in pieces: memory
    keys = (keys ^ keys >> np.uint64(31)) * np.uint64(0xBF58476D1CE4E5B9)
    return np.argsort(keys, kind="stable")


# Where the files are.

def _find():
    """The folder of the batches, or None. ValueError if there is one that lacks a batch."""
    given = os.environ.get("DPMLIB_DATA")
    here = [Path(given).expanduser() / _FOLDER, Path(given).expanduser()] if given else []
    for folder in (*here, _cache() / _FOLDER):
        missing = [name for names in _FILES.values() for name in names if not (folder / name).is_file()]
        if not missing:
            return folder
        if len(missing) < 6:
            raise ValueError(f"{folder} lacks {', '.join(missing)}: CIFAR-10 has six batches")
    return None


def _cache():
    import pooch  # here: reading files needs none of it
    return Path(pooch.os_cache("dpmlib"))


def _download():
    """Fetch, check and unpack the archive into the user's cache; returns the folder. ConnectionError: not possible."""
    import pooch
    cache, archive, unpacked = _cache(), "cifar-10-python.tar.gz", f"unpacking-{os.getpid()}"
    try:
        if not (cache / archive).is_file():
            _reach(URL)
        pooch.retrieve(URL, "md5:" + MD5, archive, cache, pooch.Untar(extract_dir=unpacked),
                       pooch.HTTPDownloader(timeout=10, chunk_size=2**20))
        try:
            os.rename(cache / unpacked / _FOLDER, cache / _FOLDER)  # whole or not at all: nobody reads half a batch
        except OSError:
            if not (cache / _FOLDER).is_dir():  # else another process was faster
                raise
        finally:
            shutil.rmtree(cache / unpacked, ignore_errors=True)
    except OSError as error:  # includes everything that requests raises
        raise ConnectionError(f"CIFAR-10 is neither in $DPMLIB_DATA nor in {cache}, and {URL} cannot be fetched "
                              f"({error}): set DPMLIB_DATA to a folder that holds {_FOLDER}") from error
    return cache / _FOLDER


def _reach(url, seconds=4):
    """Raise OSError unless the server answers in time. In a thread: a name server that is silent heeds no timeout."""
    import requests
    outcome = [TimeoutError(f"no answer in {seconds} s")]

    def ask():
        try:
            requests.head(url, timeout=seconds, allow_redirects=True).raise_for_status()
            outcome[0] = None
        except OSError as error:
            outcome[0] = error

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(seconds)
    if outcome[0] is not None:
        raise outcome[0]


# Reading one batch. A pickle is a program: this reader lets it name nothing but the parts of an array, and hands it
# inert records in their place. The array is put together here, once its parts are what they must be.

class _Record:
    def __init__(self, args):
        self.args, self.state = args, None

    def __setstate__(self, state):
        self.state = state


def _record(*args):
    return _Record(args)


def _latin1(text, encoding):  # how Python 3 writes bytes in the protocols that have none
    return text.encode("latin1")


_ALLOWED = {("numpy.core.multiarray", "_reconstruct"): _record, ("numpy.core.numeric", "_frombuffer"): _record,
            ("numpy", "dtype"): _record, ("numpy", "ndarray"): "ndarray", ("_codecs", "encode"): _latin1}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module, name):
        known = _ALLOWED.get((module.replace("numpy._core", "numpy.core"), name))  # numpy 1 and numpy 2
        if known is None:
            raise pickle.UnpicklingError(f"it calls for {module}.{name}")
        return known


def _read(path, count):
    """One batch: images (count, 3, 32, 32) uint8 and labels (count,), or ValueError with the file and what is wrong."""
    def check(fine, wrong):
        if not fine:
            raise ValueError(f"{path} is not a batch of CIFAR-10: {wrong}")

    try:
        with open(path, "rb") as file:
            content = _Unpickler(file, encoding="bytes").load()  # Python 2 wrote the official files
    except Exception as error:  # a corrupt pickle can raise nearly anything
        check(False, f"unpickling was refused, {error or type(error).__name__}")
    check(type(content) is dict, f"it holds {type(content).__name__}, not a dictionary")
    content = {key.decode("latin1") if isinstance(key, bytes) else key: value for key, value in content.items()}
    check("data" in content and "labels" in content, "no entry 'data' or no entry 'labels'")
    data, labels = _array(content["data"]), content["labels"]
    check(data is not None, "'data' is not an array of uint8 with as many bytes as its shape says")
    check(data.shape == (count, 3072), f"'data' has shape {data.shape}, not {(count, 3072)}")
    check(type(labels) is list and len(labels) == count, f"'labels' is not a list of {count}")
    check(all(type(label) is int and 0 <= label <= 9 for label in labels), "a label is not an integer in 0…9")
    return data.reshape(count, 3, 32, 32), np.array(labels, np.int64)


def _array(record):
    """The uint8 array that a record describes, or None."""
    try:
        if record.state is None:  # numpy's _frombuffer(bytes, dtype, shape, order), pickle protocol 5
            raw, dtype, shape, order = record.args
        else:                     # ndarray.__setstate__, from version 1 on with a version number in front
            *_, shape, dtype, fortran, raw = record.state
            order = "F" if fortran else "C"
        if dtype.args[0] not in ("u1", b"u1"):
            return None
        return np.frombuffer(raw, np.uint8).reshape(shape, order=order)
    except (AttributeError, IndexError, TypeError, ValueError):
        return None
