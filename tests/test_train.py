"""The training loop: that it learns, averages, stops, resumes, and never loses what is already written."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
import torch
from PIL import Image

import dpmlib
from dpmlib import checkpoint as files
from dpmlib.losses import denoising, denoising_loss, random_level
from dpmlib.nets import MLP, Preconditioned
from dpmlib.pretrained import export, images_seen, pretrained
from dpmlib.train import fit
from dpmlib.unet import UNet

CHAIN = dpmlib.DiscreteVP.linear(1000)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def small(seed=0):
    torch.manual_seed(seed)
    return MLP(2, width=16, depth=1)


def curve(log):
    return [(row["step"], row["loss"]) for row in log]


def run(steps=40, net=None, data=None, **options):
    data = torch.randn(100, 2, generator=generator()) if data is None else data
    return fit(net or small(), denoising(CHAIN), data, steps, generator=generator(), batch=32,
               **{"log_every": 5, "every": 10, "warmup": 5, **options})


# The loss


@pytest.mark.parametrize("form, weight", [("x0", lambda level: (-2 * level.lam).exp()), ("eps", None),
                                          ("v", lambda level: 1 / level.alpha**2)])
def test_the_other_objectives_are_weights(form, weight):
    g = generator()
    x0, noise = (torch.randn(6, 3, 4, 4, generator=g, dtype=torch.float64) for _ in range(2))
    level = CHAIN.level(torch.tensor([0.001, 0.1, 0.3, 0.5, 0.8, 1.0]))
    denoiser = dpmlib.Denoiser(lambda x, t: x.sin(), CHAIN)
    belief = denoiser(dpmlib.diffuse(x0, level, noise), level)
    said = {"x0": belief.mean, "eps": belief.eps, "v": belief.v}[form]
    error = (said - dpmlib.posterior.target(x0, noise, level, form)).square().flatten(1).mean(1)
    assert torch.allclose(denoising_loss(denoiser, x0, level, noise, weight), error, rtol=1e-9)


def test_the_loss_of_the_exact_denoiser_is_the_posterior_variance():
    """For x_0 ~ N(0, I), E‖ε − E[ε|x_t]‖²/d = α²: the irreducible part of every denoising loss."""
    exact = dpmlib.Gaussian(torch.zeros(2, dtype=torch.float64), torch.eye(2, dtype=torch.float64)).denoiser()
    g, n = generator(), 200_000
    x0, noise = (torch.randn(n, 2, generator=g, dtype=torch.float64) for _ in range(2))
    level = CHAIN.level(0.4)
    mean = denoising_loss(exact, x0, level, noise).mean()
    assert abs(mean / level.alpha**2 - 1) < 0.01


def test_nan_in_the_data_is_named():
    with pytest.raises(ValueError, match="x0 has 1 entries"):
        denoising_loss(lambda x, level: None, torch.tensor([[0.0, torch.nan]]), CHAIN.level(0.5), torch.zeros(1, 2))


@pytest.mark.parametrize("schedule", [CHAIN, dpmlib.LinearVP(), dpmlib.CosineVP()])
def test_random_levels_are_uniform_and_evenly_spread(schedule):
    t = torch.stack([random_level(schedule, 10, generator(s)).t for s in range(500)])
    assert t.min() >= schedule.t_end and t.max() <= schedule.t_max
    low, high = schedule.t_end, schedule.t_max
    assert abs(t.mean() / ((low + high) / 2) - 1) < 0.01  # independent draws would be this near only by luck
    counts = torch.histc(t.float(), 10, low, high)
    assert (counts / 500 - 1).abs().max() < 0.2


# The loop


def test_it_learns_and_the_average_is_what_is_returned():
    data = torch.tensor([[1.0, -1.0]]).repeat(64, 1)
    done = run(200, data=data, lr=1e-2, cooldown=0.5)
    assert done.log[-1]["loss"] < 0.2 * done.log[0]["loss"]
    assert not done.model.training and not done.raw.training
    assert done.log[-1]["images"] == 200 * 32 and done.log[-1]["lr"] < 1e-3
    assert all(not p.requires_grad for p in done.model.parameters())


def test_any_model_and_any_loss():
    """Maximum likelihood of a Gaussian's mean: the loop knows nothing of diffusion."""
    model = torch.nn.Linear(1, 2, bias=False)
    loss = lambda net, batch, g: (batch[0] - net(torch.ones(len(batch[0]), 1))).square().sum(1)
    draw = lambda g: (torch.randn(64, 2, generator=g) + torch.tensor([3.0, -2.0]), torch.zeros(64))
    done = fit(model, loss, draw, 400, generator=generator(), lr=0.05, cooldown=1.0)
    assert (done.model.weight.flatten() - torch.tensor([3.0, -2.0])).abs().max() < 0.1


