"""Samples of CIFAR-10 guided with a classifier and without one: which class do judges see in them, how varied are they, who pushes where?

    python benchmarks/guidance.py        writes dpmlib/weights/guidance.json; some minutes of one core (--count, --images, --fit for fewer)

Both guides start from the same noises with the same wanted classes, on the same grid, by 2M in x_0 form with x̂_0 clipped. The classifier
of noisy images pushes the network that is told no class; the other guide extrapolates from that network to the one that is told. Three
judges: the classifier; the network, by its error told each class (Li et al. 2023); and a least-squares fit to random patches (Coates et
al. 2011), which has nothing in common with either.
"""

import argparse
import json

import torch
from torch.nn import functional as F

import dpmlib as d
from dpmlib import classifier, data, provenance
from dpmlib.pretrained import WEIGHTS

RESULT = WEIGHTS / "guidance.json"
SEED, BATCH, STEPS, END = 0, 10, 20, 3.0  # END is the λ from which the last step goes to the data
SETTINGS = (("none", 0.0), *(("classifier", s) for s in (1.0, 4.0, 8.0)), *(("classifier-free", s) for s in (1.0, 4.0)))
LEVELS = (3.0, 2.0, 1.0, 0.0, -1.0, -2.0, -3.0)  # λ at which the pushes are compared
TIMES = (0.25, 0.4)  # at which the network judges


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def guide(kind, s, unet, net, y):
    """The denoiser that samples class y, (B,), at scale s."""
    if kind == "none":
        return d.clip_x0(unet)
    if kind == "classifier":
        return d.clip_x0(d.classifier_guidance(unet, classifier.log_prob(net, y), s))
    return d.clip_x0(d.cfg(unet, s, y=y))


def grid_of(chain):
    return d.levels(chain, STEPS, "lam", t_end=chain.t_of_lam(END).item(), to_zero=True)


