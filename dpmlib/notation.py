"""Other papers' symbols in ours, and back: a table with one row per paper, and three functions that read it.

The same letter means different things: α = 0.99 is the signal coefficient in DPM-Solver, its square in DDIM, and in
DDPM what one step does to that square. So a symbol is never translated without its paper.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import softplus

from .denoiser import chain_label
from .levels import Levels
from .schedules import DiscreteVP, LinearVP, Schedule


def _float64(value) -> Tensor:
    return torch.as_tensor(value, dtype=torch.float64)


# What a set of symbols says, as Levels. The time is NaN where the symbols do not tell it.

def _level(alpha, sigma, t=torch.nan) -> Levels:
    alpha, sigma = torch.broadcast_tensors(_float64(alpha), _float64(sigma))
    return Levels(_float64(t).expand(alpha.shape), alpha, sigma, alpha.log() - sigma.log())


def _vp_lam(lam) -> Levels:
    return _level((-0.5 * softplus(-2 * lam)).exp(), (-0.5 * softplus(2 * lam)).exp())


def _vp_log_alpha(log_alpha, t=torch.nan) -> Levels:
    return _level(log_alpha.exp(), (-torch.expm1(2 * log_alpha)).sqrt(), t)


def _chain(beta) -> Levels:
    if beta.ndim != 1:
        raise ValueError(f"rates of shape {tuple(beta.shape)}: one step's rate does not say how noisy its outcome is, "
                         "give the whole chain, steps 1 … N, as a vector (N,)")
    n = torch.arange(1, len(beta) + 1, dtype=torch.float64)
    return _vp_log_alpha(0.5 * torch.log1p(-beta).cumsum(0), n / len(beta))


def _ddpm_step(t) -> Levels:
    if not bool((t == t.round()).all()):
        raise ValueError(f"t = {t.tolist()}: a step of the chain is a whole number")
    return DiscreteVP.linear(1000).level(t / 1000)


# What happens in one step of a chain, from the level `clean` to the level `noisy`.

def _rates(noisy, clean) -> dict[str, Tensor]:
    log_alpha = 2 * (noisy.alpha.log() - clean.alpha.log())
    beta = -torch.expm1(log_alpha)
    return {"alpha": log_alpha.exp(), "beta": beta, "beta_tilde": (clean.sigma / noisy.sigma) ** 2 * beta}


@dataclass(frozen=True)
class Reading:
    """Symbols that together name a level, each with the range it may lie in, and the level they name."""

    symbols: Mapping[str, tuple[float, float]]
    level: Callable[..., Levels]


@dataclass(frozen=True)
class Paper:
    """One row: how its symbols are read, how a level is written in them, what its chain does per step, and the number
    by which its networks are told the level (None: the paper fixes none)."""

    cite: str
    readings: tuple[Reading, ...]
    write: Callable[[Levels], dict[str, Tensor]]
    step: Callable[[Levels, Levels], dict[str, Tensor]] | None = None
    label: Callable[[Levels], Tensor] | None = None


UNIT, POSITIVE, REAL = (0.0, 1.0), (0.0, math.inf), (-math.inf, math.inf)

_ALPHA_BAR = Reading({"alpha_bar": UNIT}, lambda alpha_bar: _level(alpha_bar.sqrt(), (1 - alpha_bar).sqrt()))
_BETA_BAR = Reading({"beta_bar": UNIT}, lambda beta_bar: _level((1 - beta_bar).sqrt(), beta_bar.sqrt()))
_BETAS = Reading({"beta": UNIT}, _chain)
_ALPHAS = Reading({"alpha": UNIT}, lambda alpha: _chain(1 - alpha))
_SIGMA = Reading({"sigma": POSITIVE}, lambda sigma: _level(torch.ones_like(sigma), sigma))

PAPERS: Mapping[str, Paper] = {
    "ddpm": Paper(
        "Ho et al. 2020",
        (_ALPHA_BAR, _BETAS, _ALPHAS, Reading({"t": (1, 1000)}, _ddpm_step)),
        write=lambda level: {"alpha_bar": level.alpha**2}, step=_rates, label=chain_label(1000)),
    "ddim": Paper(
        "Song, Meng and Ermon 2021",
        (Reading({"alpha": UNIT}, lambda alpha: _level(alpha.sqrt(), (1 - alpha).sqrt())),),
        write=lambda level: {"alpha": level.alpha**2},
        step=lambda noisy, clean: {"sigma": _rates(noisy, clean)["beta_tilde"].sqrt()}, label=chain_label(1000)),
    "analytic-dpm": Paper(
        "Bao et al. 2022",
        (_BETA_BAR, _ALPHA_BAR, _BETAS, _ALPHAS),
        write=lambda level: {"beta_bar": level.sigma**2},
        step=lambda noisy, clean: _rates(noisy, clean) | {"lam": _rates(noisy, clean)["beta_tilde"].sqrt()},
        label=chain_label(1000)),
    "score-sde-vp": Paper(
        "Song et al. 2021",
        (Reading({"t": UNIT}, lambda t: LinearVP().level(t)),
         Reading({"beta_integral": POSITIVE}, lambda beta_integral: _vp_log_alpha(-0.5 * beta_integral))),
        write=lambda level: {"beta_integral": -2 * level.alpha.log()}, label=lambda level: 999 * level.t),
    "score-sde-subvp": Paper(
        "Song et al. 2021",
        (Reading({"beta_integral": POSITIVE},
                 lambda beta_integral: _level((-0.5 * beta_integral).exp(), -torch.expm1(-beta_integral))),),
        write=lambda level: {"beta_integral": -2 * level.alpha.log()}, label=lambda level: 999 * level.t),
    "score-sde-ve": Paper(
        "Song et al. 2021", (_SIGMA,), write=lambda level: {"sigma": level.sigma}, label=lambda level: level.sigma),
    "edm": Paper(
        "Karras et al. 2022",
        (_SIGMA, Reading({"sigma": POSITIVE, "s": POSITIVE}, lambda sigma, s: _level(s, s * sigma))),
        write=lambda level: {"sigma": level.sigma / level.alpha, "s": level.alpha}, label=lambda level: -level.lam / 4),
    "vdm": Paper(
        "Kingma et al. 2021",
        (Reading({"gamma": REAL}, lambda gamma: _vp_lam(-gamma / 2)),),
        write=lambda level: {"gamma": -2 * level.lam}),
    "vdm++": Paper(
        "Kingma and Gao 2023",
        (Reading({"lam": REAL}, lambda lam: _vp_lam(lam / 2)),),
        write=lambda level: {"lam": 2 * level.lam}),
    "dpm-solver": Paper(
        "Lu et al. 2022",
        (Reading({"alpha": POSITIVE, "sigma": POSITIVE}, _level), Reading({"lam": REAL}, _vp_lam),
         Reading({"alpha": UNIT}, lambda alpha: _vp_log_alpha(alpha.log()))),
        write=lambda level: {"alpha": level.alpha, "sigma": level.sigma}),
    "flow-matching": Paper(
        "Lipman et al. 2023",
        (Reading({"t": UNIT}, lambda t: _level(t, 1 - t, 1 - t)),
         Reading({"t": UNIT, "sigma_min": UNIT}, lambda t, sigma_min: _level(t, 1 - (1 - sigma_min) * t, 1 - t))),
        write=lambda level: {"t": level.alpha}, label=lambda level: level.alpha),
    "stable-diffusion-3": Paper(
        "Esser et al. 2024",
        (Reading({"t": UNIT}, lambda t: _level(1 - t, t, t)),),
        write=lambda level: {"t": level.sigma}, label=lambda level: 1000 * level.sigma),
    "u-vit": Paper(
        "Bao et al. 2023", (_BETAS, _ALPHA_BAR), write=lambda level: {"alpha_bar": level.alpha**2}, step=_rates,
        label=chain_label(1000, first=1)),
}

# What to add to a paper's guidance scale to have ours, ε̂ = s ε̂_c + (1 − s) ε̂_∅: s = 1 is no guidance.
GUIDANCE: Mapping[str, float] = {
    "classifier-free": 1.0,  # Ho and Salimans 2022: (1 + w) ε̂_c − w ε̂_∅
    "classifier": 0.0,       # Dhariwal and Nichol 2021, their s on an unconditional network; 1 on a conditional one
    "imagen": 0.0,           # Saharia et al. 2022: w ε̂_c + (1 − w) ε̂_∅
    "dpm-solver": 0.0,       # Lu et al. 2022
}


def _paper(name: str) -> Paper:
    if name not in PAPERS:
        raise ValueError(f"paper = {name!r}: choose one of {', '.join(map(repr, PAPERS))}")
    return PAPERS[name]


def translate(paper: str, **symbols) -> Levels:
    """The Levels that `symbols`, numbers or tensors of one shape, name in `paper`: float64, the shape of the symbols.

    `t` is on our clock (0 data, 1 noise), NaN where the symbols do not tell it; see `carry`. A chain's rates are given
    whole, steps 1 … N, and name N levels. Raises ValueError for an unknown paper, symbols that do not name a level
    there, values out of range and shapes that do not fit together.
    """
    row = _paper(paper)
    reading = next((r for r in row.readings if set(r.symbols) == set(symbols)), None)
    if reading is None:
        sets = " or ".join("(" + ", ".join(r.symbols) + ")" for r in row.readings)
        raise ValueError(f"symbols ({', '.join(symbols)}) name no level in {paper!r}: give {sets}")
    values = {name: _float64(value) for name, value in symbols.items()}
    for name, (low, high) in reading.symbols.items():
        inside = (values[name] >= low) & (values[name] <= high)
        if not bool(inside.all()):
            wrong = values[name][~inside].flatten()[:3].tolist()
            raise ValueError(f"{name} = {wrong}: in {paper!r} it lies in [{low:g}, {high:g}]")
    try:
        torch.broadcast_shapes(*(value.shape for value in values.values()))
    except RuntimeError:
        shapes = [tuple(value.shape) for value in values.values()]
        raise ValueError(f"symbols of shapes {shapes}: they must fit together") from None
    return reading.level(**values)


def express(paper: str, level: Levels) -> dict[str, Tensor]:
    """`level` in the symbols of `paper`, the inverse of `translate`.

    Raises ValueError for a level that the paper's symbols cannot name, a variance-exploding one in DDPM's, say:
    `carry` it onto a schedule of the paper first.
    """
    row = _paper(paper)
    symbols = row.write(level)
    reading = next(r for r in row.readings if set(r.symbols) == set(symbols))
    back = reading.level(**symbols)
    same = [torch.allclose(a, b, rtol=1e-8, atol=1e-10)
            for a, b in ((back.alpha, level.alpha), (back.sigma, level.sigma))]
    if not all(same):
        alpha, sigma = (v.flatten()[:3].tolist() for v in (level.alpha, level.sigma))
        raise ValueError(f"level with alpha = {alpha}, sigma = {sigma}: {paper!r} has no symbols for it; "
                         "carry it onto one of that paper's schedules first")
    return symbols


def express_step(paper: str, noisy: Levels, clean: Levels) -> dict[str, Tensor]:
    """What the chain of `paper` calls the step from `clean` to `noisy`, two variance-preserving levels: its α, β, β̃ ….

    Raises ValueError where the paper has no chain, or `noisy` is the cleaner of the two.
    """
    row = _paper(paper)
    if row.step is None:
        chains = ", ".join(repr(name) for name, other in PAPERS.items() if other.step)
        raise ValueError(f"paper = {paper!r} has no chain; those with one: {chains}")
    if not bool((noisy.lam < clean.lam).all()):
        raise ValueError(f"noisy, clean have λ = {noisy.lam.tolist()}, {clean.lam.tolist()}: "
                         "the first must be the smaller")
    return row.step(noisy, clean)


def carry(level: Levels, schedule: Schedule) -> tuple[Levels, Tensor]:
    """The level of `schedule` with the λ of `level`, and the factor c by which states follow: x ↦ c x.

    Two levels with one λ are one experiment in two units, so whatever is believed of x_0 there is believed here. Raises
    ValueError where `schedule` does not reach that λ.
    """
    there = schedule.level(schedule.t_of_lam(level.lam))
    return there, torch.hypot(there.alpha, there.sigma) / torch.hypot(level.alpha, level.sigma)


def guidance_scale(paper: str, value: float) -> float:
    """The scale s of ε̂ = s ε̂_c + (1 − s) ε̂_∅ that `paper` writes as `value`. ValueError for an unknown paper."""
    if paper not in GUIDANCE:
        raise ValueError(f"paper = {paper!r}: choose one of {', '.join(map(repr, GUIDANCE))}")
    return value + GUIDANCE[paper]