def test_the_average_is_the_average():
    iterates = []
    loss = lambda net, batch, g: (iterates.append(net.weight.detach().clone()), net(batch).square())[1]
    done = fit(torch.nn.Linear(2, 1), loss, torch.randn(50, 2, generator=generator()), 5, generator=generator(), ema=0.3)
    average = iterates[0]
    for step, weight in enumerate([*iterates[1:], done.raw.weight]):
        decay = min(0.3, (1 + step) / (10 + step))
        average = decay * average + (1 - decay) * weight
    assert torch.allclose(done.model.weight, average, atol=1e-6)


def test_same_seed_same_run_and_the_callers_random_state_is_left_alone():
    torch.manual_seed(3)
    net, state = small(), torch.get_rng_state()
    first = run(net=net)
    assert torch.equal(torch.get_rng_state(), state)
    assert curve(first.log) == curve(run().log) != curve(run(lr=2e-3).log)


def test_resuming_gives_the_same_curve(tmp_path):
    path, whole = tmp_path / "run.safetensors", run(40)

    def interrupt(so_far, step):
        if step == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(40, checkpoint=path, on_save=interrupt)
    again = run(40, checkpoint=path)
    assert curve(again.log) == curve(whole.log)
    assert all(torch.equal(a, b) for a, b in zip(again.model.state_dict().values(), whole.model.state_dict().values()))
    assert run(40, checkpoint=path).log == again.log  # finished: nothing is done again


def test_killed_at_any_moment(tmp_path):
    """SIGKILL at two odd moments, a restart after each, and the loss curve of a run that was left in peace."""
    script = tmp_path / "job.py"
    script.write_text(textwrap.dedent(f"""
        import sys; sys.path.insert(0, {str(os.path.dirname(os.path.dirname(dpmlib.__file__ or '')))!r})
        sys.path.insert(0, {os.path.dirname(__file__)!r})
        import json, torch
        torch.set_num_threads(1)
        from test_train import run
        path = sys.argv[1]
        done = run(200, checkpoint=path, every=3, probe=lambda m: print("saved", flush=True) or {{}})
        print(json.dumps(done.log))
    """))

    def job(path):
        return subprocess.Popen([sys.executable, script, path], stdout=subprocess.PIPE, text=True, env={**os.environ, "DPMLIB_QUIET": "1"})

    path = tmp_path / "killed.safetensors"
    for saves, wait in [(1, 0.0), (20, 0.003)]:
        process = job(path)
        for _ in range(saves):
            process.stdout.readline()
        time.sleep(wait)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        if path.exists():
            files.load(path)  # whole
    out = job(path).communicate()[0].splitlines()
    log, whole = json.loads(out[-1]), run(200, checkpoint=tmp_path / "peace.safetensors", every=3)
    assert len(out) < 62  # it did go on from where it was
    assert [s for s, _ in curve(log)] == [s for s, _ in curve(whole.log)]
    assert torch.allclose(torch.tensor(curve(log)), torch.tensor(curve(whole.log)), rtol=1e-3)


