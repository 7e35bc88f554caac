"""Wrong and right answers to the assignment on the optimal variance: every wrong one must lose points, every right one get them all."""

from frame import each_with

MOMENTS = '''
def posterior_moments(score, x, alpha, sigma):
    J = torch.func.vmap(torch.func.jacrev(lambda y: score(y[None])[0]))(x)
    s = score(x)
    eye = torch.eye(x.shape[1], dtype=x.dtype)
    mean = (x + sigma**2 * s) / alpha
    cov = sigma**2 / alpha**2 * (eye + sigma**2 * J)
    return mean, cov
'''
GAMMA = '''
def estimate_gamma(eps_hat, data, alpha, sigma, generator, batch):
    g = []
    for i in range(0, len(data), batch):
        part = data[i:i + batch]
        noise = torch.randn(part.shape, generator=generator, dtype=part.dtype)
        x = alpha * part + sigma * noise
        e = eps_hat(x).flatten(1)
        g.append((e**2).sum(1) / (e.shape[1] * sigma**2))
    g = torch.cat(g)
    return g.mean(), g.std() / len(g) ** 0.5
'''
VARIANCE = '''
def optimal_variance(gamma, abar_t, abar_s, omega2):
    bbar_t, bbar_s = 1 - abar_t, 1 - abar_s
    r = torch.sqrt(bbar_t * abar_s / abar_t) - torch.sqrt(bbar_s - omega2)
    left = 1 - bbar_t * gamma
    left = torch.clamp(left, min=0)
    return omega2 + r**2 * left
'''
BOUNDS = '''
def variance_bounds(abar_t, abar_s, omega2):
    abar_t, abar_s, omega2 = torch.broadcast_tensors(abar_t, abar_s, omega2)
    g = abar_s.sqrt() - ((1 - abar_s - omega2) / (1 - abar_t)).sqrt() * abar_t.sqrt()
    snr = (1 - abar_t) / abar_t
    c = torch.minimum(snr, torch.full_like(snr, ({{high}} - {{low}}) ** 2 / 4))
    lower, upper = omega2 + 0, omega2 + g**2 * c
    return lower, upper
'''
BOUND = '''
def bound(x0, noise, x0_hat, c, abar, path, prior_mean, prior_var):
    d = x0.shape[1]
    last = path[-1]
    a2, s2 = abar[last], 1 - abar[last]
    v = torch.tensor(prior_var, dtype=x0.dtype)
    kl = 0.5 * (((a2**0.5 * x0 - prior_mean)**2).sum(1) / v + d * (s2 / v - 1 + (v / s2).log()))
    total = -kl
    for k in range(len(path)):
        t, s = path[k], ([0] + path)[k]
        x = abar[t]**0.5 * x0 + (1 - abar[t])**0.5 * noise
        beta = 1 - abar[t] / abar[s]
        small = (1 - abar[s]) / (1 - abar[t]) * beta
        gamma = abar[s]**0.5 * beta / (1 - abar[t])
        wide = small + gamma**2 * c[k]
        error = gamma**2 * ((x0 - x0_hat(x, t))**2).sum(1)
        if s == 0:
            total = total - 0.5 * error / wide - 0.5 * d * (2 * math.pi * wide).log()
        else:
            total = total - 0.5 * (error / wide + d * (small / wide - 1 + (wide / small).log()))
    return total
'''
PATH = '''
def jump_costs(gamma, abar):
    N = len(gamma)
    cost = torch.full((N + 1, N + 1), float("inf"), dtype=torch.float64)
    for t in range(1, N + 1):
        for s in range(1, t):
            beta = 1 - abar[t] / abar[s]
            cost[t, s] = torch.log(1 - beta * gamma[t - 1])
    return cost


def best_path(cost, K):
    table = cost.tolist()
    N = len(table) - 1
    D = {1: (0.0, [1])}
    for _ in range(K - 1):
        new = {}
        for t in range(2, N + 1):
            options = [(D[s][0] + table[t][s], D[s][1]) for s in D if s < t]
            if options:
                value, path = min(options)
                new[t] = (value, path + [t])
        D = new
    return D[N][1]
'''

