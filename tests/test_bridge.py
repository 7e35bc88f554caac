"""Both bridges to diffusers, on a small random network: its networks in our solvers, our solvers in its pipelines. No network access."""

import warnings

import pytest
import torch
from test_laws import mixture, randn

import dpmlib as d
from dpmlib import bridge

diffusers = pytest.importorskip("diffusers")


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


def small_unet(**kwargs):
    torch.manual_seed(0)
    config = dict(sample_size=8, in_channels=3, out_channels=3, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4,
                  down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"))
    return diffusers.UNet2DModel(**{**config, **kwargs}).eval().requires_grad_(False)


def quiet(pipeline):
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(scope="module")
def pipeline():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return quiet(diffusers.DDPMPipeline(small_unet(), diffusers.DDPMScheduler(1000, clip_sample=False)))


X = torch.randn(2, 3, 8, 8, generator=gen(1))


def last(states):
    *_, x = states
    return x


def test_a_checkpoint_on_disk_is_a_denoiser(pipeline, tmp_path):
    pipeline.save_pretrained(tmp_path)
    level = d.DiscreteVP.linear(1000).level(0.5)
    direct = pipeline.unet(X, 499).sample
    for source in (pipeline, str(tmp_path), tmp_path, pipeline.unet):
        denoiser = d.Denoiser.from_diffusers(source)
        assert (denoiser(X, level).eps - direct).abs().max() < 1e-5
        assert denoiser.schedule.N == 1000 and denoiser.predicts == "eps"
        assert (denoiser.schedule.betas - d.DiscreteVP.linear(1000).betas).abs().max() < 1e-8


@pytest.mark.parametrize("kind, ours", bridge.PREDICTION_TYPES.items())
@pytest.mark.parametrize("schedule", ["linear", "scaled_linear", "squaredcos_cap_v2"])
def test_ddim_states_are_those_of_diffusers(pipeline, kind, ours, schedule):
    """Its own scheduler, driven as its pipeline drives it, on three chains and three prediction types."""
    scheduler = diffusers.DDIMScheduler(prediction_type=kind, beta_schedule=schedule, clip_sample=False, timestep_spacing="trailing")
    scheduler.set_timesteps(8)
    denoiser = d.Denoiser.from_diffusers(pipeline.unet, scheduler)
    assert denoiser.predicts == ours
    grid = bridge.chain_grid(denoiser.schedule, 8)
    assert torch.equal(bridge.chain_grid(denoiser.schedule, scheduler.timesteps).t, grid.t)
    start = slice(1 if schedule == "squaredcos_cap_v2" and kind == "epsilon" else 0, None)  # its α at n = N is 5e-5: float32 gives up
    x, i = X, start.start
    states = []
    for t in scheduler.timesteps[start]:
        x = scheduler.step(pipeline.unet(x, t).sample, t, x).prev_sample
        states.append(x)
    for solve in (lambda: d.ancestral(denoiser, X, grid[i:], eta=0), lambda: d.ode_multistep(denoiser, X, grid[i:], 1)):
        for mine, theirs in zip(solve(), states, strict=True):
            assert (mine - theirs).abs().max() < 1e-4 * max(1, theirs.abs().max())


def test_steps_that_do_not_divide_the_chain():
    """Its DDIM steps by floor(1000/n), whatever its timesteps are: at n = 60 that is twice as far from the exact ODE as the grid."""
    denoiser, chain, x = mixture().denoiser(), d.DiscreteVP.linear(1000), randn(64, 2, seed=7)
    exact = last(d.ode_multistep(denoiser, x, d.levels(chain, 300, "lam", to_zero=True), 3, rule="taylor"))
    ours = last(d.ancestral(denoiser, x, bridge.chain_grid(chain, 60), eta=0))
    scheduler = diffusers.DDIMScheduler(clip_sample=False, timestep_spacing="trailing")
    scheduler.set_timesteps(60)
    for t in scheduler.timesteps:
        x = scheduler.step(denoiser(x, chain.level((float(t) + 1) / 1000)).eps, t, x).prev_sample
    assert (ours - exact).square().mean().sqrt() < 0.6 * (x - exact).square().mean().sqrt()


def test_ddim_pipeline_images(pipeline, tmp_path):
    """The images of a stock DDIMPipeline, from a folder, by `ancestral` with η = 0."""
    pipeline.save_pretrained(tmp_path)
    stock = quiet(diffusers.DDIMPipeline.from_pretrained(tmp_path))
    stock.scheduler = diffusers.DDIMScheduler(clip_sample=False, timestep_spacing="trailing")
    # 8 divides 1000; where n does not, DDIMScheduler steps by the floor of 1000/n and leaves the grid of its timesteps
    images = stock(batch_size=2, generator=gen(5), num_inference_steps=8, output_type="pt").images
    denoiser = d.Denoiser.from_diffusers(stock)
    start = torch.randn(2, 3, 8, 8, generator=gen(5))
    ours = last(d.ancestral(denoiser, start, bridge.chain_grid(denoiser.schedule, 8), eta=0))
    assert ((ours / 2 + 0.5).clamp(0, 1) - images).abs().max() < 1e-4


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("form, rule", [("x0", "midpoint"), ("x0", "taylor"), ("eps", "midpoint")])
def test_our_solvers_in_a_stock_pipeline(pipeline, order, form, rule):
    original = pipeline.scheduler
    denoiser = d.Denoiser.from_diffusers(pipeline)
    try:
        pipeline.scheduler = bridge.SolverScheduler.like(original, order=order, form=form, rule=rule)
        for n in (1, 5):
            images = pipeline(batch_size=2, generator=gen(2), num_inference_steps=n, output_type="pt").images
            grid = bridge.chain_grid(denoiser.schedule, n)
            x = last(d.ode_multistep(denoiser, torch.randn(2, 3, 8, 8, generator=gen(2)), grid, order, form, rule))
            assert ((x / 2 + 0.5).clamp(0, 1) - images).abs().max() < 1e-5
    finally:
        pipeline.scheduler = original


@pytest.mark.parametrize("order", [1, 2])
def test_the_sde_in_a_stock_pipeline(pipeline, order):
    denoiser = d.Denoiser.from_diffusers(pipeline)
    stock = quiet(diffusers.DDPMPipeline(pipeline.unet, bridge.SolverScheduler.like(pipeline.scheduler, order=order, kind="sde")))
    images = stock(batch_size=2, generator=gen(3), num_inference_steps=5, output_type="pt").images
    g = gen(3)
    start = torch.randn(2, 3, 8, 8, generator=g)
    x = last(d.sde_multistep(denoiser, start, bridge.chain_grid(denoiser.schedule, 5), order, generator=g))
    assert ((x / 2 + 0.5).clamp(0, 1) - images).abs().max() < 1e-5
    with pytest.raises(ValueError, match="generator"):
        stock(num_inference_steps=2)


def test_ddim_pipeline_takes_it_by_assignment(pipeline):
    ours = bridge.SolverScheduler.like(pipeline.scheduler, order=2, through=d.clip_x0)
    stock = quiet(diffusers.DDIMPipeline(pipeline.unet, ours))
    assert isinstance(stock.scheduler, diffusers.DDIMScheduler)  # DDIMPipeline makes one of its own from ours' config
    assert (stock.scheduler.betas - ours.betas).abs().max() < 1e-7
    stock.scheduler = ours
    images = stock(batch_size=2, generator=gen(4), num_inference_steps=6, output_type="pt").images
    denoiser = d.clip_x0(d.Denoiser.from_diffusers(pipeline))
    x = last(d.ode_multistep(denoiser, torch.randn(2, 3, 8, 8, generator=gen(4)), bridge.chain_grid(ours.schedule, 6), 2))
    assert ((x / 2 + 0.5).clamp(0, 1) - images).abs().max() < 1e-5


def test_any_grid_and_a_late_start(pipeline):
    """A grid uniform in λ asks the network at fractional timesteps; an image-to-image run begins at a later one."""
    denoiser = d.Denoiser.from_diffusers(pipeline)
    chain = denoiser.schedule
    ours = bridge.SolverScheduler(chain, 3, grid=lambda n: d.levels(chain, n, "lam", to_zero=True))
    ours.set_timesteps(6)
    assert ours.timesteps.dtype == torch.float32
    begin, x = 2, ours.add_noise(X, torch.ones_like(X), ours.timesteps[2].expand(2))
    states = []
    for t in ours.timesteps[begin:]:
        x = ours.step(pipeline.unet(x, t).sample, t, x).prev_sample
        states.append(x)
    grid = d.levels(chain, 6, "lam", to_zero=True)[begin:]
    start = d.diffuse(X, grid[0], torch.ones_like(X))
    for a, b in zip(states, d.ode_multistep(denoiser, start, grid, 3), strict=True):
        assert (a - b).abs().max() < 1e-4


def test_class_labels_and_learned_variances():
    unet = small_unet(num_class_embeds=4, out_channels=6)
    labels, level = torch.tensor([1, 3]), d.DiscreteVP.linear(1000).level(0.3)
    denoiser = d.Denoiser.from_diffusers(unet)
    for name in ("y", "class_labels"):
        assert (denoiser(X, level, **{name: labels}).eps - unet(X, 299, labels).sample[:, :3]).abs().max() < 1e-5
    assert (denoiser(X, level, y=labels).eps - denoiser(X, level, y=labels.flip(0)).eps).abs().max() > 1e-3


def test_half_precision(pipeline):
    denoiser = d.Denoiser.from_diffusers(small_unet().bfloat16())
    x = last(d.ode_multistep(denoiser, X.bfloat16(), bridge.chain_grid(denoiser.schedule, 4), 2))
    assert x.dtype == torch.bfloat16 and x.isfinite().all()


@pytest.mark.parametrize("call, words", [
    (lambda s: bridge.chain_of(diffusers.FlowMatchEulerDiscreteScheduler()), "betas"),
    (lambda s: bridge.chain_of(diffusers.EulerDiscreteScheduler(prediction_type="flow_prediction")), "prediction_type"),
    (lambda s: bridge.chain_of(diffusers.DDIMScheduler(rescale_betas_zero_snr=True)), "betas"),
    (lambda s: bridge.chain_grid(s.schedule, 0), "steps"),
    (lambda s: bridge.SolverScheduler(s.schedule, 4), "order"),
    (lambda s: bridge.SolverScheduler(s.schedule, kind="sde", form="eps"), "form"),
    (lambda s: s.step(X, 999, X), "set_timesteps"),
    (lambda s: s.set_timesteps(4) or s.step(X, 998, X), "timestep"),
    (lambda s: s.set_timesteps(4) or s.step(X, 999, X) and s.step(X, 999, X), "turn"),
    (lambda s: s.set_timesteps(4) or s.step(X, 999, X, eta=1.0), "eta"),
])
def test_bad_input_is_named(call, words):
    with pytest.raises(ValueError, match=words):
        call(bridge.SolverScheduler(d.DiscreteVP.linear(1000)))


def test_without_diffusers_a_folder_is_refused_clearly(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "diffusers", None)
    with pytest.raises(ImportError, match="dpmlib\\[diffusers\\]"):
        d.Denoiser.from_diffusers(tmp_path)
