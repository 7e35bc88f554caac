"""Assignment 2: wrong and right answers to each question. A wrong one is a right one with one thing changed, where that will do."""

import frame


def but(code, *changes):
    """`frame.but` for changes old, new, old, new, …"""
    return frame.but(code, *zip(changes[::2], changes[1::2]))


MARGINAL = """
def marginal(betas, n):
    kept = torch.cat([torch.ones(1, dtype=betas.dtype), torch.cumprod(1 - betas, 0)])[n]
    return kept.sqrt(), TAU * (1 - kept).sqrt()
"""

POSTERIOR = """
def posterior(betas, n, x_n, x_0):
    beta = betas[n - 1]
    rest, before = 1 - torch.prod(1 - betas[:n]), 1 - torch.prod(1 - betas[:n - 1])
    mean = ((1 - before).sqrt() * beta * x_0 + (1 - beta).sqrt() * before * x_n) / rest
    return mean, TAU**2 * beta * before / rest
"""

BOUND = """
def bound_term(betas, n, var, eps, eps_hat):
    beta = betas[n - 1]
    rest, before = 1 - torch.prod(1 - betas[:n]), 1 - torch.prod(1 - betas[:n - 1])
    weight = TAU**2 * beta**2 / (2 * var * (1 - beta) * rest)
    r = TAU**2 * beta * before / rest / var
    return weight * ((eps - eps_hat)**2).sum(1) + 0.5 * eps.shape[1] * (r - 1 - torch.log(r))
"""

LOSS = """
def simple_loss(model, x_0, betas, generator):
    n = torch.randint(1, len(betas) + 1, (len(x_0),), generator=generator)
    kept = torch.cumprod(1 - betas, 0)[n - 1].to(x_0.dtype)[:, None]
    eps = torch.randn(x_0.shape, generator=generator, dtype=x_0.dtype)
    x_n = kept.sqrt() * x_0 + TAU * (1 - kept).sqrt() * eps
    return ((eps - model(x_n, n))**2).mean()
"""

SAMPLE = """
def sample(model, betas, variances, shape, generator):
    rest = 1 - torch.cumprod(1 - betas, 0)
    x = TAU * torch.randn(shape, generator=generator, dtype=betas.dtype)
    for n in range(len(betas), 0, -1):
        beta = betas[n - 1]
        eps_hat = model(x, torch.full((shape[0],), n))
        x = (x - TAU * beta / rest[n - 1].sqrt() * eps_hat) / (1 - beta).sqrt()
        if n > 1:
            x = x + variances[n - 1].sqrt() * torch.randn(shape, generator=generator, dtype=betas.dtype)
    return x
"""

GAUSSIAN = """
def gaussian_bound(betas, variances, S2):
    total, bound = 0.0, 0.0
    kept = 1.0
    for n, (beta, var) in enumerate(zip(betas.tolist(), variances.tolist()), 1):
        before = 1 - kept
        kept = kept * (1 - beta)
        rest = 1 - kept
        floor = kept * S2 / (kept * S2 + TAU**2 * rest)
        weight = TAU**2 * beta**2 / (2 * var * (1 - beta) * rest)
        bound += weight * floor
        if n == 1:
            bound += 0.5 * math.log(2 * math.pi * var)
        else:
            r = TAU**2 * beta * before / rest / var
            bound += 0.5 * (r - 1 - math.log(r))
    prior = 0.5 * ((kept * S2 + TAU**2 * rest) / TAU**2 - 1 - math.log(rest))
    return bound + prior
"""

