"""The command behind the ablations of the chapter on training: what it averages, weighs, measures, and that it goes on where it stopped."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch

import dpmlib
from dpmlib import data
from dpmlib.losses import denoising_loss
from dpmlib.nets import Preconditioned
from dpmlib.train import fit

ROOT = Path(__file__).parents[1]
FILE = ROOT / "dpmlib" / "weights" / "ablations.json"
spec = importlib.util.spec_from_file_location("ablations", ROOT / "benchmarks" / "ablations.py")
ablations = importlib.util.module_from_spec(spec)
sys.modules["ablations"] = ablations
spec.loader.exec_module(ablations)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_what_a_fresh_network_loses_is_in_closed_form():
    x0, noise = torch.randn(2, 256, 3, 8, 8, generator=seeded(), dtype=torch.float64)
    x0 = 0.5 * x0 + 0.2
    nothing = Preconditioned(lambda x, t: torch.zeros_like(x), ablations.SCHEDULE)
    for level in ablations.grid():
        loss = denoising_loss(dpmlib.Denoiser(nothing, ablations.SCHEDULE), x0, level, noise).mean()
        assert abs(loss / ablations.initial_loss(level, x0.square().mean()) - 1) < 0.05


@pytest.mark.parametrize("name", ablations.CHANGES)
def test_every_change_begins_with_the_loss_of_the_recipe(name):
    """Drawn as in training, weighted and scaled, the loss before the first step is that of the recipe."""
    change, m = ablations.CHANGES[name], 0.26
    level = dpmlib.losses.random_level(ablations.SCHEDULE, 200_000, seeded(), change.density)
    weight = 1.0 if change.weight is None else change.weight(level)
    loss = ablations.scale(change, m) * (weight * ablations.initial_loss(level, m)).mean()
    plain = dpmlib.losses.random_level(ablations.SCHEDULE, 200_000, seeded())
    assert abs(loss / ablations.initial_loss(plain, m).mean() - 1) < 0.02


def test_the_levels_of_the_measurement_are_even_in_lam_and_span_the_chain():
    lam = ablations.grid().lam
    assert (lam.diff() - lam.diff()[0]).abs().max() < 1e-6
    assert abs(lam[0] - ablations.LOW) < 1e-6 and abs(lam[-1] - ablations.HIGH) < 1e-6


def test_the_average_as_fit_is_the_average_of_fit():
    kept = ablations.Averages(ablations.MEMORIES, (20,))

    def loss(net, batch, generator):
        kept.see(net)
        return net(batch).square()

    run = fit(torch.nn.Linear(2, 1), loss, torch.randn(50, 2, generator=seeded()), 20, generator=seeded(), ema=0.9999, progress=False)
    kept.see(run.raw)
    copies = kept.copies[20]
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(copies["as fit"], run.model.parameters()))
    assert all(torch.equal(a, b) for a, b in zip(copies["raw"], run.raw.parameters()))
    ahead = [(copies[name][0] - copies["raw"][0]).norm() for name in ("0.9", "0.99", "0.999", "0.9999")]
    assert ahead == sorted(ahead)  # the longer the memory, the further behind


def test_a_stopped_command_goes_on_and_other_settings_are_refused(tmp_path, monkeypatch, capsys):
    generated = {split: data.generated_images(64, split) for split in ("train", "test")}
    monkeypatch.setattr(ablations.data, "cifar10", lambda split: generated[split])
    monkeypatch.setattr(ablations, "IMAGES", 4)
    out = tmp_path / "runs.json"

    def command(*options):
        fixed = ["--device", "cpu", "--width", "12", "--steps", "4", "--batch", "4", "--out", str(out)]
        monkeypatch.setattr(sys, "argv", ["ablations.py", *fixed, *options])
        ablations.main()
        return json.loads(out.read_text())

    first = command("--only", "eps", "--seeds", "0")
    both = command("--only", "eps", "x0", "--seeds", "0")
    assert list(both["runs"]) == ["eps/0", "x0/0"] and both["runs"]["eps/0"] == first["runs"]["eps/0"]
    assert set(first["runs"]["eps/0"]["averages"]) == {"3", "4"}
    assert "eps" not in capsys.readouterr().out.splitlines()[-1]
    with pytest.raises(ValueError, match="holds runs with another preset"):
        command("--only", "v", "--width", "24")
    assert json.loads(out.read_text()) == both


@pytest.mark.skipif(not FILE.exists(), reason="no result yet")
def test_the_committed_result_is_of_this_command():
    found = json.loads(FILE.read_text())
    assert len(found["commit"]) == 40 and found["device"] and found["command"].startswith("python benchmarks/ablations.py")
    assert torch.allclose(torch.tensor(found["lam"]), ablations.grid().lam.float(), atol=1e-5)
    preset = ablations.Preset(**{key: tuple(v) if isinstance(v, list) else v for key, v in found["preset"].items()})
    assert found["parameters"] == sum(p.numel() for p in preset.network().parameters())
    begin, mean = ablations.SCHEDULE.level(torch.arange(1, 1001) / 1000), {}
    for name, run in found["runs"].items():
        assert name.split("/")[0] in ablations.CHANGES and len(run["test"][0]) == len(found["lam"])
        errors = torch.tensor(run["test"][0])
        assert (errors.diff() > 0).all()  # the less noise, the harder to see
        assert errors[-1] < 1.02 or name.startswith("min-SNR")  # no worse than saying 0, but for the weight that gives up the cleanest
        assert run["loss"][-1][1] < run["loss"][0][1] < 1.1 * ablations.initial_loss(begin, 0.26).mean()
        mean[name] = errors.mean()
    assert mean["few, mirrored/0"] / mean["eps/0"] < 1.1


@pytest.mark.skipif(not FILE.exists(), reason="no result yet")
def test_a_part_of_the_committed_result_again(record_property):
    """The scale of each run, from the images; needs CIFAR-10."""
    train = data.cifar10_or_generated("train")
    if train.generated:
        pytest.skip("no CIFAR-10")
    second = float(data.to_unit(train.images[:5000]).square().mean())
    for name, run in json.loads(FILE.read_text())["runs"].items():
        factor = ablations.scale(ablations.CHANGES[name.split("/")[0]], second)
        record_property(name, factor)
        assert abs(run["factor"] / factor - 1) < 1e-3
