"""The sample sheet: ten classes side by side, the picture by which one sees that the weights are the weights.

`python -m dpmlib.sheet` draws it anew and writes dpmlib/weights/cifar10_sheet.png, one class per column.
"""

import os
import sys

import torch
from torch import Tensor

from .data import from_unit
from .guidance import cfg
from .levels import levels
from .noise import normal_like
from .pretrained import WEIGHTS, pretrained
from .solvers import ode_multistep

SHEET = WEIGHTS / "cifar10_sheet.png"


@torch.no_grad()
def samples(denoiser, row: int, steps: int = 20, scale: float = 1.5) -> Tensor:
    """Row `row` of the sheet: one image of each of the ten classes, (10, 3, 32, 32) in [−1, 1], by DPM-Solver++(2M) with guidance.

    The noise of a row depends on its number alone, so a row can be drawn without those above it.
    """
    device = next(denoiser.net.parameters()).device
    x = normal_like(torch.empty(10, 3, 32, 32), torch.Generator().manual_seed(row)).to(device)  # a CPU's noise on every device
    *_, x = ode_multistep(cfg(denoiser, scale, y=torch.arange(10, device=device)), x, levels(denoiser.schedule, steps, "lam"), 2)
    return x.clamp(-1, 1)


def draw(denoiser, path: str | os.PathLike, rows: int = 4, steps: int = 20) -> None:
    """Write the first `rows` rows of `samples` as one picture, 32 rows × 320 pixels."""
    from PIL import Image

    drawn = torch.stack([from_unit(samples(denoiser, row, steps)).cpu() for row in range(rows)])  # (rows, 10, 3, 32, 32)
    Image.fromarray(drawn.permute(0, 3, 1, 4, 2).reshape(32 * rows, 320, 3).numpy()).save(path)


if __name__ == "__main__":
    torch.set_num_threads(1)
    draw(pretrained(*sys.argv[1:2]), *sys.argv[2:3] or [SHEET])