RIGHT = {
    "q1_marginal": {
        "cumulative product": MARGINAL,
        "logarithms, for tiny betas": """
def marginal(betas, n):
    logs = torch.zeros(len(betas) + 1, dtype=betas.dtype)
    logs[1:] = torch.log1p(-betas).cumsum(0)
    log = logs[n]
    return torch.exp(log / 2), TAU * torch.sqrt(-torch.expm1(log))
""",
        "the recursion, in Python": """
def marginal(betas, n):
    means, variances = [1.0], [0.0]
    for beta in betas.tolist():
        means.append(math.sqrt(1 - beta) * means[-1])
        variances.append((1 - beta) * variances[-1] + TAU * TAU * beta)
    return torch.tensor(means, dtype=betas.dtype)[n], torch.tensor(variances, dtype=torch.float64).sqrt().to(betas.dtype)[n]
""",
        "numpy inside": """
import numpy as np

def marginal(betas, n):
    kept = np.concatenate([[1.0], np.cumprod(1 - betas.double().numpy())])
    at = np.take(kept, n.numpy())
    return torch.as_tensor(np.sqrt(at), dtype=betas.dtype), torch.as_tensor({{tau}} * np.sqrt(1 - at), dtype=betas.dtype)
""",
    },
    "q2_posterior": {
        "the textbook's form, with tau": POSTERIOR,
        "precisions add": """
def posterior(betas, n, x_n, x_0):
    beta = betas[n - 1].item()
    kept = math.prod(1 - b for b in betas[:n - 1].tolist())
    if n == 1:
        return x_0.clone(), 0.0
    prior, likelihood = 1 / (TAU**2 * (1 - kept)), (1 - beta) / (TAU**2 * beta)
    var = 1 / (prior + likelihood)
    return var * (prior * kept**0.5 * x_0 + (1 - beta) ** 0.5 / (TAU**2 * beta) * x_n), var
""",
        "conditioning, step by step": """
def posterior(betas, n, x_n, x_0):
    factor, var = 1.0, 0.0
    for b in betas[:n - 1]:
        factor, var = factor * (1 - b).sqrt(), var * (1 - b) + TAU**2 * b
    root = (1 - betas[n - 1]).sqrt()
    gain = root * var / (root**2 * var + TAU**2 * betas[n - 1])
    return factor * x_0 + gain * (x_n - root * factor * x_0), torch.as_tensor(var - gain * root * var)
""",
    },
    "q4_bound_term": {
        "weight and constant": BOUND,
        "the two means": """
def bound_term(betas, n, var, eps, eps_hat):
    kept, before = torch.prod(1 - betas[:n]), torch.prod(1 - betas[:n - 1])
    v = TAU**2 * betas[n - 1] * (1 - before) / (1 - kept)
    gap = before.sqrt() * betas[n - 1] / (1 - kept) * TAU * torch.sqrt((1 - kept) / kept) * (eps - eps_hat)
    return (gap**2 / (2 * var) + 0.5 * (v / var - 1 - torch.log(v / var))).sum(dim=-1)
""",
        "torch.distributions": """
from torch.distributions import MultivariateNormal, kl_divergence

def bound_term(betas, n, var, eps, eps_hat):
    d, beta = eps.shape[1], betas[n - 1]
    rest = 1 - torch.cumprod(1 - betas, 0)
    mu = lambda e: -TAU * beta / (rest[n - 1] * (1 - beta)).sqrt() * e
    v = TAU**2 * beta * rest[n - 2] / rest[n - 1]
    eye = torch.eye(d, dtype=eps.dtype)
    return kl_divergence(MultivariateNormal(mu(eps), v * eye), MultivariateNormal(mu(eps_hat), var * eye))
""",
    },
    "q5_loss": {
        "vectorised": LOSS,
        "row by row, noise first": """
def simple_loss(model, x_0, betas, generator):
    eps = torch.empty_like(x_0).normal_(generator=generator)
    n = torch.floor(torch.rand(x_0.shape[0], generator=generator, dtype=torch.float64) * betas.shape[0]).long() + 1
    rows = []
    for row, noise, k in zip(x_0, eps, n.tolist()):
        kept = float(torch.prod(1 - betas[:k]))
        rows.append(kept**0.5 * row + TAU * (1 - kept) ** 0.5 * noise)
    return torch.mean(torch.square(model(torch.stack(rows).to(x_0.dtype), n) - eps))
""",
        "mse_loss and gather": """
def simple_loss(model, x_0, betas, generator):
    probabilities = torch.ones(len(betas))
    n = torch.multinomial(probabilities, len(x_0), replacement=True, generator=generator) + 1
    log = torch.log1p(-betas).cumsum(0).gather(0, n - 1)
    a, s = torch.exp(0.5 * log), TAU * torch.sqrt(-torch.expm1(log))
    eps = torch.randn(*x_0.shape, generator=generator).to(x_0)
    x_n = torch.einsum("b,bd->bd", a.to(x_0), x_0) + torch.einsum("b,bd->bd", s.to(x_0), eps)
    return nn.functional.mse_loss(model(x_n, n), eps)
""",
    },
    "q6_sample": {
        "the paper's box": SAMPLE,
        "by way of a guess of x_0": """
def sample(model, betas, variances, shape, generator):
    kept = [1.0]
    for beta in betas.tolist():
        kept.append(kept[-1] * (1 - beta))
    x = torch.empty(shape, dtype=betas.dtype).normal_(0, TAU, generator=generator)
    for n in reversed(range(1, len(betas) + 1)):
        beta = betas[n - 1].item()
        eps_hat = model(x, n * torch.ones(shape[0], dtype=torch.long))
        guess = (x - TAU * math.sqrt(1 - kept[n]) * eps_hat) / math.sqrt(kept[n])
        x = (math.sqrt(kept[n - 1]) * beta * guess + math.sqrt(1 - beta) * (1 - kept[n - 1]) * x) / (1 - kept[n])
        if n == 1:
            return x
        x += math.sqrt(variances[n - 1]) * torch.randn(shape, dtype=x.dtype, generator=generator)
""",
        "all noise beforehand": """
def sample(model, betas, variances, shape, generator):
    steps = len(betas)
    noise = torch.randn(steps, *shape, generator=generator, dtype=betas.dtype)
    x = TAU * noise[0]
    spread = torch.sqrt(variances)
    spread = torch.cat([torch.zeros(1, dtype=spread.dtype), spread[1:]])
    a, s = torch.cumprod(1 - betas, 0).sqrt(), TAU * (1 - torch.cumprod(1 - betas, 0)).sqrt()
    extra = torch.cat([noise[1:], torch.zeros(1, *shape, dtype=betas.dtype)])
    for z, i in zip(extra, range(steps - 1, -1, -1)):
        score = -model(x, torch.tensor([i + 1] * shape[0])) / s[i]
        x = (x + TAU**2 * betas[i] * score) / torch.sqrt(1 - betas[i]) + spread[i] * z
    return x
""",
    },
    "q7_gaussian_bound": {
        "term by term": GAUSSIAN,
        "the other decomposition: entropy and exact steps": """
def gaussian_bound(betas, variances, S2):
    v, total = S2, 0.5 * math.log(2 * math.pi * math.e * S2)
    for beta, var in zip(betas.tolist(), variances.tolist()):
        after = (1 - beta) * v + TAU**2 * beta
        r = TAU**2 * beta * v / after / var
        total, v = total + 0.5 * (r - 1 - math.log(r)), after
    return total + 0.5 * (v / TAU**2 - 1 - math.log(v / TAU**2))
""",
        "vectorised, the last term by the variance of x_0": """
def gaussian_bound(betas, variances, S2):
    kept = torch.cumprod(1 - betas, 0)
    V = kept * S2 + TAU**2 * (1 - kept)
    left = S2 * TAU**2 * (1 - kept) / V                   # Var[x_0 | x_n]
    before = torch.cat([kept.new_ones(1), kept[:-1]])
    gamma = before.sqrt() * betas / (1 - kept)
    v = TAU**2 * betas * (1 - before) / (1 - kept)
    cost = (v + gamma**2 * left) / variances + variances.log()
    first = 0.5 * (cost[0] + math.log(2 * math.pi))
    steps = 0.5 * (cost[1:] - 1 - v[1:].log()).sum()
    return first + steps + 0.5 * (V[-1] / TAU**2 - 1 - torch.log1p(-kept[-1]))
""",
    },
}

