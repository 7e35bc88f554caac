"""Two bridges to `diffusers`: its networks as denoisers for our solvers, and our solvers as a scheduler for its pipelines.

Its chains are ours: `scheduler.betas` are β_1 … β_N, and its timestep is n − 1. Nothing here needs `diffusers` itself, which is
an optional extra, but to read a pipeline from a folder.
"""

import os
from collections.abc import Callable, Sequence
from types import SimpleNamespace

import torch
from torch import Tensor

from .denoiser import Believer, Denoiser, chain_label
from .levels import Levels, diffuse, with_data
from .noise import normal_like
from .posterior import Posterior, mean_from_output
from .schedules import DiscreteVP
from .solvers import _apply, _multistep_coefficients, _multistep_plan

PREDICTION_TYPES = {"epsilon": "eps", "sample": "x0", "v_prediction": "v"}


def from_diffusers(source, scheduler=None) -> Denoiser:
    """A network of `diffusers` as a Denoiser on its own chain, a DiscreteVP; timesteps n − 1.

    `source`: a pipeline (with `.unet` and `.scheduler`), the folder or name of one, or a network alone, which is called as
    `net(x, timestep, **condition)` and returns a tensor or something with `.sample`. `scheduler` overrides the pipeline's; for a
    network alone it defaults to DDPM's linear chain of 1000 steps and prediction of ε. Labels are passed when given,
    `denoiser(x, level, y=labels)` or `class_labels=labels`. A second half of output channels, a learned variance, is dropped.

    Raises ImportError if `source` is a folder or name and `diffusers` is missing, ValueError for a scheduler without betas or a
    prediction type unknown here.
    """
    if isinstance(source, str | os.PathLike):
        source = _load(source)
    unet = getattr(source, "unet", source)
    scheduler = getattr(source, "scheduler", None) if scheduler is None else scheduler
    schedule, predicts = (DiscreteVP.linear(1000), "eps") if scheduler is None else chain_of(scheduler)

    def net(x, number, y=None, **condition):
        if y is not None:
            condition["class_labels"] = y
        out = unet(x, number, **condition)
        out = out if isinstance(out, Tensor) else out.sample
        return out[:, : x.shape[1]] if out.shape[1] == 2 * x.shape[1] else out

    return Denoiser(net, schedule, predicts, chain_label(schedule.N))


def _load(source):
    try:
        from diffusers import DiffusionPipeline
    except ImportError as error:
        raise ImportError(f"to read a pipeline from {str(source)!r} needs diffusers: pip install 'dpmlib[diffusers]'") from error
    return DiffusionPipeline.from_pretrained(source)


def chain_of(scheduler) -> tuple[DiscreteVP, str]:
    """The chain of a scheduler of `diffusers`, from its betas, and what its network predicts, in our words.

    Raises ValueError without betas, for β = 1 (zero terminal SNR), and for another prediction type.
    """
    if getattr(scheduler, "betas", None) is None:
        raise ValueError(f"scheduler = {type(scheduler).__name__}: it has no betas, so it is no chain; give dpmlib.Denoiser its schedule")
    kind = getattr(scheduler.config, "prediction_type", "epsilon")
    if kind not in PREDICTION_TYPES:
        raise ValueError(f"prediction_type = {kind!r}: choose one of {tuple(PREDICTION_TYPES)}")
    return DiscreteVP(torch.as_tensor(scheduler.betas, device="cpu")), PREDICTION_TYPES[kind]


def chain_grid(schedule: DiscreteVP, steps: int | Sequence[float] | Tensor) -> Levels:
    """The grid of a chain at the timesteps that a scheduler of `diffusers` would visit, ending at the data.

    `steps`: a number of steps ("trailing" spacing: n even steps from N, rounded), or the timesteps n − 1 themselves, descending.
    Raises ValueError for fewer than 1 or more than N steps.
    """
    N = schedule.N
    if isinstance(steps, int):
        if not 1 <= steps <= N:
            raise ValueError(f"steps = {steps}: need 1 to {N}")
        steps = (N - torch.arange(steps, dtype=torch.float64) * (N / steps)).round() - 1
    return with_data(schedule.level((torch.as_tensor(steps, dtype=torch.float64, device="cpu") + 1) / N))


class _Config(dict):
    """What pipelines ask of a scheduler's config: entries as items and as attributes."""

    def __getattr__(self, name):
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


