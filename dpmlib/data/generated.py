"""Small colour images made from nothing, for machines without CIFAR-10 and without a network."""

import torch

_CHUNK = 500
_LEAVES = 10


def generated_images(n, split="train"):
    """n procedural images uint8 (n, 3, 32, 32) and labels int64 (n,) in 0…9; always the same for the same split.

    Dead leaves: discs and boxes of power-law sizes that cover one another, which gives edges, flat regions and the
    spectrum of natural images (Lee, Mumford and Huang 2001); in front of them a shape that the label names. Mean and
    standard deviation of each channel are CIFAR-10's to about 0.01. The first images of a longer set are the shorter set.
    ValueError: n < 1, unknown split.
    """
    if split not in ("train", "test"):
        raise ValueError(f"split is {split!r}; allowed: 'train', 'test'")
    if not isinstance(n, int) or n < 1:
        raise ValueError(f"n is {n!r}; it must be an integer ≥ 1")
    images, labels = torch.empty(n, 3, 32, 32, dtype=torch.uint8), torch.empty(n, dtype=torch.int64)
    for start in range(0, n, _CHUNK):
        generator = torch.Generator().manual_seed(2 * start + (split == "test"))
        some, which = _chunk(generator)
        images[start:start + _CHUNK], labels[start:start + _CHUNK] = some[:n - start], which[:n - start]
    return images, labels


def _chunk(g):
    axis = torch.linspace(-1, 1, 32)
    place = torch.stack(torch.meshgrid(axis, axis, indexing="xy"))  # (2, 32, 32): x to the right, y downwards

    def uniform(low, high, *more):
        return low + (high - low) * torch.rand(_CHUNK, *more, generator=g)

    def colour():  # mostly brightness, then red against blue: correlations 0.91 (red, green) and 0.77 (red, blue)
        return (uniform(-1, 1, 1) + 0.2 * torch.randn(_CHUNK, 1, generator=g) * axis.new_tensor([1., 0., -1.])
                + 0.12 * torch.randn(_CHUNK, 3, generator=g))

    def seen_from(centre, radius, angle):  # the plane in a shape's own coordinates: (2, _CHUNK, 32, 32)
        x, y = place[:, None] - centre.T[..., None, None]
        c, s = angle.cos()[:, None, None], angle.sin()[:, None, None]
        return torch.stack([c * x + s * y, c * y - s * x]) / radius[:, None, None]

    def paint(canvas, inside, radius):  # `inside` > 0 in the shape, in its own units; the edge is about one pixel wide
        cover = (8 * radius[:, None, None] * inside + 0.5).clamp_(0, 1)[:, None]
        return canvas.lerp_(colour()[..., None, None].expand_as(canvas), cover)

    mix = (place[1] + 1) / 2
    canvas = torch.lerp(colour()[..., None, None], colour()[..., None, None], mix)
    for _ in range(_LEAVES):
        radius = uniform(0.55, 2.5).reciprocal()  # uniform in 1/r: many small, few large
        x, y = seen_from(uniform(-1.2, 1.2, 2), radius, uniform(0, 3.14159))
        disc, box = 1 - (x.square() + y.square()).sqrt(), 1 - torch.maximum(x.abs(), 1.5 * y.abs())
        canvas = paint(canvas, torch.where(uniform(0, 1)[:, None, None] < 0.5, disc, box), radius)

    labels = torch.randint(10, (_CHUNK,), generator=g)
    radius = uniform(0.4, 0.7)
    x, y = seen_from(uniform(-0.25, 0.25, 2), radius, uniform(-0.3, 0.3))
    inside = torch.empty_like(x)
    for label, shape in enumerate(_SHAPES):
        mine = labels == label
        inside[mine] = shape(x[mine], y[mine])
    canvas = paint(canvas, inside, radius)

    light = (uniform(-0.3, 0.3, 2)[..., None, None] * place).sum(1, keepdim=True)
    canvas = canvas + light + 0.06 * torch.randn(canvas.shape, generator=g)
    canvas = canvas * canvas.new_tensor(_SCALE)[:, None, None] + canvas.new_tensor(_SHIFT)[:, None, None]
    return (255 * canvas).round_().clamp_(0, 255).to(torch.uint8), labels


def _norm(x, y):
    return (x.square() + y.square()).sqrt()


# One per label, positive inside: disc, square, diamond, ring, cross, triangle, lying bar, standing bar, two discs, half disc.
_SHAPES = (
    lambda x, y: 1 - _norm(x, y),
    lambda x, y: 0.9 - torch.maximum(x.abs(), y.abs()),
    lambda x, y: 1.1 - x.abs() - y.abs(),
    lambda x, y: 0.25 - (_norm(x, y) - 0.75).abs(),
    lambda x, y: torch.minimum(0.3 - torch.minimum(x.abs(), y.abs()), 1 - torch.maximum(x.abs(), y.abs())),
    lambda x, y: torch.minimum(0.7 - y, (y + 1 - 1.8 * x.abs()) / 2),
    lambda x, y: torch.minimum(1.1 - x.abs(), 0.35 - y.abs()),
    lambda x, y: torch.minimum(0.35 - x.abs(), 1.1 - y.abs()),
    lambda x, y: 0.5 - torch.minimum(_norm(x - 0.6, y), _norm(x + 0.6, y)),
    lambda x, y: torch.minimum(1 - _norm(x, y), -y),
)
_SCALE, _SHIFT = (0.411, 0.422, 0.443), (0.489, 0.479, 0.440)  # clipping included, fitted once to the channels of CIFAR-10
