"""The picture of README.md and of the first page: python book/picture.py. Nothing in it is trained; the score is exact."""

from pathlib import Path

import matplotlib.pyplot as plt
import torch

import dpmlib
from dpmlib import plots

plots.style()
schedule = dpmlib.CosineVP()
data = dpmlib.GaussianMixture(torch.tensor([0.3, 0.25, 0.45]), torch.tensor([[-1.5], [0.1], [1.3]]),
                              torch.tensor([0.02, 0.03, 0.04])[:, None, None])
grid = dpmlib.levels(schedule, 400, t_end=1e-3)
quantiles = torch.linspace(0.02, 0.98, 25, dtype=torch.float64)
noise = torch.distributions.Normal(0, 1).icdf(quantiles)[:, None]
paths = torch.stack([noise, *dpmlib.ancestral(data.denoiser(), noise, grid, eta=0.)])[..., 0]

x = torch.linspace(-2.7, 2.7, 500, dtype=torch.float64)
density = torch.stack([data.log_prob(x[:, None], level).exp() for level in grid])

figure = plt.figure(figsize=(10, 3.6))
left, middle, right = figure.subplots(1, 3, sharey=True, width_ratios=[1, 9, 1])
middle.imshow(density.sqrt().T, origin="lower", aspect="auto", extent=(0, 1, x[0], x[-1]), cmap="Blues", vmax=1.3)
middle.plot(torch.linspace(0, 1, len(paths)), paths, color="black", linewidth=0.8, alpha=0.75)
for ax, p in ((left, density[0]), (right, density[-1])):
    ax.fill_betweenx(x, 0, p, color="#0072B2", alpha=0.85, linewidth=0)
left.invert_xaxis()
for ax, title in ((left, "noise"), (middle, "each line is one sample on its way; nothing here is trained"), (right, "data")):
    ax.set_axis_off()
    ax.set_title(title, fontsize=15)
middle.set_ylim(x[0], x[-1])
figure.savefig(Path(__file__).parent / "_static" / "path.png", dpi=110)
