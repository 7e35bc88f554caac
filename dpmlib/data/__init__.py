"""Data whose truth is known (2-D toys) and data that everybody measures on (CIFAR-10)."""

from .cifar import Images, cifar10, cifar10_or_generated, class_names, from_unit, to_unit
from .generated import generated_images
from .toy import toy2d, toy_mixture, toy_names

__all__ = ["Images", "cifar10", "cifar10_or_generated", "class_names", "from_unit", "generated_images",
           "to_unit", "toy2d", "toy_mixture", "toy_names"]
