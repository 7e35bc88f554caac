"""Distributions on the plane, each a sampler; the mixtures also have their density.

Every one has mean 0 and variance 1 along each axis, *exactly*: the moments of the raw shape are written out in closed
form beside it, and the shape is shifted and scaled by them, never by what a drawn sample happens to show. So the same
schedule, network and axis limits serve them all; nothing but a mixture's far tail leaves [-4, 4].
"""

import math

import torch

_PI = math.pi


def toy2d(name, n, generator, dtype=torch.float32):
    """n independent points of the distribution `name`: a tensor (n, 2) on the generator's device.

    Mean 0 and variance 1 along each axis. In those units: the cells of the checkerboard have side √3/2 and density 1/6,
    on [-√3, √3]²; the noise across a curve is 0.06 for the spirals, 0.05 for the swiss roll, 0.06 for the rings, and
    0.09 and 0.16 (along x and y) for the moons. What is drawn depends only on the generator's state; it is drawn in
    float64 and cast last, so every dtype gets the same points.

    ValueError: unknown name, n < 1, a dtype that is not floating-point, no torch.Generator.
    """
    if name not in toy_names:
        raise ValueError(f"name is {name!r}; allowed: {', '.join(toy_names)}")
    if not isinstance(n, int) or isinstance(n, bool) or n < 1:
        raise ValueError(f"n is {n!r}; it must be an integer ≥ 1")
    if not dtype.is_floating_point:
        raise ValueError(f"dtype is {dtype}; it must be a floating-point type")
    if not isinstance(generator, torch.Generator):
        raise ValueError(f"generator is {generator!r}; it must be a torch.Generator")
    if name in _MIXTURES:
        return toy_mixture(name, device=generator.device).sample(n, generator).to(dtype)
    points, mean, variance = _SHAPES[name](n, generator)
    mean, variance = points.new_tensor(mean), points.new_tensor(variance)
    return ((points - mean) / variance.sqrt()).to(dtype)


def toy_mixture(name, device="cpu"):
    """The mixture that toy2d(name, …) draws from, as a dpmlib.GaussianMixture (float64).

    ValueError: `name` is not one of the mixtures.
    """
    from ..oracles import GaussianMixture  # at the call: the oracles may want data too
    if name not in _MIXTURES:
        raise ValueError(f"name is {name!r}, not a mixture with a density; allowed: {', '.join(_MIXTURES)}")
    weights, means, covariances = (torch.as_tensor(a, dtype=torch.float64) for a in _MIXTURES[name]())
    weights = weights / weights.sum()
    means = means - weights @ means
    scale = (weights @ (means.square() + covariances.diagonal(dim1=1, dim2=2))).sqrt()
    covariances = covariances / (scale[:, None] * scale)
    return GaussianMixture(*(a.to(device) for a in (weights, means / scale, covariances)))


# Raw shapes: (points float64 (n, 2), their exact mean, their exact variance along each axis).

def _uniform(n, g):
    return torch.rand(n, generator=g, device=g.device, dtype=torch.float64)


def _normal(n, g, std=1.):
    return std * torch.randn(n, 2, generator=g, device=g.device, dtype=torch.float64)


def _choice(k, n, g):
    return torch.randint(k, (n,), generator=g, device=g.device)


def _polar(radius, angle):
    return torch.stack([radius * angle.cos(), radius * angle.sin()], -1)


def _moons(n, g, noise=0.08):
    # Half circles of radius 1 about (0, 0), upper, and (1, 1/2), lower; E sin = 2/π on a half circle.
    lower = _choice(2, n, g).to(torch.float64)
    arc = _polar(1 - 2 * lower, _PI * _uniform(n, g)) + lower[:, None] * lower.new_tensor([1., 0.5])
    return arc + _normal(n, g, noise), (1 / 2, 1 / 4), (3 / 4 + noise**2, 9 / 16 - 1 / _PI + noise**2)


def _spirals(n, g, noise=0.3):
    # ±θ(cos θ, sin θ), θ = T√u with T = 3π: E θ² cos² θ = T²/4 + 3/4 and E θ² sin² θ = T²/4 − 3/4.
    end = 3 * _PI
    angle, arm = end * _uniform(n, g).sqrt(), 1 - 2 * _choice(2, n, g)
    points = _polar(arm * angle, angle) + _normal(n, g, noise)
    return points, (0., 0.), (end**2 / 4 + 3 / 4 + noise**2, end**2 / 4 - 3 / 4 + noise**2)


