"""The figures that many chapters draw. Each draws into `ax`, or into a new figure, and returns the axes.

Tensors of any device and dtype are welcome. Nothing is drawn at random: a scatter of too many points shows the first ones.
"""

import math

import matplotlib.pyplot as plt
import numpy as np
import torch

from .style import RC, color


def scatter2d(points, ax=None, method="data", label=None, title=None, lim=2.6, most=4000):
    """The first `most` of the points (n, 2), in the method's colour, on [-lim, lim]², bare. ValueError: another shape."""
    points = _array(points)
    if points.ndim != 2 or points.shape[1] != 2:
        raise ValueError(f"points has shape {points.shape}; it must be (n, 2)")
    ax = _square(ax, lim, title)
    points = points[:most]
    size = min(12., 4000 / max(len(points), 1))
    ax.scatter(points[:, 0], points[:, 1], s=max(size, 2.), color=color(method)["color"], alpha=0.6, linewidths=0, label=label,
               rasterized=True)
    if label is not None:
        ax.legend(markerscale=3)
    return ax


def density2d(log_prob, ax=None, title=None, lim=2.6, n=160, levels=None):
    """exp(log_prob) over [-lim, lim]², log_prob: (m, 2) float64 → (m,), as an image, or as lines at so many `levels`."""
    ax = _square(ax, lim, title)
    # An image shows cells and lines join points: cell centres for the one, the closed interval for the other.
    end = lim if levels else lim * (1 - 1 / n)
    axis = torch.linspace(-end, end, n, dtype=torch.float64)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    density = _array(log_prob(torch.stack([x.flatten(), y.flatten()], -1))).reshape(n, n)
    density = np.exp(density.astype(np.float64))
    if levels:
        heights = density.max() * np.geomspace(0.02, 0.8, levels)
        ax.contour(axis.numpy(), axis.numpy(), density, levels=heights, colors=color("exact")["color"], linewidths=1)
    else:
        ax.imshow(density, origin="lower", extent=(-lim, lim, -lim, lim), cmap="Blues", vmin=0, interpolation="nearest")
    return ax


def image_grid(images, ncol=None, ax=None, title=None, pad=1):
    """Images (n, c, h, w), c = 1 or 3, as one picture, row by row: uint8, or floating-point in [-1, 1] (clamped).

    Nothing is interpolated, and the lines between images are white. In a figure of its own every pixel of an image is a
    square of whole pixels on the screen. ValueError: another shape, NaN, ncol < 1.
    """
    if not isinstance(images, torch.Tensor) or images.ndim != 4 or images.shape[1] not in (1, 3) or not len(images):
        raise ValueError(f"images has shape {tuple(getattr(images, 'shape', ()))}; it must be a tensor (n, 1 or 3, h, w)")
    if images.dtype != torch.uint8:
        from ..data import from_unit  # refuses NaN
        images = from_unit(images)
    n, c, h, w = images.shape
    ncol = math.ceil(n**0.5) if ncol is None else ncol
    if ncol < 1:
        raise ValueError(f"ncol is {ncol}; it must be ≥ 1")
    nrow = math.ceil(n / ncol)
    sheet = np.full((nrow * (h + pad) - pad, ncol * (w + pad) - pad, c), 255, np.uint8)
    for i, image in enumerate(_array(images).transpose(0, 2, 3, 1)):
        y, x = i // ncol * (h + pad), i % ncol * (w + pad)
        sheet[y:y + h, x:x + w] = image
    if ax is None:
        ax = _exact_axes(*sheet.shape[:2], above=0.35 if title else 0.)
    ax.imshow(sheet.squeeze(-1) if c == 1 else sheet, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    ax.set_axis_off()
    if title:
        ax.set_title(title)
    return ax


def trajectory2d(path, ax=None, method="ddim", title=None, lim=2.6, most=60, ends=True):
    """Paths in the plane: `path` (steps + 1, n, 2), or a list of states (n, 2), noisy → clean; the first `most` of the n.

    The start is a cross and the end a dot. ValueError: another shape.
    """
    path = np.stack([_array(state) for state in path])
    if path.ndim != 3 or path.shape[2] != 2:
        raise ValueError(f"path has shape {path.shape}; it must be (steps + 1, n, 2)")
    path = path[:, :most]
    ax = _square(ax, lim, title)
    look = color(method)["color"]
    ax.plot(path[:, :, 0], path[:, :, 1], color=look, linewidth=0.9, alpha=0.6)
    if ends:
        ax.scatter(path[0, :, 0], path[0, :, 1], marker="x", s=22, color=color("noise")["color"], linewidths=1.2, zorder=3)
        ax.scatter(path[-1, :, 0], path[-1, :, 1], s=16, color=look, linewidths=0, zorder=4)
    return ax


def loss_curve(steps, losses, ax=None, method="ddpm", label=None, smooth=0.98, log=True):
    """Losses over training steps: the values faint, their running mean (weight `smooth` on the past, without bias) on top."""
    steps, losses = np.asarray(_array(steps), float), np.asarray(_array(losses), float)
    if steps.shape != losses.shape or steps.ndim != 1 or not len(steps):
        raise ValueError(f"steps {steps.shape} and losses {losses.shape} must be two sequences of one length ≥ 1")
    if not 0 <= smooth < 1:
        raise ValueError(f"smooth is {smooth}; it must lie in [0, 1)")
    means, mean = [], 0.
    for i, loss in enumerate(losses):
        mean = smooth * mean + (1 - smooth) * loss
        means.append(mean / (1 - smooth ** (i + 1)))
    ax = plt.subplots()[1] if ax is None else ax
    look = color(method)["color"]
    ax.plot(steps, losses, color=look, alpha=0.2, linewidth=1)
    ax.plot(steps, means, color=look, label=label)
    ax.set_xlabel("step")
    ax.set_ylabel("loss")
    if log:
        ax.set_yscale("log")
    if label is not None:
        ax.legend()
    return ax


def _exact_axes(height, width, above):
    """Axes that show height × width pixels enlarged by a whole number, as far as the page's width allows."""
    dpi = RC["figure.dpi"]
    zoom = max(1, int(RC["figure.figsize"][0] * dpi) // width) / dpi
    tall = height * zoom + above
    figure = plt.figure(figsize=(width * zoom, tall), dpi=dpi, layout="none")
    return figure.add_axes((0, 0, 1, height * zoom / tall))


def _array(values):
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu()
        return (values.float() if values.dtype == torch.bfloat16 else values).numpy()
    return np.asarray(values)


def _square(ax, lim, title):
    if ax is None:
        _, ax = plt.subplots(figsize=(3.6, 3.6))
    ax.set(xlim=(-lim, lim), ylim=(-lim, lim), xticks=[], yticks=[], aspect="equal")
    ax.grid(False)
    ax.spines[:].set(visible=True, color="#cccccc", linewidth=0.8)
    if title:
        ax.set_title(title)
    return ax
