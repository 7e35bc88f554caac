"""How far are two sets of samples from one another? Every function takes sets, of points or of images, not models.

A set is a tensor (n, …): anything behind the first axis is flattened. Distances are computed in float64, since all of
these are small differences of large means, and come back as Python floats. No function depends on the order of a set,
save for the subsample behind the bandwidth in `mmd`.
"""

from dataclasses import dataclass

import torch

_CHUNK = 2**20  # distances held at once: small enough for a processor's cache, which is ten times faster for `mmd`


def sliced_wasserstein(a, b, n_projections=256, generator=None):
    """√(mean over random directions u of W₂²(⟨a, u⟩, ⟨b, u⟩)), the sliced 2-Wasserstein distance (Bonneel et al. 2015).

    a (n, …), b (m, …). In one dimension W₂² = ∫ (F⁻¹(q) − G⁻¹(q))² dq; the quantile functions of the sets are step
    functions and their integral is exact, for n = m by pairing in order, for n ≠ m over the union of the steps.
    Two sets that differ by a shift s are about |s|/√d apart. The directions are uniform on the sphere.

    ValueError: fewer than 2 points, sizes that differ, NaN, n_projections < 1, no generator.
    """
    a, b = _two_sets(a, b)
    if n_projections < 1:
        raise ValueError(f"n_projections is {n_projections}; it must be ≥ 1")
    if not isinstance(generator, torch.Generator):
        raise ValueError("generator is missing: the directions come from a torch.Generator that you pass")
    n, m = len(a), len(b)
    # In units of 1/(nm) all ends of steps are integers, so equal ends are found equal.
    end = torch.cat([torch.arange(n + 1, device=a.device) * m, torch.arange(m + 1, device=a.device) * n]).unique()
    width, in_a, in_b = end.diff().to(a.dtype) / (n * m), end[:-1] // m, end[:-1] // n
    directions = torch.randn(n_projections, a.shape[1], generator=generator, device=generator.device, dtype=a.dtype)
    directions = (directions / directions.norm(dim=1, keepdim=True)).to(a.device)
    total = 0.
    for u in directions.split(max(1, _CHUNK // (n + m))):
        quantile_a, quantile_b = (a @ u.T).sort(0).values, (b @ u.T).sort(0).values
        total += (width @ (quantile_a[in_a] - quantile_b[in_b]).square()).sum().item()
    return (total / n_projections) ** 0.5


def mmd(a, b, bandwidths=None):
    """The squared maximum mean discrepancy, unbiased (Gretton et al. 2012, lemma 6): it is 0 on average between two sets
    from one distribution, so it is negative about half of the time there.

    The kernel is the mean of exp(−|x − y|²/(2 h²)) over the bandwidths h: those given, else ½, 1 and 2 times the median
    distance between points of the two sets together (of at most 1,000 from each, evenly spaced along the set).
    ValueError: fewer than 2 points, sizes that differ, NaN, a bandwidth that is not positive, all points the same.
    """
    a, b = _two_sets(a, b)
    if bandwidths is None:
        some = torch.cat([s[::-(-len(s) // 1000)] for s in (a, b)])
        median = torch.nn.functional.pdist(some).median().item()
        if median == 0:
            raise ValueError("bandwidths: the median distance is 0 (more than half of all points coincide); give them")
        bandwidths = (median / 2, median, 2 * median)
    if not all(h > 0 for h in bandwidths):
        raise ValueError(f"bandwidths are {bandwidths}; each must be positive")

    def kernel(distance):
        square = distance.square().float()  # exp is the whole cost; 1e-7 is far below what a sample can tell
        return sum((square / (-2 * h * h)).exp_().sum(dtype=torch.float64) for h in bandwidths) / len(bandwidths)

    def within(s):  # without the n pairs (x, x), where the kernel is 1
        return (_mean_over_pairs(s, s, kernel) * len(s) - 1) / (len(s) - 1)

    return within(a) + within(b) - 2 * _mean_over_pairs(a, b, kernel)


def energy_distance(a, b):
    """√(2 E|X − Y| − E|X − X'| − E|Y − Y'|) between the two empirical distributions (Székely and Rizzo 2013).

    0 if and only if the sets are the same; as scipy.stats.energy_distance, in any dimension. Being a distance between
    empirical distributions, it shrinks like n^(−1/2) between sets from one distribution, and is not 0.
    ValueError: fewer than 2 points, sizes that differ, NaN.
    """
    a, b = _two_sets(a, b)
    square = 2 * _mean_over_pairs(a, b) - _mean_over_pairs(a, a) - _mean_over_pairs(b, b)
    return max(square, 0.) ** 0.5


@dataclass(frozen=True)
class Moments:
    """Mean and covariance of a stream, batch by batch: `Moments.of(x) + Moments.of(y)` are those of x and y together.

    count n, mean (d,), scatter Σ (x − mean)(x − mean)ᵀ: (d, d), or (d,) where only variances are kept; float64. Sums of
    centred products, never Σ x² − n mean², which cancels (Chan, Golub and LeVeque 1983).
    """
    count: int
    mean: torch.Tensor
    scatter: torch.Tensor

    @classmethod
    def of(cls, x, full=True):
        """Of one batch (n, …), n ≥ 1; `full=False` keeps variances only. ValueError: no points, NaN."""
        x = _one_set(x, "x", least=1)
        mean = x.mean(0)
        centred = x - mean
        return cls(len(x), mean, centred.T @ centred if full else centred.square().sum(0))

    def __add__(self, other):
        if self.scatter.shape != other.scatter.shape:
            raise ValueError(f"other has scatter {tuple(other.scatter.shape)}; it must be {tuple(self.scatter.shape)}")
        count, shift = self.count + other.count, other.mean - self.mean
        between = shift.outer(shift) if self.scatter.ndim == 2 else shift.square()
        return Moments(count, self.mean + shift * (other.count / count),
                       self.scatter + other.scatter + between * (self.count * other.count / count))

    @property
    def covariance(self):
        """The unbiased estimate, (d, d), or the variances (d,). ValueError: fewer than 2 points."""
        if self.count < 2:
            raise ValueError(f"count is {self.count}; a covariance needs at least 2 points")
        return self.scatter / (self.count - 1)


def frechet_distance(a, b):
    """|μ_a − μ_b|² + tr(Σ_a + Σ_b − 2 (Σ_a Σ_b)^½), the *squared* W₂ distance of two Gaussians with the sets' moments.

    a, b: features (n, …) of any kind, or `Moments` (full). With the features of Inception-v3 this is the FID (Heusel et
    al. 2017), which is biased upwards in small samples. With Σ = F Fᵀ, tr (Σ_a Σ_b)^½ is the sum of the singular values
    of F_aᵀ F_b; this takes no root of a product's eigenvalues, so singular covariances cost no accuracy.
    ValueError: fewer than 2 points, sizes that differ, NaN, variances in place of covariances.
    """
    a, b = (s if isinstance(s, Moments) else Moments.of(s) for s in (a, b))
    if a.scatter.ndim != 2 or a.scatter.shape != b.scatter.shape:
        raise ValueError(f"a and b have scatters {tuple(a.scatter.shape)} and {tuple(b.scatter.shape)}; "
                         "they must be two square matrices of one size")
    return gaussian_frechet(a.mean, a.covariance, b.mean, b.covariance)


def gaussian_frechet(mean_a, covariance_a, mean_b, covariance_b):
    """The squared W₂ distance between N(mean_a, covariance_a) and N(mean_b, covariance_b) (Dowson and Landau 1982)."""
    factors = []
    for covariance in (covariance_a, covariance_b):
        values, vectors = torch.linalg.eigh(covariance.double())
        # What eigh leaves of a zero eigenvalue is rounding, and its root would be 1e8 times larger than that.
        floor = len(values) * torch.finfo(values.dtype).eps * values[-1].clamp(min=0)
        factors.append(vectors * values.where(values > floor, 0.).sqrt())
    cross = torch.linalg.svdvals(factors[0].T @ factors[1]).sum()
    spread = sum(factor.square().sum() for factor in factors)
    return max(((mean_a.double() - mean_b.double()).square().sum() + spread - 2 * cross).item(), 0.)


def nearest_neighbours(queries, points, k=1):
    """The k nearest `points` (m, …) of each of the `queries` (n, …): distances (n, k) ascending, float64, and indices (n, k).

    Chunked, so 50,000 images may be searched; candidates are ranked in the points' floating-point type (float32 for
    integers) and the distances of the k that are kept recomputed exactly. A query that is among the points finds itself.
    ValueError: sizes that differ, NaN, k outside 1…m.
    """
    q, p = (s.flatten(1) if s.is_floating_point() else s.flatten(1).float() for s in (queries, points))
    for s, name in ((q, "queries"), (p, "points")):
        _one_set(s, name, least=1, dtype=s.dtype)
    if q.shape[1] != p.shape[1]:
        raise ValueError(f"queries have {q.shape[1]} numbers each and points {p.shape[1]}; they must have the same")
    if not 1 <= k <= len(p):
        raise ValueError(f"k is {k}; it must lie in 1…{len(p)}, the number of points")
    centre = p.mean(0)
    q, p = q.to(p.dtype) - centre, p - centre
    found = []
    for some in q.split(max(64, _CHUNK // len(p))):
        indices = _distances(some, p).topk(k, largest=False).indices
        exact = torch.stack([(some - p[i]).double().norm(dim=1) for i in indices.T], 1)
        order = exact.argsort(dim=1, stable=True)
        found.append((exact.gather(1, order), indices.gather(1, order)))
    return torch.cat([d for d, _ in found]), torch.cat([i for _, i in found])


def precision_recall(real, fake, k=3):
    """(precision, recall) of Kynkäänniemi et al. (2019): the part of `fake` (m, …) that lies in the estimated support of
    `real` (n, …), and the other way round. A support is the union of balls about its points, each as wide as the
    distance to the point's k-th neighbour in its own set. Meant for features; in pixels, near means little.
    ValueError: fewer than k + 1 points, sizes that differ, NaN.
    """
    real, fake = _two_sets(real, fake, least=k + 1, names=("real", "fake"))

    def inside(points, support):
        radius = nearest_neighbours(support, support, k + 1)[0][:, k]  # the first neighbour is the point itself
        hits = [(_distances(some, support) <= radius).any(1) for some in points.split(max(1, _CHUNK // len(support)))]
        return torch.cat(hits).double().mean().item()

    return inside(fake, real), inside(real, fake)


def jackknife(measure, n, parts=8):
    """A number that is `measure` of n samples, and again without each of `parts` equal blocks of them: (1 + parts,) float64.

    `measure(keep)` takes the indices that stay. Jackknives of two sets made from the same noises may be subtracted.
    ValueError: parts < 2 or more than n.
    """
    if not 2 <= parts <= n:
        raise ValueError(f"parts is {parts}; it must lie in 2…{n}, the number of samples")
    every, size = torch.arange(n), n // parts
    without = [measure(torch.cat([every[:i], every[i + size:]])) for i in range(0, parts * size, size)]
    return torch.tensor([measure(every), *without], dtype=torch.float64)


def jackknife_error(values):
    """The standard error of `jackknife`'s first value: √((parts − 1)/parts Σ (v − v̄)²) over the others (Efron and Stein 1981)."""
    parts, spread = len(values) - 1, values[1:] - values[1:].mean()
    return float(((parts - 1) / parts * spread.square().sum()).sqrt())


def _one_set(s, name, least=2, dtype=torch.float64):
    if not isinstance(s, torch.Tensor) or s.ndim < 1 or s.is_complex():
        raise ValueError(f"{name} is {type(s).__name__}; it must be a real tensor (n, …)")
    if len(s) < least:
        raise ValueError(f"{name} has {len(s)} points; it must have at least {least}")
    s = s.detach().reshape(len(s), -1).to(dtype)
    if not s.isfinite().all():
        raise ValueError(f"{name} holds NaN or infinity")
    return s


def _two_sets(a, b, least=2, names=("a", "b")):
    a, b = _one_set(a, names[0], least), _one_set(b, names[1], least)
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"{names[0]} has {a.shape[1]} numbers per point and {names[1]} {b.shape[1]}; they must have the same")
    centre = b.mean(0)  # nothing here depends on the origin, and `_distances` cancels less near it
    return a - centre, b - centre


def _distances(a, b):
    # |a|² + |b|² − 2ab is a matrix product, so fast, but cancels for near points: it pays only in high dimension.
    if a.shape[1] <= 32:
        return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")
    square = torch.addmm(b.square().sum(1), a, b.T, alpha=-2).add_(a.square().sum(1, keepdim=True))
    return square.clamp_(min=0).sqrt_()


def _mean_over_pairs(a, b, total_of=torch.sum):
    total = sum(total_of(_distances(some, b)) for some in a.split(max(1, _CHUNK // len(b))))
    return total.item() / (len(a) * len(b))
