"""Several processes that share every batch: the same run as one process, and one that survives a death."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

STEPS = 40
SCRIPT = """
import json, os, signal, sys
from dataclasses import replace
from pathlib import Path
import torch
from dpmlib.recipe import PRESETS, noisy_images, noisy_loss
from dpmlib.train import fit

out, dies = Path(sys.argv[1]), int(sys.argv[2])
preset = replace(PRESETS["cifar10-tiny"], width=8, multipliers=(1, 1), patch=4, attention=(), batch=16)
g = torch.Generator().manual_seed(0)
images = torch.randint(256, (64, 3, 1, 1), generator=g, dtype=torch.uint8).expand(-1, -1, 32, 32)  # plain colours: soon learnt
labels = torch.randint(10, (64,), generator=g)
draw, calls = noisy_images(images, labels, preset), 0

def batches(generator):
    global calls
    calls += 1
    if calls == dies and os.environ.get("RANK") == "1":
        os.kill(os.getpid(), signal.SIGKILL)
    return draw(generator)

torch.manual_seed(0)
run = fit(preset.network(), noisy_loss(preset.schedule()), batches, 40, generator=g, lr=3e-3, warmup=5, log_every=5, every=10,
          checkpoint=out / "state.safetensors", progress=False, distributed=torch.distributed.is_torchelastic_launched())
if os.environ.get("RANK", "0") == "0":
    curve = {row["step"]: row["loss"] for row in run.log}
    (out / "curve.json").write_text(json.dumps([curve, sum(float(p.double().abs().sum()) for p in run.model.parameters())]))
"""


def launch(folder: Path, processes: int, dies: int = 0) -> subprocess.CompletedProcess:
    folder.mkdir(exist_ok=True)
    script = folder / "train.py"
    script.write_text(SCRIPT)
    several = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"] if processes > 1 else []
    return subprocess.run([sys.executable, *several, script, folder, str(dies)], capture_output=True, text=True, timeout=240,
                          env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""})


def curve(folder):
    losses, weights = json.loads((folder / "curve.json").read_text())
    return torch.tensor([losses[str(step)] for step in range(5, STEPS + 1, 5)]), weights


@pytest.mark.skipif(not torch.distributed.is_available() or not torch.distributed.is_gloo_available(), reason="this torch has no gloo")
def test_two_processes_are_one_with_the_whole_batch_also_after_one_was_killed(tmp_path, record_property):
    alone, shared, killed = tmp_path / "alone", tmp_path / "shared", tmp_path / "killed"
    for run in (launch(alone, 1), launch(shared, 2)):
        assert run.returncode == 0, run.stderr[-3000:]
    (one, weights), (two, weights_2) = curve(alone), curve(shared)
    assert one[-1] < 0.9 * one[0]  # it learns, so the curve is not a constant
    difference = float((one - two).abs().max())
    record_property("largest difference of the loss curves", difference)
    assert difference < 1e-4 and abs(weights_2 / weights - 1) < 1e-4

    died = launch(killed, 2, dies=27)
    assert died.returncode != 0 and not (killed / "curve.json").exists()
    again = launch(killed, 2)
    assert again.returncode == 0, again.stderr[-3000:]
    resumed, weights_3 = curve(killed)
    assert float((resumed - two).abs().max()) < 1e-6 and abs(weights_3 / weights_2 - 1) < 1e-6
