"""Features of images: what `metrics.frechet_distance` and `metrics.precision_recall` compare. A function of images, whoever made it.

A distance has no meaning without the name of its features. Only with `inception` may a Fréchet distance be called FID, and beside it
stands the number of samples: the distance of finite sets is biased upwards.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from . import classifier as classifiers
from .data import from_unit, to_unit
from .metrics import Moments

Features = Callable[[Tensor], Tensor]


def classifier(path=classifiers.FILE, device: torch.device | str = "cpu") -> Features:
    """The 256 features of this project's CIFAR-10 classifier: images (B, 3, 32, 32) in [−1, 1] → (B, 256). Nothing is fetched."""
    net = classifiers.load(path, device)
    return lambda images: net.features(images.to(device).float())


def inception(weights: str | None = None, device: torch.device | str = "cpu") -> Features:
    """The 2048 features of Inception-v3 behind the FID (Heusel et al. 2017), by torch-fidelity: images in [−1, 1], any size → (B, 2048).

    Images are rounded to 8 bits, as files would be, and enlarged to 299 × 299 the way TensorFlow 1 did, which the papers' numbers
    depend on (Parmar et al. 2022). `weights` names a file; without it the library fetches one (95 MB) at the first call.
    Raises ImportError, saying what to install, if torch-fidelity is not there.
    """
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    except ImportError as error:
        raise ImportError("the features of the FID need torch-fidelity: pip install 'dpmlib[fid]'") from error
    net = FeatureExtractorInceptionV3("inception", ["2048"], feature_extractor_weights_path=weights).to(device)

    def features(images: Tensor) -> Tensor:
        found, = net(from_unit(images.to(device).float()))
        return found

    return features


@torch.no_grad()
def moments(features: Features, images: Tensor, batch: int = 250) -> Moments:
    """Mean and covariance of the features of `images`, float in [−1, 1] or uint8, in batches: what `frechet_distance` takes.

    Raises ValueError for no images, a batch < 1, or features that are not (B, F).
    """
    if not len(images) or batch < 1:
        raise ValueError(f"{len(images)} images, batch = {batch}: need at least one of each")
    total = None
    for part in images.split(batch):
        found = features(part if part.is_floating_point() else to_unit(part))
        if found.ndim != 2 or len(found) != len(part):
            raise ValueError(f"features returned {tuple(found.shape)} for {len(part)} images: need (B, F)")
        total = Moments.of(found.cpu()) if total is None else total + Moments.of(found.cpu())
    return total
