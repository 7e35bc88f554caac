"""Exponential integrators for the diffusion ODE and SDE: one formula for every order and every prediction.

With λ as clock, the linear part of the ODE is solved exactly and what remains is an exponentially weighted integral of
the network (Lu et al. 2022a, b). In the three forms treated here one step from λ_s to λ_t, h = λ_t − λ_s, reads

    x_0, ODE  (r =  1)   x_t = (σ_t/σ_s) x_s          + α_t ∫ x̂_0(λ) r e^{−r(λ_t − λ)} dλ
    ε,   ODE  (r = −1)   x_t = (α_t/α_s) x_s          + σ_t ∫ ε̂(λ)   r e^{−r(λ_t − λ)} dλ
    x_0, SDE  (r =  2)   x_t = (σ_t/σ_s) e^{−h} x_s   + α_t ∫ x̂_0(λ) r e^{−r(λ_t − λ)} dλ + σ_t √(1 − e^{−2h}) z

The integrand is replaced by a polynomial through past predictions at λ_s + τ_j, so the integral becomes Σ_j w_j f_j with
Σ_j w_j τ_j^k = m_k, the moments m_k = ∫_0^h τ^k r e^{−r(h − τ)} dτ.
"""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from .denoiser import watched
from .levels import Levels, check_grid
from .noise import normal_like

RULES = ("midpoint", "taylor", "published")


def moments(z: Tensor, count: int) -> Tensor:
    """c_k(z) = z ∫_0^1 u^k e^{−z(1 − u)} du for k < count, (count, *z.shape): m_k = h^k c_k(r h).

    The recursion c_k = 1 − (k/z) c_{k−1}, c_0 = 1 − e^{−z} cancels for small z; there the series Σ_j (−z)^j z k!/(k+j+1)!.
    """
    first = -torch.expm1(-z)
    if count == 1:
        return first.unsqueeze(0)
    small = torch.where(z.abs() < 1, z, 0.5)
    series, terms = [first], torch.arange(1, 22, dtype=z.dtype)
    for k in range(1, count):
        ratios = -small.unsqueeze(-1) / (k + 1 + terms)
        series.append(small / (k + 1) * (1 + ratios.cumprod(-1).sum(-1)))
    large = torch.where(z.abs() < 1, 1.0, z)
    recursion = [first]
    for k in range(1, count):
        recursion.append(1 - k / large * recursion[-1])
    return torch.where(z.abs() < 1, torch.stack(series), torch.stack(recursion))


def weights(lams: Sequence[Tensor], r: float, rule: str) -> Tensor:
    """Weights (p,) on predictions at the p levels before a step; `lams`: λ of the target, then of those, newest first.

    Order 2 has two rules of the same order: "taylor" takes the moment m_1 exactly, "midpoint" puts h m_0/2 in its place
    (DPM-Solver-2M and DPM-Solver++(2M)). "published" is "midpoint" at order 2 and, at order 3, the formula of the papers' code,
    whose second difference lacks a factor 2, so that it is of order 2.
    """
    there, here, *earlier = map(float, lams)
    p, h = len(lams) - 1, there - here
    if not math.isfinite(h):
        return torch.ones(1, dtype=torch.float64)  # only order 1 in x_0 form comes here: m_0 = 1 − e^{−∞}
    if p == 1 or (p == 2 and rule != "taylor"):
        total = -math.expm1(-r * h)  # m_0
        older = [total / 2 * h / (lam - here) for lam in earlier]  # the newest offset is 0: nothing to solve
        return torch.tensor([total - sum(older), *older], dtype=torch.float64)
    c = moments(torch.tensor(r * h, dtype=torch.float64), p)
    if p == 3 and rule == "published":
        c[2] = c[2] / 2
    offsets = torch.tensor([0.0, *((lam - here) / h for lam in earlier)], dtype=torch.float64)
    powers = offsets.unsqueeze(0) ** torch.arange(p, dtype=torch.float64).unsqueeze(1)
    return torch.linalg.solve(powers, c)


def multistep_orders(grid: Levels, order: int) -> list[int]:
    """Orders for each step of `grid`: as high as `order` and the predictions so far allow, 1 where λ is infinite."""
    known, orders = 0, []
    finite = grid.lam.isfinite().tolist()
    for here, there in zip(finite, finite[1:]):
        known = known + 1 if here else 0
        orders.append(max(1, min(order, known)) if there else 1)
    return orders