def test_nan_stops_the_run_and_the_last_good_state_stays(tmp_path):
    path = tmp_path / "run.safetensors"
    run(20, checkpoint=path)
    before = path.read_bytes()
    broken = lambda net, batch, g: net(batch, torch.ones(len(batch))).sum(1) * torch.nan
    with pytest.raises(FloatingPointError, match="smaller lr"):
        fit(small(), broken, torch.zeros(9, 2), 40, generator=generator(), checkpoint=path, log_every=5)
    assert path.read_bytes() == before


def test_bad_arguments():
    for options in [dict(steps=0), dict(lr=0.0), dict(cooldown=2.0), dict(ema=1.0), dict(batch=0)]:
        with pytest.raises(ValueError, match=next(iter(options))):
            fit(small(), denoising(CHAIN), torch.zeros(4, 2), options.pop("steps", 1), generator=generator(), **options)


# Files


def test_a_full_disk_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "w.safetensors"
    files.save(path, {"a": torch.ones(3)}, step=1)

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="untouched.*free some space"):
        files.save(path, {"a": torch.zeros(3)}, step=2)
    tensors, notes = files.load(path)
    assert notes == {"step": 1} and tensors["a"].sum() == 3 and os.listdir(tmp_path) == [path.name]


def test_truncated_mismatched_and_foreign_files(tmp_path):
    path = tmp_path / "run.safetensors"
    run(10, checkpoint=path)
    whole = path.read_bytes()
    for cut in (0, 4, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(ValueError, match="truncated"):
            run(20, checkpoint=path)
    path.write_bytes(whole)
    for other in (MLP(2, width=8, depth=1), MLP(2, width=16, depth=2)):
        with pytest.raises(ValueError, match="do not fit"):
            run(20, net=other, checkpoint=path)
    files.save(path, {"a": torch.ones(3)})
    with pytest.raises(ValueError, match="no training checkpoint"):
        run(20, checkpoint=path)
    with pytest.raises(FileNotFoundError):
        files.load(tmp_path / "none.safetensors")


def test_weights_out_and_in(tmp_path):
    torch.manual_seed(0)
    net = Preconditioned(UNet(3, 8, 16, (1, 2), 1, (2,), 4, 2), CHAIN).eval()
    with torch.no_grad():
        net.net.head.weight.normal_(0, 0.1)
    export(tmp_path / "w.safetensors", net, command="python -m dpmlib.train")
    back = pretrained(tmp_path / "w.safetensors")
    assert back.net.notes["command"] == "python -m dpmlib.train" and back.schedule.betas.equal(CHAIN.betas)
    x, t, y = torch.randn(2, 3, 8, 8, generator=generator()), torch.ones(2), torch.tensor([1, 4])
    assert torch.allclose(back.net(x, t, y), net(x, t, y), atol=1e-2)
    assert back(x, CHAIN.level(0.5), y=y).mean.shape == x.shape
    with pytest.raises(ValueError, match="cifar11"):
        pretrained("cifar11")
    files.save(tmp_path / "w.safetensors", {"a": torch.ones(1)})
    with pytest.raises(ValueError, match="does not say"):
        pretrained(tmp_path / "w.safetensors")


def test_the_command_trains_resumes_and_exports(tmp_path, monkeypatch):
    from dpmlib import data, recipe

    monkeypatch.setattr(data, "cifar10", lambda split: data.generated_images(40, split))
    command = ["--out", str(tmp_path), "--width", "16", "--multipliers", "1", "2", "--batch", "8", "--heads", "2", "--every", "2"]
    recipe.main([*command, "--steps", "2"])
    done = recipe.main([*command, "--steps", "4"])
    assert done.log[-1]["step"] == 4 and "eps@t=0.50" in done.log[-1]
    denoiser = pretrained(tmp_path / "cifar10-tiny.safetensors")
    assert denoiser.net.net.config["multipliers"] == (1, 2)
    written = json.loads((tmp_path / "cifar10-tiny.json").read_text())
    assert written["log"] == done.log
    assert written["command"] == ("python -m dpmlib.train --preset cifar10-tiny --seed 0 --width 16 --multipliers 1 2 --heads 2 "
                                  "--steps 4 --batch 8")
    compiled = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda net: compiled.append(net))  # the real one takes a minute
    again = recipe.main([*command, "--steps", "5", "--compile", "--from", str(tmp_path / "cifar10-tiny.safetensors")])
    assert again.log[-1]["step"] == 5 and compiled == [again.raw]
    written = json.loads((tmp_path / "cifar10-tiny.json").read_text())
    assert "--compile" in written["command"].split() and f"--from {tmp_path}" in written["command"]
    assert images_seen(written) == 8 * 5 + written["before"]["images"] == 8 * (5 + 4)
    with Image.open(tmp_path / "cifar10-tiny.png") as shown:  # samples of the ten classes, drawn whenever it saves
        assert shown.size == (320, 64) and np.asarray(shown).std() > 5