def _checkerboard(n, g):
    # The 8 dark cells of a 4 × 4 board of unit cells: each axis by itself is uniform on [-2, 2].
    column, pair = _choice(4, n, g), _choice(2, n, g)
    corner = torch.stack([column, 2 * pair + column % 2], -1) - 2
    inside = torch.stack([_uniform(n, g), _uniform(n, g)], -1)
    return corner + inside, (0., 0.), (4 / 3, 4 / 3)


def _swissroll(n, g, noise=0.35):
    # t(cos t, sin t), t uniform on [3π/2, 9π/2]: E = (2, 2/(3π)), E t² cos² t = 39π²/8 − 1/4, E t² sin² t = 39π²/8 + 1/4.
    t = 1.5 * _PI * (1 + 2 * _uniform(n, g))
    second = 39 * _PI**2 / 8 + noise**2
    return (_polar(t, t) + _normal(n, g, noise), (2., 2 / (3 * _PI)),
            (second - 1 / 4 - 4, second + 1 / 4 - 4 / (9 * _PI**2)))


def _rings(n, g, noise=0.1):
    # Circles of radius 1, 2, 3, uniform along their whole length: E r² = (1 + 8 + 27)/6 = 6, half of it on each axis.
    radius = torch.tensor([1., 2., 2., 3., 3., 3.], dtype=torch.float64, device=g.device)[_choice(6, n, g)]
    return _polar(radius, 2 * _PI * _uniform(n, g)) + _normal(n, g, noise), (0., 0.), (3 + noise**2, 3 + noise**2)


def _pinwheel(n, g, arms=5, radial=0.3, tangential=0.1, twist=0.25):
    # An ellipse about (1, 0), twisted by twist·eˣ, turned into one of five directions: a turn keeps |x|².
    blade = _normal(n, g) * torch.tensor([radial, tangential], dtype=torch.float64, device=g.device)
    x, y = blade[:, 0] + 1, blade[:, 1]
    angle = 2 * _PI * _choice(arms, n, g) / arms + twist * x.exp()
    points = torch.stack([x * angle.cos() - y * angle.sin(), x * angle.sin() + y * angle.cos()], -1)
    variance = (1 + radial**2 + tangential**2) / 2
    return points, (0., 0.), (variance, variance)


_SHAPES = {"moons": _moons, "spirals": _spirals, "checkerboard": _checkerboard, "swissroll": _swissroll,
           "rings": _rings, "pinwheel": _pinwheel}


# Raw mixtures: weights (K,) of any sum, means (K, 2), covariances (K, 2, 2).

def _circle(k):
    return _polar(torch.ones((), dtype=torch.float64), 2 * _PI * torch.arange(k, dtype=torch.float64) / k)


def _isotropic(means, std):
    k = len(means)
    return torch.ones(k), means, std**2 * torch.eye(2, dtype=torch.float64).expand(k, 2, 2)


def _grid8():
    return _isotropic(_circle(8), 0.1)


def _grid25():
    side = torch.arange(-2., 3.)
    return _isotropic(torch.cartesian_prod(side, side), 0.12)


def _twopeaks():
    return [0.35, 0.65], [[-1., -0.6], [0.8, 0.5]], [[[0.12, 0.07], [0.07, 0.1]], [[0.15, -0.11], [-0.11, 0.2]]]


def _petals():
    # Six long ellipses on a circle, each turned by 45° against its radius: no component is near isotropic.
    direction = _circle(6)
    long = _polar(torch.ones((), dtype=torch.float64), torch.atan2(direction[:, 1], direction[:, 0]) + _PI / 4)
    short = torch.stack([-long[:, 1], long[:, 0]], -1)
    spread = sum(std**2 * axis[:, :, None] * axis[:, None, :] for std, axis in ((0.35, long), (0.05, short)))
    return torch.ones(6), direction, spread


_MIXTURES = {"grid8": _grid8, "grid25": _grid25, "twopeaks": _twopeaks, "petals": _petals}

toy_names = (*_SHAPES, *_MIXTURES)