def singlestep_orders(nfe: int, order: int) -> list[int]:
    """Orders of single steps that use exactly `nfe` evaluations, none above `order` (Lu et al. 2022a, §3.4).

    For order 3: 3…3, 2, 1 if 3 divides nfe; 3…3, 1 or 3…3, 2 with remainder 1 or 2.
    """
    if nfe < 1 or order not in (1, 2, 3):
        raise ValueError(f"nfe, order = {nfe}, {order}: need nfe >= 1 and order 1, 2 or 3")
    if order == 3 and nfe % 3 == 0:
        return [3] * (nfe // 3 - 1) + [2, 1]
    return [order] * (nfe // order) + ([nfe % order] if nfe % order else [])


def _inner_orders(grid, order):
    """`singlestep_orders` for the steps between finite λ; a step from or to infinite λ is one of order 1."""
    ends = [not math.isfinite(lam) for lam in (grid.lam[0], grid.lam[-1])]
    inner = len(grid) - 1 - sum(ends)
    if order not in (1, 2, 3):
        return [order]
    if inner < 1:
        return [1] * (len(grid) - 1)
    return [1] * ends[0] + singlestep_orders(inner, order) + [1] * ends[1]


def _checked_orders(grid, orders, predicts, rule, fits):
    check_grid(grid)
    if predicts not in ("x0", "eps"):
        raise ValueError(f"predicts = {predicts!r}: solvers work on 'x0' or 'eps'")
    if rule not in RULES:
        raise ValueError(f"rule = {rule!r}: choose one of {RULES}")
    orders = list(orders)
    if any(p not in (1, 2, 3) for p in orders):
        raise ValueError(f"orders = {orders}: each must be 1, 2 or 3")
    if not fits(orders):
        raise ValueError(f"orders = {orders} for a grid of {len(grid) - 1} steps: they do not fit")
    return orders


def _multistep_plan(grid, orders, predicts, rule):
    if isinstance(orders, int):
        orders = multistep_orders(grid, orders) if orders in (1, 2, 3) else [orders]
    return _checked_orders(grid, orders, predicts, rule,
                           lambda o: len(o) == len(grid) - 1 and all(p <= i + 1 for i, p in enumerate(o)))


def _form(here: Levels, there: Levels, predicts: str, r: float) -> tuple[Tensor, Tensor]:
    """Coefficient of x_s, and scale of the weighted predictions, in one of the three forms."""
    if predicts == "eps":
        return there.alpha / here.alpha, there.sigma
    shrink = torch.exp(here.lam - there.lam) if r == 2 else 1.0
    return there.sigma / here.sigma * shrink, there.alpha


def _step(here: Levels, there: Levels, known: Sequence[Levels], predicts: str, r: float, rule: str):
    """(a, b): x_t = a x_s + Σ_j b_j f_j with predictions f at the levels `known`, the first of them at `here`. float64."""
    if predicts == "eps" and here.alpha == 0:
        raise ValueError("predicts = 'eps' from α = 0: x_t says nothing of x_0 there, choose 'x0' or a later t_start")
    a, scale = _form(here, there, predicts, r)
    if len(known) > 1 and not all(math.isfinite(v.lam) for v in (there, *known)):
        raise ValueError("a step to or from infinite λ (the data, or α = 0) must be of order 1")
    if predicts == "eps" and there.sigma == 0:
        return a, -(there.alpha * here.sigma / here.alpha).reshape(1)  # the limit of σ_t (1 − e^h)
    return a, scale * weights([there.lam, *(v.lam for v in known)], r, rule)


def _apply(x: Tensor, a: float, b: Sequence[float], predictions: Sequence[Tensor]) -> Tensor:
    dtype, half = x.dtype, x.dtype.itemsize < 4  # summed in float32: from λ = −9.9, a is 2·10⁴, and float16 ends at 65504
    x = a * (x.float() if half else x)
    for weight, f in zip(b, predictions):
        x.add_(f, alpha=weight)  # a * x is ours alone; in place, nothing is allocated
    return x.to(dtype)


def _predict(denoiser, x, level, predicts):
    belief = denoiser(x, level)
    return belief.mean if predicts == "x0" else belief.eps


def _multistep_coefficients(grid, orders, predicts, r, rule) -> list[tuple[float, list[float], float]]:
    """(a, b, std) of each step, once per grid: x_t = a x_s + Σ_j b_j f_j + std z, newest prediction first; std = 0 but for r = 2."""
    steps, plan = list(grid), []
    for i, (p, here, there) in enumerate(zip(orders, steps, steps[1:])):
        a, b = _step(here, there, steps[i + 1 - p : i + 1][::-1], predicts, r, rule)
        std = there.sigma * torch.sqrt(-torch.expm1(2 * (here.lam - there.lam))) if r == 2 else 0.0
        plan.append((float(a), b.tolist(), float(std)))
    return plan


def _multistep(denoiser, x, grid, orders, predicts, r, rule, generator):
    """The common loop: coefficients once per grid, then one prediction a step."""
    plan = _multistep_coefficients(grid, orders, predicts, r, rule)
    past, denoiser = [], watched(denoiser, grid)  # newest first
    for i, (here, (a, b, std)) in enumerate(zip(grid, plan)):
        past = [_predict(denoiser, x, here, predicts), *past][: max(orders[i:])]
        x = _apply(x, a, b, past)
        if std > 0:
            x = torch.add(x, normal_like(x, generator), alpha=std)
        yield x


def ode_multistep(denoiser, x: Tensor, grid: Levels, orders: int | Sequence[int] = 2, predicts: str = "x0",
                  rule: str = "midpoint") -> Iterator[Tensor]:
    """Solve the diffusion ODE from x (B, …) at grid[0], one evaluation a step; yields the state after each step.

    `predicts` "x0" is DPM-Solver++ (1, 2M, 3M), "eps" multistep DPM-Solver; order 1 of either is DDIM. `orders`: one number, or
    one per step, not more than the predictions made so far. `rule`: see `weights`.

    Raises ValueError for a grid out of order, orders that do not fit it or exceed 3, order > 1 into infinite λ.
    """
    orders = _multistep_plan(grid, orders, predicts, rule)
    yield from _multistep(denoiser, x, grid, orders, predicts, 1.0 if predicts == "x0" else -1.0, rule, None)


def sde_multistep(denoiser, x: Tensor, grid: Levels, orders: int | Sequence[int] = 2, rule: str = "midpoint",
                  generator: torch.Generator | Sequence[torch.Generator] | None = None) -> Iterator[Tensor]:
    """Solve the reverse SDE in x_0 form, SDE-DPM-Solver++; arguments as for `ode_multistep`. Order 1 is DDPM with β̃."""
    if generator is None:
        raise ValueError("generator = None: an SDE needs a torch.Generator")
    orders = _multistep_plan(grid, orders, "x0", rule)
    yield from _multistep(denoiser, x, grid, orders, "x0", 2.0, rule, generator)


def ode_singlestep(denoiser, x: Tensor, grid: Levels, orders: int | Sequence[int] = 2, predicts: str = "eps",
                   rule: str = "midpoint") -> Iterator[Tensor]:
    """Solve the diffusion ODE by steps that forget the past; a step of order k crosses k intervals of the grid.

    The levels inside a step are its nodes, so that n intervals cost n evaluations whatever the orders, which sum to n.
    On a grid uniform in λ the nodes stand where the papers put them: the middle for order 2 (DPM-Solver-2,
    DPM-Solver++(2S)), thirds for order 3 (DPM-Solver-3, of order 3 only because its second node is at 2/3). `orders`: one number
    (split by `singlestep_orders`, with a step of order 1 from or to infinite λ) or a list. Yields the state after each step.
    """
    if isinstance(orders, int):
        orders = _inner_orders(grid, orders)
    orders = _checked_orders(grid, orders, predicts, rule, lambda o: sum(o) == len(grid) - 1)
    r, start, plan = 1.0 if predicts == "x0" else -1.0, 0, []
    for p in orders:
        nodes, there = [grid[start + j] for j in range(p)], grid[start + p]
        here = nodes[0]
        stages = [_step(here, nodes[1], [here], predicts, r, rule)] if p > 1 else []
        if p == 3:  # exact moments inside; the last line rests on the first and the last node
            stages.append(_step(here, nodes[2], nodes[:2], predicts, r, "taylor"))
        used = nodes if p < 3 else [nodes[0], nodes[2]]
        last = _step(here, there, used, predicts, r, rule if p < 3 else "taylor")
        plan.append((nodes, [(float(a), b.tolist()) for a, b in (*stages, last)]))
        start += p
    denoiser = watched(denoiser, grid)
    for nodes, (*stages, (a, b)) in plan:
        f = [_predict(denoiser, x, nodes[0], predicts)]
        for node, (stage_a, stage_b) in zip(nodes[1:], stages):
            f.append(_predict(denoiser, _apply(x, stage_a, stage_b, f), node, predicts))
        x = _apply(x, a, b, f if len(f) < 3 else [f[0], f[2]])
        yield x