def test_the_committed_weights_are_those_of_their_log():
    from dpmlib import data, recipe
    from dpmlib.pretrained import WEIGHTS

    log = json.loads((WEIGHTS / "cifar10.json").read_text())["log"]
    assert log[-1]["loss"] < 0.05
    assert os.path.getsize(WEIGHTS / "cifar10.safetensors") < 5e6
    try:
        images = data.cifar10("test")[0][:128]
    except ConnectionError:
        pytest.skip("needs CIFAR-10")
    denoiser = pretrained("cifar10")
    x0 = data.to_unit(images)
    noise = torch.randn(x0.shape, generator=generator())
    with torch.no_grad():
        error = denoising_loss(denoiser, x0, denoiser.schedule.level(0.5), noise).mean()
    assert abs(error / log[-1]["eps@t=0.50"] - 1) < 0.02
    assert recipe.PRESETS["cifar10-tiny"].network().net.config == denoiser.net.net.config


def test_the_committed_weights_have_the_committed_hashes():
    """After training anew: cd dpmlib/weights && sha256sum *.safetensors > SHA256SUMS."""
    from dpmlib.pretrained import WEIGHTS

    listed = dict(reversed(line.split()) for line in (WEIGHTS / "SHA256SUMS").read_text().splitlines())
    assert listed == {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in WEIGHTS.glob("*.safetensors")}


def test_the_weights_draw_the_committed_sheet_again():
    from dpmlib import data, sheet

    committed = torch.from_numpy(np.asarray(Image.open(sheet.SHEET)).astype("int32")).reshape(-1, 32, 10, 32, 3).permute(0, 2, 4, 1, 3)
    again = data.from_unit(sheet.samples(pretrained("cifar10"), row=1)).int()
    apart = (again - committed[1]).abs().float()
    assert apart.mean() < 0.5 and apart.max() <= 8  # other processors round otherwise; a wrong picture is tens of grey levels away
    assert (again - committed[0]).abs().float().mean() > 20


def test_the_committed_benchmarks_hold_what_the_project_asks(record_property):
    """Ratios within one run on one device; `make bench` measures them again on yours."""
    from dpmlib.pretrained import WEIGHTS

    beside, scaling = (json.loads((WEIGHTS / f"bench_cpu{part}.json").read_text()) for part in ("_diffusers", ""))
    for note in (beside, scaling):
        assert {"command", "commit", "device", "torch"} <= note.keys()
    sizes = [row["parameters"] for row in beside["rows"]]
    assert max(sizes) < 1.1 * min(sizes)
    for kind in ("float32", "bf16"):
        record_property(f"training, times as fast as diffusers', {kind}", beside["ratios"][f"training, {kind}"])
        assert beside["ratios"][f"training, {kind}"] >= 1.3
    assert max(row["drawing_over_step"] for row in scaling["batches"]) < 0.05  # never data-bound
    assert scaling["processes"]["2"] > 1.3 * scaling["processes"]["1"]
    memory = [row["memory_MiB"] / row["batch"] for row in scaling["batches"]]
    assert memory[-1] < 1.1 * memory[0]  # per image: no more in larger batches