class SolverScheduler:
    """Multistep exponential integrators in the place of a scheduler of `diffusers`.

        pipeline.scheduler = SolverScheduler.like(pipeline.scheduler, order=2)
        images = pipeline(num_inference_steps=10).images

    `order` 1 to 3; `kind` "ode" or "sde" (which draws from the generator that the pipeline is given); `form` "x0"
    (DPM-Solver++) or "eps" (DPM-Solver) and `rule` as for `ode_multistep`. `predicts` is what the network says. `through` is a
    function from denoisers to denoisers, `clip_x0` for example. `grid` makes a grid from a number of steps, by default `chain_grid`.
    In a stock pipeline the result is that of `ode_multistep` on `from_diffusers` of it. Assign it to `.scheduler`: some pipelines,
    DDIMPipeline among them, replace a scheduler that is handed to their constructor by one of their own.

    Raises ValueError for arguments outside these.
    """

    order = 1  # evaluations a step: pipelines ask

    def __init__(self, schedule: DiscreteVP, order: int = 2, kind: str = "ode", form: str = "x0", rule: str = "midpoint",
                 predicts: str = "eps", through: Callable[[Believer], Believer] | None = None,
                 grid: Callable[[int], Levels] | None = None):
        if kind not in ("ode", "sde") or (kind == "sde" and form != "x0"):
            raise ValueError(f"kind, form = {kind!r}, {form!r}: kind is 'ode' or 'sde', and the SDE is solved in x0 form only")
        if order not in (1, 2, 3):
            raise ValueError(f"order = {order}: choose 1, 2 or 3")
        self.schedule, self.predicts, self.through = schedule, predicts, through
        self._order, self._form, self._rule, self._random = order, form, rule, kind == "sde"
        self._grid_of = grid or (lambda n: chain_grid(schedule, n))
        names = {ours: theirs for theirs, ours in PREDICTION_TYPES.items()}
        self.config = _Config(num_train_timesteps=schedule.N, trained_betas=schedule.betas.tolist(), steps_offset=0, clip_sample=False,
                              prediction_type=names.get(predicts, predicts), timestep_spacing="trailing")
        self.init_noise_sigma = 1.0
        self.betas, self.alphas_cumprod = schedule.betas, (1 - schedule.betas).cumprod(0)
        self.timesteps = torch.arange(schedule.N - 1, -1, -1)
        self._grid = None

    @classmethod
    def like(cls, scheduler, order: int = 2, **kwargs) -> "SolverScheduler":
        """For the network that `scheduler` (any of `diffusers` that has betas) was made for."""
        schedule, predicts = chain_of(scheduler)
        return cls(schedule, order, predicts=predicts, **kwargs)

    def set_timesteps(self, num_inference_steps: int, device=None) -> None:
        """Choose the grid and forget the past; `.timesteps` (n,) are the numbers to feed the network, one per step."""
        self._grid = self._grid_of(num_inference_steps)
        numbers = self._grid.t[:-1] * self.schedule.N - 1
        whole = numbers.round()
        self._numbers = whole.long() if bool(((numbers - whole).abs() < 1e-6).all()) else numbers.float()
        self.timesteps, self._next = self._numbers.to(device), None

    def scale_model_input(self, sample: Tensor, timestep=None) -> Tensor:
        """The sample: a variance-preserving path needs no scaling."""
        return sample

    def add_noise(self, original_samples: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """x_t of x_0 at `timesteps` (B,), for pipelines that start from an image."""
        return diffuse(original_samples, self.schedule.level((timesteps.double().cpu() + 1) / self.schedule.N), noise)

    def step(self, model_output: Tensor, timestep, sample: Tensor, eta: float = 0.0, use_clipped_model_output: bool | None = None,
             generator=None, return_dict: bool = True):
        """From the state at `timestep` and the network's output there to the next state, `.prev_sample` (and `.pred_original_sample`).

        The first call may be at any of `.timesteps`, later ones follow in turn. Raises ValueError out of turn, before
        `set_timesteps`, for eta != 0 (here `kind` decides) or clipped outputs (use `through`), and for an SDE without a generator.
        """
        if eta or use_clipped_model_output:
            raise ValueError(f"eta, use_clipped_model_output = {eta}, {use_clipped_model_output}: say kind='sde', through=clip_x0 instead")
        i = self._turn(timestep)
        level = self._grid[i]
        believe = lambda x, level: Posterior(mean_from_output(model_output, x, level, self.predicts), x=x, level=level)
        if self.through is not None:
            believe = self.through(believe)
        belief = believe(sample, level)
        a, b, std = next(self._plan)
        self._past = [belief.mean if self._form == "x0" else belief.eps, *self._past][:self._order]
        x = _apply(sample, a, b, self._past)
        if std > 0:
            x = torch.add(x, normal_like(x, generator), alpha=std)
        self._next = i + 1
        return SimpleNamespace(prev_sample=x, pred_original_sample=belief.mean) if return_dict else (x, belief.mean)

    def _turn(self, timestep) -> int:
        """The index of this step; the first one fixes where the plan begins."""
        if self._grid is None:
            raise ValueError("step before set_timesteps: there is no grid yet")
        if self._next is None or self._next == len(self._numbers):  # a run begins
            close = (self._numbers.double() - float(timestep)).abs() < 1e-3
            if not bool(close.any()):
                raise ValueError(f"timestep = {float(timestep):g} is none of {self._numbers.tolist()}")
            self._next = int(close.nonzero()[0])
            grid, self._past = self._grid[self._next:], []
            r = 2.0 if self._random else 1.0 if self._form == "x0" else -1.0
            self._plan = iter(_multistep_coefficients(grid, _multistep_plan(grid, self._order, self._form, self._rule),
                                                      self._form, r, self._rule))
        elif not (isinstance(timestep, Tensor) and timestep.is_cuda):  # to look at one on the GPU would be to wait for it
            if abs(float(timestep) - float(self._numbers[self._next])) > 1e-3:
                raise ValueError(f"timestep = {float(timestep):g}: it is the turn of {float(self._numbers[self._next]):g}")
        return self._next