def starts(count):
    """Batches (noise, wanted classes): ten noises, one for each class."""
    g = seeded(SEED)
    return [(torch.randn(BATCH, 3, 32, 32, generator=g), torch.arange(BATCH) % 10) for _ in range(count // BATCH)]


def samples(kind, s, unet, net, count):
    """Samples rounded to 8 bits, as floats (count, 3, 32, 32), a class to each in turn."""
    made = []
    for noise, y in starts(count):
        *_, x = d.ode_multistep(guide(kind, s, unet, net, y), noise, grid_of(unet.schedule), 2)
        made.append(data.to_unit(data.from_unit(x)))
    return torch.cat(made)


# --- judges: images (B, 3, 32, 32) -> classes (B,) ----------------------------------------------------------------

@torch.inference_mode()
def by_classifier(net, images):
    return torch.cat([net(x).argmax(1) for x in images.split(100)])


@torch.inference_mode()
def by_network(unet, images):
    """The class whose network errs least on the image, noised as the other classes' networks see it, summed over TIMES."""
    g, found = seeded(SEED + 1), []
    for x0 in images.split(20):
        error = torch.zeros(10, len(x0))
        for t in TIMES:
            level, noise = unet.schedule.level(t), torch.randn(x0.shape, generator=g)
            x = d.diffuse(x0, level, noise)
            for c in range(10):
                told = torch.full((len(x0),), c)
                error[c] += (unet(x, level, y=told).eps - noise).square().flatten(1).mean(1) / noise.var()
        found.append(error.argmin(0))
    return torch.cat(found)


class Patches:
    """Ridge regression of the class on how well whitened random patches fit in each quarter of an image."""

    def __init__(self, images, labels, filters=200, size=6, ridge=300.0):
        pick = torch.randperm(len(images), generator=seeded(SEED + 2))
        some = F.unfold(images[pick[:500]], size).mT.reshape(-1, 3 * size * size)[::37]
        centred = some - some.mean(0)
        values, basis = torch.linalg.eigh(centred.T @ centred / len(some))
        white = basis @ torch.diag((values + 0.01).rsqrt()) @ basis.T
        take = torch.randperm(len(some), generator=seeded(SEED + 3))[:filters]
        rows = F.normalize(centred[take] @ white, dim=1) @ white
        self.filters, self.bias = rows.reshape(filters, 3, size, size), -(rows @ some.mean(0))
        seen = self.features(images)
        self.mean, self.scale = seen.mean(0), seen.std(0) + 0.01
        seen = ((seen - self.mean) / self.scale).double()
        told = F.one_hot(labels, 10).double() - 0.1
        self.weights = torch.linalg.solve(seen.T @ seen + ridge * torch.eye(seen.shape[1]), seen.T @ told).float()

    def features(self, images):
        found = []
        for x in images.split(50):
            fit = F.conv2d(x, self.filters, self.bias)
            parts = [F.adaptive_avg_pool2d(F.relu(sign * fit - 0.5), 2).flatten(1) for sign in (1, -1)]
            found.append(torch.cat(parts, 1))
        return torch.cat(found)

    def __call__(self, images):
        return (((self.features(images) - self.mean) / self.scale) @ self.weights).argmax(1)


# --- pushes -------------------------------------------------------------------------------------------------------

def pushes(unet, net, x, level, y, other):
    """(ε told nothing, what a classifier adds to it, what being told adds, what being told another class adds) at x."""
    plain = unet(x, level).eps
    guided = d.classifier_guidance(unet, classifier.log_prob(net, y))(x, level).eps
    return plain, guided - plain, unet(x, level, y=y).eps - plain, unet(x, level, y=other).eps - plain


def by_level(unet, net, images, labels):
    """Both pushes at noised images with their own class: sizes, angle, and how much of each the true noise bears out (its slope)."""
    rows, g = [], seeded(SEED + 4)
    for lam in LEVELS:
        level = unet.schedule.level(unet.schedule.t_of_lam(lam))
        parts = []
        for x0, y in zip(images.split(20), labels.split(20)):
            noise = torch.randn(x0.shape, generator=g)
            other = (y + torch.randint(1, 10, y.shape, generator=g)) % 10
            plain, one, two, wrong = (v.flatten(1).double() for v in pushes(unet, net, d.diffuse(x0, level, noise), level, y, other))
            rest = noise.flatten(1).double() - plain
            pairs = (one, one), (two, two), (wrong, wrong), (one, two), (two, wrong), (rest, one), (rest, two), (rest, rest)
            parts.append(torch.stack([(a * b).mean(1) for a, b in pairs]))
        one, two, wrong, both, astray, rest_one, rest_two, rest = torch.cat(parts, 1)
        row = dict(lam=lam, loss=rest.mean().item(), cosine=(both / (one * two).sqrt()).mean().item(),
                   cosine_other=(astray / (two * wrong).sqrt()).mean().item())
        for name, size, along in (("classifier", one, rest_one), ("classifier-free", two, rest_two)):
            slope = along.mean() / size.mean()
            error = (along - slope * size).std() / size.mean() / len(size) ** 0.5
            row |= {name: dict(rms=size.mean().sqrt().item(), slope=slope.item(), error=error.item(),
                               gain=(2 * along - size).mean().item())}
        rows.append(row)
        print(rows[-1], flush=True)
    return rows


def rounded(value):
    if isinstance(value, dict):
        return {k: rounded(v) for k, v in value.items()}
    return [rounded(v) for v in value] if isinstance(value, list) else float(f"{value:.4g}") if isinstance(value, float) else value


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--fit", type=int, default=5_000)
    parser.add_argument("--out", default=RESULT)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    unet, net = d.pretrained("cifar10"), classifier.load()
    test, labels = (v[:options.images] for v in data.cifar10("test"))
    test = data.to_unit(test)
    train, train_labels = (v[:options.fit] for v in data.cifar10("train"))
    judges = {"classifier": lambda x: by_classifier(net, x), "network": lambda x: by_network(unet, x),
              "patches": Patches(data.to_unit(train), train_labels)}
    real = {name: (judge(test) == labels).double().mean().item() for name, judge in judges.items()}
    print("share of test images judged right:", real, flush=True)
    command = f"python benchmarks/guidance.py --count {options.count} --images {options.images} --fit {options.fit}"
    notes = dict(command=command, commit=provenance.commit(), device=provenance.device(torch.device("cpu")),
                 seed=SEED, torch=torch.__version__, steps=STEPS, end=END, count=options.count, images=options.images,
                 grid="even in λ, then to the data; 2M in x_0 form, x̂_0 clipped",
                 judged="the class that each judge sees in each sample, a digit each; the wanted classes are 0123456789 again and again",
                 distance="mean distance of samples wanted in one class, root mean square over pixels in [-1, 1]",
                 cosine="of the classifier's push with the network's; cosine_other: of the network's push with its push to another class",
                 slope="of the true noise minus the untold ε on the push, at noised test images with their own class; one standard error",
                 gain="by how much the push, taken once, lowers the mean squared error", test_images=real, rows=[])
    with torch.no_grad():  # not inference_mode: the classifier needs a gradient
        notes["levels"] = by_level(unet, net, test, labels)
    for kind, s in SETTINGS:
        with torch.no_grad():
            x = samples(kind, s, unet, net, options.count)
        apart = [torch.pdist(x[c::10].flatten(1)).mean().item() / 3072**0.5 for c in range(10)]
        judged = {name: "".join(map(str, judge(x).tolist())) for name, judge in judges.items()}
        edge = (x.abs() > 0.99).double().mean().item()
        notes["rows"].append(dict(guide=kind, scale=s, distance=sum(apart) / 10, edge=edge, judged=judged))
        share = {name: sum(int(c) == i % 10 for i, c in enumerate(seen)) / len(x) for name, seen in judged.items()}
        print(kind, s, f"{sum(apart) / 10:.3f} {edge:.3f}", share, flush=True)
    text = json.dumps(rounded(notes), indent=1)
    with open(options.out, "w") as file:
        file.write(text + "\n")


if __name__ == "__main__":
    main()