WRONG = {
    "q1_moments": each_with(MOMENTS, {
        "1/alpha forgotten in the mean": ("(x + sigma**2 * s) / alpha", "x + sigma**2 * s"),
        "wrong sign of the score": ("x + sigma**2 * s", "x - sigma**2 * s"),
        "σ for σ² in the mean": ("x + sigma**2 * s)", "x + sigma * s)"),
        "wrong sign of the derivative": ("eye + sigma**2 * J", "eye - sigma**2 * J"),
        "no derivative": ("(eye + sigma**2 * J)", "eye.expand(len(x), -1, -1)"),
        "identity forgotten": ("(eye + sigma**2 * J)", "sigma**2 * J"),
        "covariance of ε, not of x_0": ("sigma**2 / alpha**2 *", ""),
        "covariance of α x_0": ("sigma**2 / alpha**2 *", "sigma**2 *"),
        "1/alpha in place of 1/alpha²": ("sigma**2 / alpha**2 *", "sigma**2 / alpha *"),
        "σ for σ² before the derivative": ("eye + sigma**2 * J", "eye + sigma * J"),
        "σ for σ² before the bracket": ("sigma**2 / alpha**2 * (", "sigma / alpha**2 * ("),
        "diagonal only": ("return mean, cov", "return mean, torch.diag_embed(cov.diagonal(dim1=1, dim2=2))"),
        "the first row's covariance for all": ("return mean, cov", "return mean, cov[:1].expand(len(x), -1, -1)"),
        "averaged over the batch": ("return mean, cov", "return mean, cov.mean(0).expand(len(x), -1, -1)"),
        "a variance, not a matrix": ("return mean, cov", "return mean, cov.diagonal(dim1=1, dim2=2)"),
        "changes x in place": ("mean = (x + sigma**2 * s) / alpha", "mean = x.add_(sigma**2 * s).div_(alpha)"),
        "posterior of the score, not of x_0": ("mean = (x + sigma**2 * s) / alpha", "mean = s"),
    }),
    "q2_gamma": each_with(GAMMA, {
        "Γ without 1/d": ("(e.shape[1] * sigma**2)", "sigma**2"),
        "not divided by σ²": ("(e.shape[1] * sigma**2)", "e.shape[1]"),
        "divided by σ": ("e.shape[1] * sigma**2", "e.shape[1] * sigma"),
        "times σ²": ("/ (e.shape[1] * sigma**2)", "/ e.shape[1] * sigma**2"),
        "length, not its square": ("(e**2).sum(1)", "(e**2).sum(1).sqrt()"),
        "standard deviation for standard error": ("g.std() / len(g) ** 0.5", "g.std()"),
        "divided by M, not by its root": ("g.std() / len(g) ** 0.5", "g.std() / len(g)"),
        "variance over M": ("g.std() / len(g) ** 0.5", "g.var() / len(g)"),
        "divisor M": ("g.std() /", "g.std(correction=0) /"),
        "d of images is their channels": ("e.shape[1] * sigma**2", "part.shape[1] * sigma**2"),
        "no noise": ("alpha * part + sigma * noise", "alpha * part"),
        "σ² on the noise": ("sigma * noise", "sigma**2 * noise"),
        "α and σ swapped": ("alpha * part + sigma * noise", "sigma * part + alpha * noise"),
        "noise of the global generator": ("generator=generator, ", ""),
        "a seed of its own": ("generator=generator", "generator=torch.Generator().manual_seed(0)"),
        "one noise for all data": ("torch.randn(part.shape,", "torch.randn(part[:1].shape,"),
        "all data at once": ("    g = []\n", "    g, batch = [], len(data)\n"),
        "the last batch dropped": ("range(0, len(data), batch)", "range(0, len(data) - batch + 1, batch)"),
        "average of averages": ("g.append((e**2).sum(1) / (e.shape[1] * sigma**2))",
                                "g.append(((e**2).sum(1) / (e.shape[1] * sigma**2)).mean().expand(1))"),
        "every coordinate a sample": ("(e**2).sum(1) / (e.shape[1] * sigma**2)", "(e**2).flatten() / sigma**2"),
        "clipped": ("eps_hat(x)", "eps_hat(x).clamp(-1, 1)"),
        "changes the data in place": ("x = alpha * part + sigma * noise", "x = part.mul_(alpha) + sigma * noise"),
    }),
    "q3_variance": each_with(VARIANCE, {
        "ω² forgotten": ("return omega2 + r**2", "return r**2"),
        "γ for γ²": ("r**2 * left", "r * left"),
        "no root of the noise that is kept": ("torch.sqrt(bbar_s - omega2)", "(bbar_s - omega2)"),
        "no root of the first term": ("torch.sqrt(bbar_t * abar_s / abar_t)", "bbar_t * abar_s / abar_t"),
        "ω in the kept noise forgotten": ("torch.sqrt(bbar_s - omega2)", "torch.sqrt(bbar_s)"),
        "ω for ω² in the kept noise": ("bbar_s - omega2", "bbar_s - omega2.sqrt()"),
        "neighbours only, 1/ᾱ_t": ("bbar_t * abar_s / abar_t", "bbar_t / abar_t"),
        "ratio upside down": ("abar_s / abar_t", "abar_t / abar_s"),
        "wrong sign of Γ": ("1 - bbar_t * gamma", "1 + bbar_t * gamma"),
        "σ for σ² with Γ": ("bbar_t * gamma", "bbar_t.sqrt() * gamma"),
        "Γ of the cleaner level": ("1 - bbar_t * gamma", "1 - bbar_s * gamma"),
        "c without Γ": ("1 - bbar_t * gamma", "torch.ones_like(bbar_t * gamma)"),
        "no floor": ("    left = torch.clamp(left, min=0)\n", ""),
        "absolute value for a floor": ("torch.clamp(left, min=0)", "left.abs()"),
        "floor of the sum at 0": ("    left = torch.clamp(left, min=0)\n    return omega2 + r**2 * left",
                                  "    return torch.clamp(omega2 + r**2 * left, min=0)"),
        "β̃ whatever ω² is": ("    bbar_t, bbar_s",
                              "    omega2 = (1 - abar_s) / (1 - abar_t) * (1 - abar_t / abar_s) + 0 * omega2\n    bbar_t, bbar_s"),
        "DDIM has no noise": ("return omega2 + r**2 * left", "return torch.where(omega2 > 0, omega2 + r**2 * left, 0 * left)"),
        "t and s swapped": ("bbar_t, bbar_s = 1 - abar_t, 1 - abar_s",
                            "abar_t, abar_s = abar_s, abar_t\n    bbar_t, bbar_s = 1 - abar_t, 1 - abar_s"),
        "numbers only": ("left = torch.clamp(left, min=0)", "left = max(float(left), 0.0)"),
        "changes ω² in place": ("return omega2 + r**2 * left", "return omega2.add_(r**2 * left)"),
    }),
    "q4_bounds": each_with(BOUNDS, {
        "lower bound 0": ("omega2 + 0,", "0 * omega2,"),
        "lower bound β̃": ("omega2 + 0,", "(1 - abar_s) / (1 - abar_t) * (1 - abar_t / abar_s),"),
        "range forgotten": ("torch.minimum(snr, torch.full_like(snr, ({{high}} - {{low}}) ** 2 / 4))", "snr"),
        "range only": ("torch.minimum(snr, torch.full_like(snr, ({{high}} - {{low}}) ** 2 / 4))",
                       "torch.full_like(snr, ({{high}} - {{low}}) ** 2 / 4)"),
        "whole range squared": ("** 2 / 4", "** 2"),
        "half range, not squared": ("({{high}} - {{low}}) ** 2 / 4", "({{high}} - {{low}}) / 2"),
        "variance of even data": ("** 2 / 4", "** 2 / 12"),
        "data in [−1, 1]": ("({{high}} - {{low}}) ** 2 / 4", "1.0"),
        "larger of the two": ("torch.minimum", "torch.maximum"),
        "σ/α for its square": ("snr = (1 - abar_t) / abar_t", "snr = ((1 - abar_t) / abar_t).sqrt()"),
        "σ² for σ²/α²": ("snr = (1 - abar_t) / abar_t", "snr = 1 - abar_t"),
        "γ for γ²": ("g**2 * c", "g * c"),
        "γ² forgotten": ("g**2 * c", "c"),
        "ω² forgotten above": ("omega2 + g**2 * c", "g**2 * c"),
        "upper first": ("return lower, upper", "return upper, lower"),
        "γ of DDPM, whatever ω² is": ("g = abar_s.sqrt() - ((1 - abar_s - omega2) / (1 - abar_t)).sqrt() * abar_t.sqrt()",
                                      "g = abar_s.sqrt() * (1 - abar_t / abar_s) / (1 - abar_t)"),
        "no root in κ": ("((1 - abar_s - omega2) / (1 - abar_t)).sqrt()", "((1 - abar_s - omega2) / (1 - abar_t))"),
        "does not broadcast": ("    abar_t, abar_s, omega2 = torch.broadcast_tensors(abar_t, abar_s, omega2)\n", ""),
    }),
    "q5_bound": each_with(BOUND, {
        "c the other way round": ("c[k]", "c[len(path) - 1 - k]"),
        "prior forgotten": ("total = -kl", "total = 0 * kl"),
        "prior N(0, I)": ("    d = x0.shape[1]\n", "    d = x0.shape[1]\n    prior_mean, prior_var = 0.0, 1.0\n"),
        "prior's mean forgotten": ("x0 - prior_mean)", "x0)"),
        "α_N forgotten in the prior term": ("a2**0.5 * x0", "x0"),
        "KL the other way round": ("kl = 0.5 * (((a2**0.5 * x0 - prior_mean)**2).sum(1) / v + d * (s2 / v - 1 + (v / s2).log()))",
                                   "kl = 0.5 * (((a2**0.5 * x0 - prior_mean)**2).sum(1) / s2 + d * (v / s2 - 1 + (s2 / v).log()))"),
        "log of the KL forgotten": ("small / wide - 1 + (wide / small).log()", "small / wide - 1"),
        "sign of the log": ("(wide / small).log()", "(small / wide).log()"),
        "−1 forgotten": ("small / wide - 1 +", "small / wide +"),
        "d forgotten": ("d * (small / wide - 1", "(small / wide - 1"),
        "½ forgotten": ("total - 0.5 * (error / wide +", "total - (error / wide +"),
        "last term forgotten": ("total = total - 0.5 * error / wide - 0.5 * d * (2 * math.pi * wide).log()", "pass"),
        "2π forgotten": ("2 * math.pi * wide", "wide"),
        "last term without d": ("0.5 * d * (2 * math.pi", "0.5 * (2 * math.pi"),
        "β of the chain on a sub-chain": ("1 - abar[t] / abar[s]", "1 - abar[t] / abar[max(t - 1, 0)]"),
        "variance β̃ only": ("small + gamma**2 * c[k]", "small + gamma**2 * c[k] * (s == 0)"),
        "γ for γ²": ("small + gamma**2 * c[k]", "small + gamma * c[k]"),
        "error without γ²": ("error = gamma**2 * ", "error = "),
        "network asked about s": ("x0_hat(x, t)", "x0_hat(x, s)"),
        "noise not scaled": ("(1 - abar[t])**0.5 * noise", "noise"),
        "mean over the batch": ("return total", "return total.mean().expand(len(x0))"),
        "one number": ("return total", "return total.mean()"),
        "per dimension": ("return total", "return total / d"),
        "bits": ("return total", "return total / math.log(2)"),
        "negative": ("return total", "return -total"),
    }),
    "q6_path": each_with(PATH, {
        "transposed costs": ("return cost\n", "return cost.T\n"),
        "Γ one too late": ("gamma[t - 1]", "gamma[min(t, N - 1)]"),
        "Γ of the clean end": ("gamma[t - 1]", "gamma[s - 1]"),
        "ratio upside down": ("1 - abar[t] / abar[s]", "1 - abar[s] / abar[t]"),
        "no logarithm": ("torch.log(1 - beta * gamma[t - 1])", "1 - beta * gamma[t - 1]"),
        "wrong sign": ("torch.log(1 - beta * gamma[t - 1])", "-torch.log(1 - beta * gamma[t - 1])"),
        "jumps to the data allowed": ("for s in range(1, t)", "for s in range(t)"),
        "0 for infinity": ('torch.full((N + 1, N + 1), float("inf"), dtype=torch.float64)',
                           "torch.zeros(N + 1, N + 1, dtype=torch.float64)"),
        "β of the chain, not of the jump": ("1 - abar[t] / abar[s]", "1 - abar[t] / abar[t - 1]"),
        "K jumps": ("range(K - 1)", "range(K)"),
        "one step too few": ("range(K - 1)", "range(K - 2)"),
        "the dearest path": ("min(options)", "max(options)"),
        "noisy to clean": ("return D[N][1]", "return D[N][1][::-1]"),
        "the first step forgotten": ("{1: (0.0, [1])}", "{1: (0.0, [])}"),
        "starts from the data": ("{1: (0.0, [1])}", "{0: (0.0, [0])}"),
        "cost read transposed": ("table[t][s]", "table[s][t]"),
        "returns the cost": ("return D[N][1]", "return D[N][0]"),
        "even steps": ("return D[N][1]", "return [round(1 + (N - 1) * k / (K - 1)) for k in range(K)]"),
        "greedy": ("    D = {1: (0.0, [1])}\n", """    path = [1]
    while len(path) < K - 1:
        path.append(min(range(path[-1] + 1, N - (K - 2 - len(path))), key=lambda t: table[t][path[-1]]))
    return path + [N]
    D = {1: (0.0, [1])}
"""),
        "any number of steps": ("return D[N][1]", """best = {1: (0.0, [1])}
    for t in range(2, N + 1):
        value, path = min((best[s][0] + table[t][s], best[s][1]) for s in best)
        best[t] = (value, path + [t])
    return best[N][1]"""),
    }),
}

