"""Throughput of dpmlib's U-Net, in training and in sampling, in float32 and bfloat16, contiguous and channels-last, beside
diffusers' UNet2DModel with as many parameters on as many positions. Each takes turns with the others, and the median of the
rounds is what is printed, so that a busy machine slows all of them.

    python benchmarks/training.py [--preset cifar10-tiny] [--rounds 5] [--out FILE.json]
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import torch
from diffusers import UNet2DModel

from dpmlib import provenance
from dpmlib.recipe import PRESETS


class Theirs(torch.nn.Module):
    """diffusers' U-Net on the folded image, as ours sees it: the same patch, width, levels, blocks and attention."""

    def __init__(self, preset, width):
        super().__init__()
        sides = [32 // preset.patch // 2**i for i in range(len(preset.multipliers))]
        kinds = ["Attn" if side in preset.attention else "" for side in sides]
        self.patch = preset.patch
        self.net = UNet2DModel(
            sample_size=sides[0], in_channels=3 * self.patch**2, out_channels=3 * self.patch**2, norm_num_groups=4,
            layers_per_block=preset.blocks, block_out_channels=[width * m for m in preset.multipliers],
            down_block_types=[f"{k}DownBlock2D" for k in kinds], up_block_types=[f"{k}UpBlock2D" for k in reversed(kinds)],
            num_class_embeds=preset.classes + 1, attention_head_dim=width * preset.multipliers[-1] // 4)  # 4 heads

    def forward(self, x, t, y):
        x = torch.nn.functional.pixel_unshuffle(x, self.patch)
        return torch.nn.functional.pixel_shuffle(self.net(x, 1000 * t, class_labels=y).sample, self.patch)


def parameters(net):
    return sum(p.numel() for p in net.parameters())


def as_large(preset, count):
    """Their network with the multiple of 4 for a width that comes nearest to `count` parameters."""
    return min((Theirs(preset, width) for width in range(16, 2 * preset.width, 4)), key=lambda n: abs(parameters(n) - count))


def evaluate(net, optimizer, batch, bf16, device):
    with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=bf16):
        net(*batch)


def step(net, optimizer, batch, bf16, device):
    x, t, y = batch
    with torch.autocast(device, torch.bfloat16, enabled=bf16):
        loss = (net(x, t, y).float() - x).square().mean()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--preset", choices=PRESETS, default="cifar10-tiny")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    preset, device = PRESETS[options.preset], "cuda" if torch.cuda.is_available() else "cpu"
    ours = lambda: preset.network()
    count = parameters(ours())
    theirs = lambda: as_large(preset, count)
    cases = [("dpmlib, float32", ours, False, False), ("dpmlib, bf16", ours, True, False),
             ("dpmlib, bf16, channels last", ours, True, True), ("diffusers, float32", theirs, False, False),
             ("diffusers, bf16", theirs, True, False)]
    nets, batch = [], [torch.randn(options.batch, 3, 32, 32), torch.rand(options.batch).clamp(min=1e-3),
                       torch.randint(10, (options.batch,))]
    batch = [part.to(device) for part in batch]
    for name, make, bf16, last in cases:
        net = make().to(device, memory_format=torch.channels_last if last else torch.contiguous_format)
        nets.append((name, net, torch.optim.AdamW(net.parameters(), fused=True), bf16, [], []))
    for turn in range(options.rounds + 1):
        for _, net, optimizer, bf16, trained, evaluated in nets:
            for work, seconds in ((step, trained), (evaluate, evaluated)):
                start = time.perf_counter()
                work(net, optimizer, batch, bf16, device)
                if device == "cuda":
                    torch.cuda.synchronize()
                if turn:  # the first is for warming up
                    seconds.append(time.perf_counter() - start)
    rows = [{"network": name, "parameters": parameters(net), "training": options.batch / statistics.median(trained),
             "sampling": options.batch / statistics.median(evaluated)} for name, net, _, _, trained, evaluated in nets]
    rate = {row["network"]: row for row in rows}
    ratios = {f"{work}, {kind}": rate[f"dpmlib, {kind}"][work] / rate[f"diffusers, {kind}"][work]
              for work in ("training", "sampling") for kind in ("float32", "bf16")}
    print(f"{options.preset}, batch {options.batch}, {device}, {torch.get_num_threads()} threads, torch {torch.__version__}; images/s")
    for row in rows:
        print(f"{row['network']:30s} {row['parameters'] / 1e6:5.2f} M parameters   training {row['training']:6.0f}   "
              f"one evaluation {row['sampling']:6.0f}")
    print("times as fast as diffusers': " + ", ".join(f"{name} {ratio:.2f}" for name, ratio in ratios.items()))
    if options.out:
        result = {"command": "python benchmarks/training.py " + " ".join(sys.argv[1:]), "commit": provenance.commit(),
                  "device": provenance.device(torch.device(device)), "torch": torch.__version__, "preset": options.preset,
                  "batch": options.batch, "unit": "images per second, median", "rounds": options.rounds, "rows": rows, "ratios": ratios}
        options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
