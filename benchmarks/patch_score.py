"""The score of 8 × 8 patches of CIFAR-10 in grey, learned by denoising score matching: `python benchmarks/patch_score.py`.

Writes dpmlib/weights/patch_score.safetensors, which the chapter on score matching reads. Ten minutes of one busy core.
"""

import math
from pathlib import Path

import torch

from dpmlib import Denoiser, LinearVP, checkpoint, provenance
from dpmlib.data import cifar10, to_unit
from dpmlib.losses import denoising_loss, random_level
from dpmlib.nets import MLP, Preconditioned
from dpmlib.noise import normal_like
from dpmlib.train import fit

FILE = Path(__file__).parents[1] / "dpmlib" / "weights" / "patch_score.safetensors"
SIZE, NET, SEED, STEPS, BATCH = 8, dict(dim=64, width=256, depth=3, frequencies=0), 0, 8000, 256
CENTRE, SPREAD = -0.05, 0.5  # what is taken from a grey value in [−1, 1], and what the rest is divided by
NOISIEST, CLEANEST = -2.5, 4.0  # λ is uniform between them


def patches(images, n, generator, size=SIZE):
    """n patches at random places of random images (m, 3, 32, 32) uint8, grey, about centred and of unit size: (n, size²)."""
    grey = (to_unit(images).mean(1) - CENTRE) / SPREAD
    windows = grey.unfold(1, size, 1).unfold(2, size, 1)  # (m, 33 − size, 33 − size, size, size)
    where = (torch.randint(k, (n,), generator=generator) for k in windows.shape[:3])
    return windows[tuple(where)].reshape(n, -1)


def loss(net, x0, generator):
    level = random_level(LinearVP(), len(x0), generator, lam=lambda u: NOISIEST + (CLEANEST - NOISIEST) * u)
    return denoising_loss(Denoiser(net, LinearVP()), x0, level, normal_like(x0, generator))


def main():
    data = patches(cifar10("train")[0], 200_000, torch.Generator().manual_seed(SEED))
    torch.manual_seed(SEED)
    net = Preconditioned(MLP(**NET), LinearVP())
    run = fit(net, loss, data, STEPS, generator=torch.Generator().manual_seed(SEED + 1), batch=BATCH, lr=2e-3, cooldown=0.7)
    final = math.fsum(row["loss"] for row in run.log[-10:]) / 10
    checkpoint.save(FILE, {k: v.half() for k, v in run.model.state_dict().items()}, net=NET, command="python benchmarks/patch_score.py",
                    commit=provenance.commit(), seed=SEED, device="cpu, one thread", steps=STEPS, batch=BATCH, centre=CENTRE, spread=SPREAD,
                    patches=len(data), loss=round(final, 4))
    print(f"loss {final:.4f}")


if __name__ == "__main__":
    main()