RIGHT = {
    "q1_moments": {
        "jacrev and vmap": MOMENTS,
        "differences": '''
def posterior_moments(score, x, alpha, sigma):
    def mean_of(y):
        return (y + sigma**2 * score(y)) / alpha
    B, d = x.shape
    cov = torch.empty(B, d, d, dtype=x.dtype)
    for j in range(d):
        e = torch.zeros(d, dtype=x.dtype)
        e[j] = 1e-5
        cov[:, :, j] = sigma**2 / alpha * (mean_of(x + e) - mean_of(x - e)) / 2e-5
    return mean_of(x), cov
''',
        "row by row, the derivative of the mean": '''
def posterior_moments(score, x, alpha, sigma):
    means, covs = [], []
    for row in x:
        f = lambda y: ((y + sigma**2 * score(y[None])[0]) / alpha)
        means.append(f(row).detach())
        covs.append(torch.autograd.functional.jacobian(f, row) * sigma**2 / alpha)
    return torch.stack(means), torch.stack(covs)
''',
    },
    "q2_gamma": {
        "collected": GAMMA,
        "sums": '''
def estimate_gamma(eps_hat, data, alpha, sigma, generator, batch):
    M, first, second = 0, 0.0, 0.0
    for x0 in torch.split(data, batch):
        z = torch.empty_like(x0).normal_(generator=generator)
        score = -eps_hat(alpha * x0 + sigma * z) / sigma
        g = score.reshape(len(x0), -1).pow(2).mean(1)
        M, first, second = M + len(g), first + g.sum().item(), second + (g**2).sum().item()
    mean = first / M
    return mean, math.sqrt((second / M - mean**2) / (M - 1))
''',
        "numpy, all noise first": '''
def estimate_gamma(eps_hat, data, alpha, sigma, generator, batch):
    import numpy as np
    z = torch.randn(*data.shape, generator=generator, dtype=data.dtype)
    x = alpha * data + sigma * z
    eps = np.concatenate([eps_hat(x[i:i + batch]).numpy().reshape(len(x[i:i + batch]), -1) for i in range(0, len(x), batch)])
    g = np.linalg.norm(eps, axis=1) ** 2 / eps.shape[1] / sigma**2
    return float(np.mean(g)), float(np.std(g, ddof=1) / np.sqrt(len(g)))
''',
    },
    "q3_variance": {
        "the paper's algebra": VARIANCE,
        "covariance of jointly distributed variables": '''
def optimal_variance(gamma, abar_t, abar_s, omega2):
    c = torch.relu((1 - abar_t) / abar_t - (1 - abar_t) ** 2 / abar_t * gamma)
    keep = ((1 - abar_s - omega2) / (1 - abar_t)) ** 0.5
    return c * (abar_s**0.5 - keep * abar_t**0.5) ** 2 + omega2
''',
        "numpy": '''
def optimal_variance(gamma, abar_t, abar_s, omega2):
    import numpy as np
    g, at, as_, w = (np.asarray(v, dtype=np.float64) for v in (gamma, abar_t, abar_s, omega2))
    alpha_t, sigma_t, alpha_s = np.sqrt(at), np.sqrt(1 - at), np.sqrt(as_)
    c = np.maximum(sigma_t**2 / alpha_t**2 * (1 - sigma_t**2 * g), 0)
    weight = alpha_s - np.sqrt(np.maximum(1 - as_ - w, 0)) / sigma_t * alpha_t
    return torch.as_tensor(w + weight**2 * c)
''',
    },
    "q4_bounds": {
        "minimum": BOUNDS,
        "where": '''
def variance_bounds(abar_t, abar_s, omega2):
    ratio = (1 - abar_t) / abar_t
    half = 0.5 * ({{high}} - ({{low}}))
    c = torch.where(ratio < half**2, ratio, torch.tensor(half**2, dtype=ratio.dtype))
    root = (abar_s.sqrt() / abar_t.sqrt() * (1 - abar_t).sqrt() - (1 - abar_s - omega2).sqrt()) / ratio.sqrt()
    upper = omega2 + root**2 * c
    return omega2.expand_as(upper), upper
''',
        "the best linear estimate": '''
def variance_bounds(abar_t, abar_s, omega2):
    widest = (({{high}} - ({{low}})) / 2) ** 2
    c = 1 / (1 / widest + abar_t / (1 - abar_t))
    g = abar_s.sqrt() - ((1 - abar_s - omega2) / (1 - abar_t)).sqrt() * abar_t.sqrt()
    upper = omega2 + g**2 * c
    return omega2.expand_as(upper), upper
''',
        "two bounds, the smaller": '''
def variance_bounds(abar_t, abar_s, omega2):
    def with_c(c):
        k = torch.sqrt((1 - abar_s - omega2) / (1 - abar_t))
        return omega2 + (torch.sqrt(abar_s) - k * torch.sqrt(abar_t)) ** 2 * c
    a, b = {{low}}, {{high}}
    middle = (a + b) / 2
    return with_c(0.0), torch.min(with_c((1 - abar_t) / abar_t), with_c((b - middle) ** 2))
''',
    },
    "q5_bound": {
        "loop": BOUND,
        "torch.distributions": '''
def bound(x0, noise, x0_hat, c, abar, path, prior_mean, prior_var):
    from torch.distributions import Normal, kl_divergence
    def normal(m, v):
        return Normal(m, torch.as_tensor(v, dtype=x0.dtype).sqrt())
    N = path[-1]
    L = -kl_divergence(normal(abar[N].sqrt() * x0, 1 - abar[N]), normal(torch.zeros_like(x0) + prior_mean, prior_var)).sum(1)
    for s, t, ck in zip([0, *path], path, c):
        x = abar[t].sqrt() * x0 + (1 - abar[t]).sqrt() * noise
        beta = 1 - abar[t] / abar[s]
        tilde = beta * (1 - abar[s]) / (1 - abar[t])
        gamma, kappa = abar[s].sqrt() * beta / (1 - abar[t]), (abar[t] / abar[s]).sqrt() * (1 - abar[s]) / (1 - abar[t])
        p = normal(gamma * x0_hat(x, t) + kappa * x, tilde + gamma**2 * ck)
        L = L + (p.log_prob(x0).sum(1) if s == 0 else -kl_divergence(normal(gamma * x0 + kappa * x, tilde), p).sum(1))
    return L
''',
        "all steps at once": '''
def bound(x0, noise, x0_hat, c, abar, path, prior_mean, prior_var):
    d = x0.shape[1]
    t, s = torch.tensor(path), torch.tensor([0] + list(path[:-1]))
    at, as_ = abar[t], abar[s]
    beta = 1 - at / as_
    tilde, gamma2 = (1 - as_) / (1 - at) * beta, as_ * beta**2 / (1 - at) ** 2
    v = tilde + gamma2 * c
    x = at.sqrt()[:, None, None] * x0 + (1 - at).sqrt()[:, None, None] * noise
    e = torch.stack([(x0 - x0_hat(x[k], n)).square().sum(1) for k, n in enumerate(path)]) * gamma2[:, None]
    kl = 0.5 * (e / v[:, None] + d * (tilde / v - 1 - torch.log(tilde / v))[:, None])
    log_last = -0.5 * (e[0] / v[0] + d * math.log(2 * math.pi * v[0].item()))
    a, b = 1 - abar[path[-1]].item(), float(prior_var)
    first = 0.5 * ((abar[path[-1]].sqrt() * x0 - prior_mean).square().sum(1) / b + d * (a / b - 1 - math.log(a / b)))
    return log_last - kl[1:].sum(0) - first
''',
    },
    "q6_path": {
        "dictionary of paths": PATH,
        "vectorised": '''
def jump_costs(gamma, abar):
    N = len(gamma)
    with_zero = torch.cat([torch.zeros(1, dtype=abar.dtype), gamma])
    inside = 1 - (1 - abar[:, None] / abar[None, :]) * with_zero[:, None]
    s, t = torch.arange(N + 1)[None, :], torch.arange(N + 1)[:, None]
    allowed = (s >= 1) & (s < t)
    return torch.where(allowed, torch.log(torch.where(allowed, inside, torch.ones_like(inside))), torch.inf)


def best_path(cost, K):
    N = cost.shape[0] - 1
    s, t = torch.arange(N + 1)[None, :], torch.arange(N + 1)[:, None]
    cost = torch.where((s >= 1) & (s < t), cost, torch.inf)
    D = torch.full((N + 1,), torch.inf, dtype=cost.dtype)
    D[1] = 0
    back = []
    for _ in range(1, K):
        D, origin = (D[None, :] + cost).min(1)
        back.append(origin)
    path = [N]
    for origin in back[::-1]:
        path.insert(0, int(origin[path[0]]))
    return path
''',
        "recursion with memory, numpy": '''
def jump_costs(gamma, abar):
    import numpy as np
    g, a = np.asarray(gamma), np.asarray(abar)
    cost = np.full((len(a), len(a)), np.inf)
    for t in range(2, len(a)):
        cost[t, 1:t] = np.log1p(-(1 - a[t] / a[1:t]) * g[t - 1])
    return torch.tensor(cost)


def best_path(cost, K):
    from functools import cache
    c = cost.numpy()
    @cache
    def best(k, t):
        if k == 1:
            return (0.0, (1,)) if t == 1 else (float("inf"), ())
        options = []
        for s in range(1, t):
            value, path = best(k - 1, s)
            options.append((value + c[t, s], path + (t,)))
        return min(options) if options else (float("inf"), ())
    return list(best(K, len(c) - 1)[1])
''',
    },
}