WRONG = {
    "q1_marginal": {
        "a_n squared": but(MARGINAL, "return kept.sqrt()", "return kept"),
        "the variance, not its root": but(MARGINAL, "TAU * (1 - kept).sqrt()", "TAU**2 * (1 - kept)"),
        "tau forgotten": but(MARGINAL, "TAU * ", ""),
        "tau once too often": but(MARGINAL, "TAU * ", "TAU**2 * "),
        "swapped": but(MARGINAL, "return kept.sqrt(), TAU * (1 - kept).sqrt()", "return TAU * (1 - kept).sqrt(), kept.sqrt()"),
        "one step too many": but(MARGINAL, "[n]", "[(n + 1).clamp(max=len(betas))]"),
        "n = 0 is taken for the last": "def marginal(betas, n):\n    kept = torch.cumprod(1 - betas, 0)[n - 1]\n"
                                       "    return kept.sqrt(), TAU * (1 - kept).sqrt()",
        "exp of the sum, an approximation": but(MARGINAL, "torch.cumprod(1 - betas, 0)", "torch.exp(-torch.cumsum(betas, 0))"),
        "the spread of one step": but(MARGINAL, "(1 - kept).sqrt()", "torch.cat([torch.zeros(1, dtype=betas.dtype), betas])[n].sqrt()"),
        "the notebook's chain, whatever is asked": but(MARGINAL, "    kept", "    betas = BETAS\n    kept"),
        "float32 inside": but(MARGINAL, "torch.cumprod(1 - betas, 0)]", "torch.cumprod(1 - betas.float(), 0).to(betas.dtype)]"),
        "writes into betas": but(MARGINAL, "    kept", "    betas.neg_().add_(1)\n    kept", "1 - betas", "betas"),
        "a power of the last beta": but(MARGINAL, "[n]", "[-1] ** (n / len(betas))"),
    },
    "q2_posterior": {
        "beta for the posterior's variance": but(POSTERIOR, "return mean, TAU**2 * beta * before / rest", "return mean, TAU**2 * beta"),
        "tau forgotten": but(POSTERIOR, "TAU**2 * ", ""),
        "the root of the variance": but(POSTERIOR, "return mean, TAU**2 * beta * before / rest",
                                        "return mean, TAU * (beta * before / rest).sqrt()"),
        "coefficients swapped": but(POSTERIOR, "beta * x_0", "beta * X", "before * x_n", "before * x_0", "beta * X", "beta * x_n"),
        "alpha-bar of n for that of n - 1": but(POSTERIOR, "betas[:n - 1])", "betas[:n])"),
        "beta of the next step": but(POSTERIOR, "betas[n - 1]\n", "betas[min(n, len(betas) - 1)]\n"),
        "a root missing": but(POSTERIOR, "(1 - beta).sqrt() * before", "(1 - beta) * before"),
        "the other root missing": but(POSTERIOR, "(1 - before).sqrt()", "(1 - before)"),
        "the ratio upside down": but(POSTERIOR, "beta * before / rest", "beta * rest / before.clamp(min=1e-9)"),
        "the first step gets beta_1": but(POSTERIOR, "return mean, TAU**2 * beta * before / rest",
                                          "return mean, TAU**2 * beta * (before / rest if n > 1 else 1)"),
        "changes x_n": but(POSTERIOR, "    mean =", "    x_n += 1\n    mean =", "* x_n) / rest", "* (x_n - 1)) / rest"),
        "the first row for all": but(POSTERIOR, "beta * x_0", "beta * x_0[:1]", "* x_n)", "* x_n[:1].expand_as(x_n))"),
        "ignores x_0": but(POSTERIOR, "beta * x_0", "beta * x_n / (1 - rest).sqrt()"),
    },
    "q4_bound_term": {
        "one half missing": but(BOUND, "(2 * var * (1 - beta) * rest)", "(var * (1 - beta) * rest)"),
        "the constant without d": but(BOUND, "0.5 * eps.shape[1] *", "0.5 *"),
        "the constant forgotten": but(BOUND, " + 0.5 * eps.shape[1] * (r - 1 - torch.log(r))", ""),
        "the ratio upside down": but(BOUND, "(r - 1 - torch.log(r))", "(1 / r - 1 + torch.log(r))"),
        "1 - beta missing": but(BOUND, "(1 - beta) * rest)", "rest)"),
        "tau missing in the weight": but(BOUND, "weight = TAU**2 *", "weight ="),
        "tau missing in the variance": but(BOUND, "r = TAU**2 *", "r ="),
        "the mean over coordinates": but(BOUND, ".sum(1)", ".mean(1)"),
        "one number for all rows": but(BOUND, ".sum(1)", ".sum(1).mean()"),
        "the simple loss": but(BOUND, "weight * ((", "1.0 * (("),
        "absolute error": but(BOUND, "((eps - eps_hat)**2)", "(eps - eps_hat).abs()"),
        "log of the root": but(BOUND, "torch.log(r)", "0.5 * torch.log(r)"),
        "beta of the next step": but(BOUND, "betas[n - 1]\n", "betas[min(n, len(betas) - 1)]\n"),
        "beta for beta-bar": but(BOUND, "(1 - beta) * rest)", "(1 - beta) * beta)"),
    },
    "q5_loss": {
        "n from 0 to N - 1": but(LOSS, "torch.randint(1, len(betas) + 1,", "torch.randint(0, len(betas),", "[n - 1]", "[n]"),
        "N is never drawn": but(LOSS, "len(betas) + 1,", "len(betas),"),
        "one n for the whole batch": but(LOSS, "(len(x_0),), generator=generator)", "(1,), generator=generator).expand(len(x_0))"),
        "the sum": but(LOSS, ".mean()", ".sum()"),
        "summed over coordinates": but(LOSS, "**2).mean()", "**2).sum(1).mean()"),
        "absolute error": but(LOSS, "((eps - model(x_n, n))**2)", "(eps - model(x_n, n)).abs()"),
        "a root missing": but(LOSS, "kept.sqrt() * x_0", "kept * x_0"),
        "variance for standard deviation": but(LOSS, "TAU * (1 - kept).sqrt()", "TAU**2 * (1 - kept)"),
        "tau forgotten": but(LOSS, "TAU * ", ""),
        "the noise with tau in it is the target": but(LOSS, "((eps - model", "((TAU * eps - model"),
        "the noise of one step": but(LOSS, "torch.cumprod(1 - betas, 0)", "(1 - betas)"),
        "torch's global generator": but(LOSS, "torch.randn(x_0.shape, generator=generator,", "torch.randn(x_0.shape,"),
        "other noise than was added": but(LOSS, "((eps - model(x_n, n))", "((torch.randn(x_0.shape, generator=generator) - model(x_n, n))"),
        "learns x_0": but(LOSS, "((eps - model", "((x_0 - model"),
        "cut off from the parameters": but(LOSS, ".mean()", ".mean().detach()"),
    },
    "q6_sample": {
        "noise at the last step": but(SAMPLE, "if n > 1:", "if True:"),
        "variance for standard deviation": but(SAMPLE, "variances[n - 1].sqrt()", "variances[n - 1]"),
        "beta-bar without its root": but(SAMPLE, "rest[n - 1].sqrt()", "rest[n - 1]"),
        "the factor 1 / sqrt(1 - beta) missing": but(SAMPLE, ") / (1 - beta).sqrt()", ")"),
        "the wrong sign": but(SAMPLE, "(x - TAU", "(x + TAU"),
        "starts from unit noise": but(SAMPLE, "x = TAU * torch", "x = torch"),
        "tau missing in the mean": but(SAMPLE, "TAU * beta", "beta"),
        "tells the network n - 1": but(SAMPLE, "(shape[0],), n)", "(shape[0],), n - 1)"),
        "takes the variance of the step before": but(SAMPLE, "variances[n - 1]", "variances[n - 2]"),
        "its own variance": but(SAMPLE, "variances[n - 1].sqrt()", "TAU * beta.sqrt()"),
        "stops one step early": but(SAMPLE, "range(len(betas), 0, -1)", "range(len(betas), 1, -1)"),
        "runs upwards": but(SAMPLE, "range(len(betas), 0, -1)", "range(1, len(betas) + 1)"),
        "torch's global generator": but(SAMPLE, "* torch.randn(shape, generator=generator, dtype=betas.dtype)\n    return",
                                        "* torch.randn(shape, dtype=betas.dtype)\n    return"),
        "the same noise at every step": but(SAMPLE, "    for n", "    z = x / TAU\n    for n",
                                            ".sqrt() * torch.randn(shape, generator=generator, dtype=betas.dtype)\n    return",
                                            ".sqrt() * z\n    return"),
        "float32": but(SAMPLE, "    return x", "    return x.float()"),
    },
    "q7_gaussian_bound": {
        "without L_N": but(GAUSSIAN, "bound + prior", "bound"),
        "without the logarithm of L_0": but(GAUSSIAN, "bound += 0.5 * math.log(2 * math.pi * var)", "pass"),
        "a perfect network": but(GAUSSIAN, "bound += weight * floor", "pass"),
        "an ignorant network": but(GAUSSIAN, "weight * floor", "weight"),
        "the floor upside down": but(GAUSSIAN, "floor = kept * S2 /", "floor = TAU**2 * rest /"),
        "without C_n": but(GAUSSIAN, "bound += 0.5 * (r - 1 - math.log(r))", "pass"),
        "C_n at n = 1 as well": but(GAUSSIAN, "        if n == 1:",
                                    "        if n == 1:\n            bound += 0.5 * (1e-9 - 1 + 9 * math.log(10))"),
        "in bits": but(GAUSSIAN, "return bound + prior", "return (bound + prior) / math.log(2)"),
        "the sign of the bound": but(GAUSSIAN, "return bound + prior", "return -(bound + prior)"),
        "a half missing in L_N": but(GAUSSIAN, "prior = 0.5 * (", "prior = ("),
        "tau forgotten": but(GAUSSIAN, "    total", "    TAU = 1.0\n    total"),
        "the data's variance for its root": but(GAUSSIAN, "kept * S2 / (kept * S2", "kept * S2**2 / (kept * S2**2"),
        "L_N with the marginal of x_N": but(GAUSSIAN, "- 1 - math.log(rest))", "- 1 - math.log((kept * S2 + TAU**2 * rest) / TAU**2))"),
        "its own variance": but(GAUSSIAN, "        before = 1 - kept", "        var = TAU**2 * beta\n        before = 1 - kept"),
    },
}
