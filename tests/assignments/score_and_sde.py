"""Answers to the assignment on scores and SDEs that must lose points, and answers in other styles that must get them all."""
# ruff: noqa: E501  the strings are code, which is easier to compare on one line

from frame import but

Q1 = '''
def mixture_score(x, alpha, sigma, w, m, s):
    v = {{var}}
    V = alpha[:, None] ** 2 * v + sigma[:, None] ** 2
    away = alpha[:, None, None] * m - x[:, None]
    log_joint = w.log() - 0.5 * away.square().sum(-1) / V - 0.5 * x.shape[1] * V.log()
    share = torch.softmax(log_joint, 1)
    return ((share / V)[..., None] * away).sum(1)
'''

Q2 = '''
def posterior_moments(x, F, J, alpha, sigma):
    a, c = alpha[:, None], sigma[:, None]
    score, hessian = {{score_of_F}}, {{hessian_of_J}}
    mean = (x + c ** 2 * score) / a
    eye = torch.eye(x.shape[1], dtype=x.dtype)
    cov = (c / a)[..., None] ** 2 * (eye + c[..., None] ** 2 * hessian)
    return mean, cov
'''

Q3 = '''
def dsm_loss(score, x0, eps, alpha, sigma):
    shape = (-1,) + (1,) * (x0.ndim - 1)
    a, c = alpha.view(shape), sigma.view(shape)
    apart = score(a * x0 + c * eps, alpha, sigma) + eps / c
    return 0.5 * {{weight}} * apart.flatten(1).square().sum(1)


def dsm_floor(C, alpha, sigma):
    c = torch.linalg.eigvalsh(C)
    floor = (1 / sigma ** 2 - 1 / (alpha ** 2 * c + sigma ** 2)).sum()
    return 0.5 * {{weight}} * floor
'''

Q4 = '''
def transition(f, {{gname}}, s, t):
    r = torch.linspace(s, t, 4001, dtype=torch.float64)
    F, G = f(r) * torch.ones_like(r), {{g2_of}}(r) * torch.ones_like(r)
    log_a = torch.cat([r.new_zeros(1), torch.cumulative_trapezoid(F, r)])
    weight = torch.exp(2 * (log_a[-1] - log_a))
    return log_a[-1].exp().item(), torch.trapezoid(weight * G, r).sqrt().item()
'''

Q5 = '''
def reverse_em(score, x, ts, f, {{gname}}, {{zeta}}, generator):
    for t, end in zip(ts[:-1], ts[1:]):
        step, g_sq = t - end, {{g2_of}}(t)
        drift = f(t) * x - 0.5 * (1 + {{zeta2}}) * g_sq * score(x, t)
        z = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        x = x - step * drift + ({{zeta2}} * g_sq * step) ** 0.5 * z
    return x


def em_variance(V, v, ts, f, {{gname}}, {{zeta}}):
    for t, end in zip(ts[:-1], ts[1:]):
        step, g_sq = t - end, {{g2_of}}(t)
        factor = 1 - step * (f(t) + 0.5 * (1 + {{zeta2}}) * g_sq / v(t))
        V = factor ** 2 * V + {{zeta2}} * g_sq * step
    return V
'''

Q6 = '''
def flow(score, x, ts, f, {{gname}}):
    def field(x, t):
        return f(t) * x - 0.5 * {{g2_of}}(t) * score(x, t)

    for t, end in zip(ts[:-1], ts[1:]):
        h = end - t
        k1 = field(x, t)
        k2 = field(x + h / 2 * k1, t + h / 2)
        k3 = field(x + h / 2 * k2, t + h / 2)
        k4 = field(x + h * k3, end)
        x = x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return x
'''
STAGES = Q6[Q6.index("        k1 ="):Q6.index("    return x\n")]

Q7 = '''
def divergence(u, x, t):
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        out = u(x, t)
        columns = [torch.autograd.grad(out[:, i].sum(), x, retain_graph=True)[0][:, i]
                   for i in range(x.shape[1])]
    return torch.stack(columns).sum(0)


def hutchinson(u, x, t, k, generator):
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        out, total = u(x, t), 0
        for _ in range(k):
            z = torch.randint(2, x.shape, generator=generator).to(x.dtype) * 2 - 1
            zJ, = torch.autograd.grad(out, x, z, retain_graph=True)
            total = total + (zJ * z).sum(1)
    return total / k


def log_likelihood(u, x, ts, log_p_end):
    start, total = x, torch.zeros(len(x), dtype=x.dtype)
    for t, end in zip(ts[:-1], ts[1:]):
        h = end - t
        middle = x + h / 2 * u(x, t)
        total = total + h * divergence(u, middle, t + h / 2)
        x = x + h * u(middle, t + h / 2)
    log_p = log_p_end(x) + total
    return {{unit}}
'''
LIKELIHOOD = Q7[Q7.index("def log_likelihood"):]
FIRST_TWO = Q7[:Q7.index("def log_likelihood")]

WRONG = {
    "q1_score": {
        "the noise's variance is missing": but(Q1, (" + sigma[:, None] ** 2", "")),
        "the data's variance is missing": but(Q1, ("alpha[:, None] ** 2 * v", "0 * v")),
        "alpha is not squared": but(Q1, ("alpha[:, None] ** 2", "alpha[:, None]")),
        "sigma is not squared": but(Q1, ("sigma[:, None] ** 2", "sigma[:, None]")),
        "the means are not scaled": but(Q1, ("alpha[:, None, None] * m", "m")),
        "the sign": but(Q1, ("return (", "return -(")),
        "alpha and sigma swapped": but(Q1, ("    v = ", "    alpha, sigma = sigma, alpha\n    v = ")),
        "another meaning of s": but(Q1, ("v = {{var}}", "v = ({{var}}) ** 2")),
        "normal densities without their constants": but(Q1, (" - 0.5 * x.shape[1] * V.log()", "")),
        "the constant of one dimension": but(Q1, ("0.5 * x.shape[1] * V.log()", "0.5 * V.log()")),
        "the weights are missing": but(Q1, ("w.log() - 0.5", "-0.5")),
        "densities that underflow": but(Q1, ("share = torch.softmax(log_joint, 1)",
                                             "share = log_joint.exp() / log_joint.exp().sum(1, keepdim=True)")),
        "the mean of all scores": but(Q1, ("torch.softmax(log_joint, 1)", "torch.ones_like(log_joint) / len(w)")),
        "the nearest component only": but(Q1, ("torch.softmax(log_joint, 1)",
                                               "torch.nn.functional.one_hot(log_joint.argmax(1), len(w)).to(x.dtype)")),
        "the first row's level for all": but(Q1, ("    v = ", "    alpha, sigma = alpha[:1].expand(len(x)), sigma[:1].expand(len(x))\n    v = ")),
        "not divided by the variance": but(Q1, ("(share / V)", "share")),
    },
    "q2_tweedie": {
        "sigma is not squared in the mean": but(Q2, ("x + c ** 2 * score", "x + c * score")),
        "not divided by alpha": but(Q2, ("* score) / a", "* score)")),
        "divided by the square of alpha": but(Q2, ("* score) / a", "* score) / a ** 2")),
        "the sign of the score": but(Q2, ("x + c ** 2", "x - c ** 2")),
        "the sign of the Hessian": but(Q2, ("eye + c[", "eye - c[")),
        "alpha is not squared in the covariance": but(Q2, ("(c / a)[..., None] ** 2 *", "c[..., None] ** 2 / a[..., None] *")),
        "sigma is not squared in the covariance": but(Q2, ("(c / a)[..., None] ** 2 *", "c[..., None] / a[..., None] ** 2 *")),
        "the identity is missing": but(Q2, ("(eye + c[..., None] ** 2 * hessian)", "(c[..., None] ** 2 * hessian)")),
        "the Hessian is not scaled": but(Q2, ("c[..., None] ** 2 * hessian)", "hessian)")),
        "ones instead of the identity": but(Q2, ("torch.eye(x.shape[1], dtype=x.dtype)", "torch.ones(x.shape[1], x.shape[1], dtype=x.dtype)")),
        "the covariance of alpha x_0": but(Q2, ("(c / a)[..., None] ** 2", "c[..., None] ** 2")),
        "the covariance of x_t": but(Q2, ("return mean, cov", "return mean, a[..., None] ** 2 * cov + c[..., None] ** 2 * eye")),
        "levels along the wrong axis": but(Q2, ("a, c = alpha[:, None], sigma[:, None]",
                                                "a, c = (alpha, sigma) if len(x) == x.shape[1] else (alpha[:, None], sigma[:, None])")),
        "variances only": but(Q2, ("return mean, cov", "return mean, cov.diagonal(dim1=1, dim2=2)")),
        "only the diagonal": but(Q2, ("return mean, cov", "return mean, torch.diag_embed(cov.diagonal(dim1=1, dim2=2))")),
        "F taken for another field": but(Q2, ("score, hessian = {{score_of_F}}, {{hessian_of_J}}",
                                              "score, hessian = c * ({{score_of_F}}), c[..., None] * ({{hessian_of_J}})")),
    },
    "q3_denoising": {
        "the sign of the noise": but(Q3, ("+ eps / c", "- eps / c")),
        "the noise is not divided by sigma": but(Q3, ("+ eps / c", "+ eps")),
        "divided by the square of sigma": but(Q3, ("+ eps / c", "+ eps / c ** 2")),
        "the half is missing": but(Q3, ("return 0.5 *", "return")),
        "the weight is missing": but(Q3, ("return 0.5 * {{weight}} * apart", "return 0.5 * apart"), ("return 0.5 * {{weight}} * floor", "return 0.5 * floor")),
        "another weight": but(Q3, ("0.5 * {{weight}}", "0.5 * sigma * {{weight}}")),
        "the mean over entries": but(Q3, ("square().sum(1)", "square().mean(1)")),
        "the sum over the last axis only": but(Q3, ("apart.flatten(1).square().sum(1)", "apart.square().sum(-1)")),
        "the mean over the batch": but(Q3, ("square().sum(1)\n", "square().sum(1).mean()\n")),
        "the score at the clean point": but(Q3, ("score(a * x0 + c * eps,", "score(x0,")),
        "alpha and sigma swapped": but(Q3, ("a * x0 + c * eps", "c * x0 + a * eps")),
        "noise with the variance for its deviation": but(Q3, ("c * eps,", "c ** 2 * eps,")),
        "levels are reshaped for the score": but(Q3, ("* eps, alpha, sigma)", "* eps, a, c)")),
        "for vectors only": but(Q3, ("(-1,) + (1,) * (x0.ndim - 1)", "(-1, 1)")),
        "the floor without the dimension": but(Q3, ("(1 / sigma ** 2 - 1 / (alpha ** 2 * c + sigma ** 2)).sum()",
                                                    "1 / sigma ** 2 - (1 / (alpha ** 2 * c + sigma ** 2)).sum()")),
        "the floor of clean data": but(Q3, ("(alpha ** 2 * c + sigma ** 2)", "(c + sigma ** 2)")),
        "the variance of the score only": but(Q3, ("(1 / sigma ** 2 - 1 / (alpha ** 2 * c + sigma ** 2))", "(1 / (alpha ** 2 * c + sigma ** 2))")),
        "the floor is zero": but(Q3, ("{{weight}} * floor", "0 * floor")),
        "the diagonal of the covariance for its eigenvalues": but(Q3, ("torch.linalg.eigvalsh(C)", "C.diagonal()")),
        "covariances that must be invertible": but(Q3, ("torch.linalg.eigvalsh(C)", "torch.linalg.cholesky(C).diagonal() ** 2")),
    },
    "q4_transition": {
        "noise that is not damped": but(Q4, ("weight * G", "G")),
        "damped once, not squared": but(Q4, ("exp(2 * (log_a[-1] - log_a))", "exp(log_a[-1] - log_a)")),
        "damped by what happened before": but(Q4, ("exp(2 * (log_a[-1] - log_a))", "exp(2 * log_a)")),
        "damped with the wrong sign": but(Q4, ("exp(2 * (log_a[-1] - log_a))", "exp(-2 * (log_a[-1] - log_a))")),
        "g for its square, or its square for g": but(Q4, ("{{g2_of}}(r)", "{{g2_of}}(r) ** 2")),
        "the root of the square": but(Q4, ("{{g2_of}}(r)", "{{g2_of}}(r) ** 0.5")),
        "the variance, not the deviation": but(Q4, (".sqrt().item()", ".item()")),
        "the sign of f": but(Q4, ("F, G = f(r)", "F, G = -f(r)")),
        "f for half of f": but(Q4, ("F, G = f(r)", "F, G = 0.5 * f(r)")),
        "always from time 0": but(Q4, ("torch.linspace(s, t,", "torch.linspace(0, t,")),
        "coefficients frozen at the start": but(Q4, ("F, G = f(r)", "r0 = r[:1].expand(len(r))\n    F, G = f(r0)"), ("{{g2_of}}(r)", "{{g2_of}}(r0)")),
        "too few nodes": but(Q4, ("4001", "9")),
        "Euler's method with 100 steps": '''
def transition(f, {{gname}}, s, t):
    a, b2, h = 1.0, 0.0, (t - s) / 100
    for i in range(100):
        r = torch.tensor(s + i * h, dtype=torch.float64)
        F, G = float(f(r)), float({{g2_of}}(r))
        a, b2 = a + h * F * a, b2 + h * (2 * F * b2 + G)
    return a, b2 ** 0.5
''',
        "variance preserving, always": but(Q4, ("torch.trapezoid(weight * G, r).sqrt().item()", "abs(1 - log_a[-1].exp().item() ** 2) ** 0.5")),
        "the logarithm of a": but(Q4, ("log_a[-1].exp().item()", "log_a[-1].item()")),
    },
    "q5_reverse": {
        "the direction of time": but(Q5, ("x - step * drift", "x + step * drift")),
        "noise times the step, not its root": but(Q5, ("({{zeta2}} * g_sq * step) ** 0.5", "({{zeta2}} * g_sq) ** 0.5 * step")),
        "noise with the variance for its deviation": but(Q5, ("({{zeta2}} * g_sq * step) ** 0.5", "({{zeta2}} * g_sq * step)")),
        "the whole score without noise": but(Q5, ("0.5 * (1 + {{zeta2}}) * g_sq * score", "g_sq * score")),
        "half the score with noise": but(Q5, ("0.5 * (1 + {{zeta2}}) * g_sq * score", "0.5 * g_sq * score")),
        "the parameter enters with another power": but(Q5, ("(1 + {{zeta2}})", "(1 + ({{zeta2}}) ** 2)")),
        "noise whatever the parameter is": but(Q5, ("({{zeta2}} * g_sq * step)", "(g_sq * step)")),
        "coefficients from the end of the step": but(Q5, ("        drift = f(t)", "        g_sq = {{g2_of}}(end)\n        drift = f(end)")),
        "the score at the end of the step": but(Q5, ("score(x, t)", "score(x, end)")),
        "no noise in the last step": but(Q5, ("generator=generator, dtype=x.dtype)\n", "generator=generator, dtype=x.dtype) * (end != ts[-1])\n")),
        "one step is missing": but(Q5, ("    for t, end in zip(ts[:-1], ts[1:]):\n        step, g_sq = t - end, {{g2_of}}(t)\n        drift",
                                        "    for t, end in zip(ts[:-2], ts[1:-1]):\n        step, g_sq = t - end, {{g2_of}}(t)\n        drift")),
        "the same noise in every step": but(Q5, ("    for t, end in zip(ts[:-1], ts[1:]):\n        step, g_sq = t - end, {{g2_of}}(t)\n        drift",
                                                 "    z = torch.randn(x.shape, generator=generator, dtype=x.dtype)\n"
                                                 "    for t, end in zip(ts[:-1], ts[1:]):\n        step, g_sq = t - end, {{g2_of}}(t)\n        drift"),
                                            ("        z = torch.randn(x.shape, generator=generator, dtype=x.dtype)\n        x =", "        x =")),
        "the same noise for all entries of a row": but(Q5, ("torch.randn(x.shape,", "torch.randn(len(x), 1,")),
        "the global random numbers": but(Q5, ("generator=generator, ", "")),
        "g for its square, or its square for g": but(Q5, ("{{g2_of}}(t)", "{{g2_of}}(t) ** 2")),
        "the factor is not squared": but(Q5, ("factor ** 2 * V", "factor * V")),
        "the variance without its noise": but(Q5, ("factor ** 2 * V + {{zeta2}} * g_sq * step", "factor ** 2 * V")),
        "the variance of noise with the root": but(Q5, ("V + {{zeta2}} * g_sq * step", "V + {{zeta2}} * g_sq * step ** 0.5")),
        "the right variance, not that of the samples": but(Q5, ("    return V", "    return v(ts[-1])")),
        "the sign of f in the factor": but(Q5, ("(f(t) + 0.5", "(-f(t) + 0.5")),
    },
    "q6_flow": {
        "Euler's method": but(Q6, (STAGES, "        x = x + h * field(x, t)\n")),
        "Heun's method, order 2": but(Q6, (STAGES, "        k1 = field(x, t)\n        x = x + h / 2 * (k1 + field(x + h * k1, end))\n")),
        "the midpoint method, order 2": but(Q6, (STAGES, "        x = x + h * field(x + h / 2 * field(x, t), t + h / 2)\n")),
        "the whole score": but(Q6, ("0.5 * {{g2_of}}", "{{g2_of}}")),
        "the sign of the score": but(Q6, ("x - 0.5", "x + 0.5")),
        "f is missing": but(Q6, ("f(t) * x - ", "-")),
        "only towards data": but(Q6, ("h = end - t", "h = -abs(end - t)")),
        "the direction of time": but(Q6, ("h = end - t", "h = t - end")),
        "stages at the wrong time": but(Q6, ("t + h / 2)", "t)")),
        "wrong weights": but(Q6, ("(k1 + 2 * k2 + 2 * k3 + k4)", "(2 * k1 + k2 + k3 + 2 * k4)")),
        "the first step's length for all": but(Q6, ("h = end - t", "h = ts[1] - ts[0]")),
        "one big step": but(Q6, ("zip(ts[:-1], ts[1:])", "[(ts[0], ts[-1])]")),
        "the last step is missing": but(Q6, ("zip(ts[:-1], ts[1:])", "zip(ts[:-2], ts[1:-1])")),
        "the second stage from the end of the first": but(Q6, ("k2 = field(x + h / 2 * k1,", "k2 = field(x + h * k1,")),
        "noise": but(Q6, ("(k1 + 2 * k2 + 2 * k3 + k4)", "(k1 + 2 * k2 + 2 * k3 + k4) + abs(h) ** 0.5 * 0.1 * torch.randn_like(x)")),
        "g for its square, or its square for g": but(Q6, ("{{g2_of}}(t)", "{{g2_of}}(t) ** 2")),
    },
    "q7_likelihood": {
        "the sum of the gradient, not the trace": but(Q7, (FIRST_TWO[:FIRST_TWO.index("def hutchinson")], '''
def divergence(u, x, t):
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        return torch.autograd.grad(u(x, t).sum(), x)[0].sum(1)


''')),
        "the trace over the whole batch": but(Q7, ("torch.stack(columns).sum(0)", "torch.stack(columns).sum().expand(len(x))")),
        "the mean of the diagonal": but(Q7, ("torch.stack(columns).sum(0)", "torch.stack(columns).mean(0)")),
        "normal probes": but(Q7, ("torch.randint(2, x.shape, generator=generator).to(x.dtype) * 2 - 1",
                                  "torch.randn(x.shape, generator=generator, dtype=x.dtype)")),
        "uniform probes": but(Q7, ("torch.randint(2, x.shape, generator=generator).to(x.dtype) * 2 - 1",
                                   "3 ** 0.5 * (2 * torch.rand(x.shape, generator=generator, dtype=x.dtype) - 1)")),
        "one probe for all rows": but(Q7, ("torch.randint(2, x.shape, generator=generator)", "torch.randint(2, x[:1].shape, generator=generator)"),
                                      ("zJ, = torch.autograd.grad(out, x, z,", "z = z.expand_as(x)\n            zJ, = torch.autograd.grad(out, x, z,")),
        "the sum over probes": but(Q7, ("return total / k", "return total")),
        "always one probe": but(Q7, ("range(k)", "range(1)"), ("total / k", "total")),
        "the same probe k times": but(Q7, ("        for _ in range(k):\n            z = torch.randint(2, x.shape, generator=generator).to(x.dtype) * 2 - 1\n",
                                           "        z = torch.randint(2, x.shape, generator=generator).to(x.dtype) * 2 - 1\n        for _ in range(k):\n")),
        "the global random numbers": but(Q7, (", generator=generator).to", ").to")),
        "the exact trace for an estimate": but(Q7, ("    with torch.enable_grad():\n        x = x.detach().requires_grad_()\n        out, total",
                                                    "    return divergence(u, x, t)\n    with torch.enable_grad():\n        out, total")),
        "the whole Jacobian, then a probe": but(Q7, ("zJ, = torch.autograd.grad(out, x, z, retain_graph=True)\n",
                                                     "rows = [torch.autograd.grad(out[:, i].sum(), x, retain_graph=True)[0] for i in range(x.shape[1])]\n"
                                                     "            zJ = (torch.stack(rows, 1) * z[..., None]).sum(1)\n")),
        "the sign of the integral": but(Q7, ("log_p_end(x) + total", "log_p_end(x) - total")),
        "the density of the data point under the prior": but(Q7, ("log_p_end(x) + total", "log_p_end(start) + total")),
        "the prior is missing": but(Q7, ("log_p_end(x) + total", "total")),
        "no divergence": but(Q7, ("log_p_end(x) + total", "log_p_end(x)")),
        "half of the divergence": but(Q7, ("log_p_end(x) + total", "log_p_end(x) + total / 2")),
        "Euler's method": but(Q7, ("middle = x + h / 2 * u(x, t)", "middle = x"), ("t + h / 2", "t")),
        "bits for nats, or nats for bits": but(Q7, ("return {{unit}}", "x = x[:, :1].expand(-1, 2)\n    return -({{unit}}) / (2 * math.log(2))")),
        "time runs the wrong way": but(Q7, ("h = end - t", "h = t - end")),
    },
}

RIGHT = {
    "q1_score": {
        "automatic differentiation": '''
def mixture_score(x, alpha, sigma, w, m, s):
    with torch.enable_grad():
        y = x.detach().clone().requires_grad_()
        V = alpha.unsqueeze(1).square() * ({{var}}) + sigma.unsqueeze(1).square()
        square = torch.stack([(y - alpha[:, None] * centre).square().sum(1) for centre in m], 1)
        log_q = torch.logsumexp(torch.log(w) - square / (2 * V) - x.shape[1] / 2 * torch.log(V), 1)
        return torch.autograd.grad(log_q.sum(), y)[0]
''',
        "row by row": '''
def mixture_score(x, alpha, sigma, w, m, s):
    v, d, rows = {{var}}, x.shape[1], []
    for row, a, c in zip(x, alpha, sigma):
        V = a * a * v + c * c
        logs = torch.log(w) - ((row - a * m) ** 2).sum(1) / (2 * V) - d * torch.log(V) / 2
        share = torch.exp(logs - logs.max())
        share = share / share.sum()
        rows.append((share / V) @ (a * m - row))
    return torch.stack(rows)
''',
        "numpy": '''
def mixture_score(x, alpha, sigma, w, m, s):
    import numpy as np
    X, a, c, W, M, S = (np.asarray(t, dtype=np.float64) for t in (x, alpha, sigma, w, m, s))
    v = ({{var}}).double().numpy()
    V = np.outer(a ** 2, v) + (c ** 2)[:, None]
    away = a[:, None, None] * M[None] - X[:, None, :]
    logs = np.log(W) - (away ** 2).sum(2) / 2 / V - 0.5 * X.shape[1] * np.log(V)
    logs -= logs.max(axis=1, keepdims=True)
    share = np.exp(logs) / np.exp(logs).sum(axis=1, keepdims=True)
    return torch.from_numpy(np.einsum("bk,bkd->bd", share / V, away)).to(x.dtype)
''',
        "through the denoised point": '''
def mixture_score(x, alpha, sigma, w, m, s):
    v = {{var}}
    a, c2 = alpha.reshape(-1, 1, 1), sigma.reshape(-1, 1, 1) ** 2
    V = a ** 2 * v[:, None] + c2  # (B, K, 1)
    y = x.unsqueeze(1)
    log_joint = torch.distributions.Normal(a * m, V.sqrt().expand(len(x), *m.shape)).log_prob(y).sum(2) + w.log()
    share = log_joint.softmax(1).unsqueeze(2)
    x0 = (share * (m + a * v[:, None] / V * (y - a * m))).sum(1)
    return (alpha[:, None] * x0 - x) / sigma[:, None] ** 2
''',
    },
    "q2_tweedie": {
        "row by row": '''
def posterior_moments(x, F, J, alpha, sigma):
    means, covs = [], []
    for n in range(len(x)):
        a, c = alpha[n], sigma[n:n + 1]
        score, hessian = (lambda F, J, c: ({{score_of_F}}, {{hessian_of_J}}))(F[n], J[n], c)
        means.append((x[n] + c ** 2 * score) / a)
        covs.append(c ** 2 / a ** 2 * torch.eye(x.shape[1], dtype=x.dtype) + c ** 4 / a ** 2 * hessian.reshape(J[n].shape))
    return torch.stack(means), torch.stack(covs)
''',
        "the covariance as the Jacobian of the mean": '''
def posterior_moments(x, F, J, alpha, sigma):
    a, c = alpha.unsqueeze(-1), sigma.unsqueeze(-1)
    mean = x / a + c.pow(2) / a * ({{score_of_F}})
    jacobian_of_mean = (torch.diag_embed(torch.ones_like(x)) + c[..., None].pow(2) * ({{hessian_of_J}})) / a[..., None]
    return mean, jacobian_of_mean * (c.pow(2) / a)[..., None]
''',
        "numpy": '''
def posterior_moments(x, F, J, alpha, sigma):
    import numpy as np
    x, F, J, alpha, sigma = (t.numpy() for t in (x, F, J, alpha, sigma))
    a, c = alpha.reshape(-1, 1), sigma.reshape(-1, 1)
    mean = (x + c ** 2 * ({{score_of_F}})) / a
    factor = (sigma / alpha).reshape(-1, 1, 1) ** 2
    cov = factor * (np.eye(x.shape[1]) + sigma.reshape(-1, 1, 1) ** 2 * ({{hessian_of_J}}))
    return torch.from_numpy(mean), torch.from_numpy(cov)
''',
    },
    "q3_denoising": {
        "sample by sample": '''
def dsm_loss(score, x0, eps, alpha, sigma):
    xt = torch.stack([a * x + c * e for a, c, x, e in zip(alpha, sigma, x0, eps)])
    S = score(xt, alpha, sigma)
    squares = torch.stack([((u + e / c) ** 2).sum() for u, e, c in zip(S, eps, sigma)])
    return squares * ({{weight}}) / 2


def dsm_floor(C, alpha, sigma):
    weight, d = {{weight}}, len(C)
    P = torch.linalg.inv(alpha ** 2 * C + sigma ** 2 * torch.eye(d, dtype=C.dtype))
    return weight / 2 * (d / sigma ** 2 - P.diagonal().sum())
''',
        "einsum, and a solve": '''
def dsm_loss(score, x0, eps, alpha, sigma):
    xt = torch.einsum("n,n...->n...", alpha, x0) + torch.einsum("n,n...->n...", sigma, eps)
    apart = torch.einsum("n,n...->n...", sigma, score(xt, alpha, sigma)) + eps  # σ times the difference
    return 0.5 * ({{weight}}) / sigma ** 2 * (apart ** 2).reshape(len(x0), -1).sum(-1)


def dsm_floor(C, alpha, sigma):
    A = alpha ** 2 * C
    ratio = torch.linalg.solve(A + sigma ** 2 * torch.eye(len(A)).to(A), A)
    return (0.5 * ({{weight}}) / sigma ** 2 * torch.trace(ratio)).item()
''',
        "numpy eigenvalues": '''
def dsm_loss(score, x0, eps, alpha, sigma):
    a, c = alpha, sigma
    while a.ndim < x0.ndim:
        a, c = a[..., None], c[..., None]
    residual = eps + c * score(a * x0 + c * eps, alpha, sigma)
    return ({{weight}}) * torch.linalg.vector_norm((residual / c).flatten(start_dim=1), dim=1) ** 2 / 2


def dsm_floor(C, alpha, sigma):
    import numpy as np
    total = 0.0
    for c in np.linalg.eigvalsh(C.numpy()):
        total += alpha ** 2 * c / (alpha ** 2 * c + sigma ** 2)
    return ({{weight}}) * total / (2 * sigma ** 2)
''',
    },
    "q4_transition": {
        "Runge–Kutta for mean and variance": '''
def transition(f, {{gname}}, s, t):
    n = 200
    h, a, b2 = (t - s) / n, 1.0, 0.0
    times = s + h / 2 * torch.arange(2 * n + 1, dtype=torch.float64)
    F, G = (f(times) + 0 * times).tolist(), ({{g2_of}}(times) + 0 * times).tolist()

    def slope(a, b2, i):
        return F[i] * a, 2 * F[i] * b2 + G[i]

    for i in range(0, 2 * n, 2):
        k1 = slope(a, b2, i)
        k2 = slope(a + h / 2 * k1[0], b2 + h / 2 * k1[1], i + 1)
        k3 = slope(a + h / 2 * k2[0], b2 + h / 2 * k2[1], i + 1)
        k4 = slope(a + h * k3[0], b2 + h * k3[1], i + 2)
        a, b2 = (y + h / 6 * (p + 2 * q + 2 * r + z) for y, p, q, r, z in zip((a, b2), k1, k2, k3, k4))
    return a, math.sqrt(b2)
''',
        "scipy solves the moment equations": '''
def transition(f, {{gname}}, s, t):
    from scipy.integrate import solve_ivp
    if t == s:
        return 1.0, 0.0

    def slope(r, y):
        r = torch.tensor(r, dtype=torch.float64)
        F, G = float(f(r)), float({{g2_of}}(r))
        return [F, 2 * F * y[1] + G]

    log_a, b2 = solve_ivp(slope, (s, t), [0.0, 0.0], rtol=1e-7, atol=1e-12).y[:, -1]
    return math.exp(log_a), math.sqrt(b2)
''',
        "Gauss–Legendre, inside and outside": '''
def transition(f, {{gname}}, s, t):
    import numpy as np
    nodes, weights = (torch.from_numpy(v) for v in np.polynomial.legendre.leggauss(40))

    def points(low, high):  # (…) → (…, 40), and the weights
        low, high = (torch.as_tensor(v, dtype=torch.float64) for v in (low, high))
        half = (high - low) / 2
        return low[..., None] + half[..., None] * (1 + nodes), half[..., None] * weights

    r, w = points(s, t)
    inner, v = points(r, torch.full_like(r, t))
    gain = (v * f(inner)).sum(-1)  # ∫_r^t f
    r2, w2 = points(s, t)
    return (w2 * f(r2)).sum().exp().item(), ((2 * gain).exp() * w * {{g2_of}}(r)).sum().sqrt().item()
''',
        "many exact steps with frozen coefficients": '''
def transition(f, {{gname}}, s, t):
    n = 3000
    h = (t - s) / n
    a, b2 = 1.0, 0.0
    middle = s + h * (torch.arange(n, dtype=torch.float64) + 0.5)
    for F, G in zip((f(middle) + 0 * middle).tolist(), ({{g2_of}}(middle) + 0 * middle).tolist()):
        e = math.exp(F * h)
        a, b2 = a * e, b2 * e * e + (G * h if abs(F * h) < 1e-9 else G * math.expm1(2 * F * h) / (2 * F))
    return a, math.sqrt(b2)
''',
    },
    "q5_reverse": {
        "index by index, noise first": '''
def reverse_em(score, x, ts, f, {{gname}}, {{zeta}}, generator):
    n = len(ts) - 1
    noise = torch.randn(n, *x.shape, generator=generator, dtype=x.dtype)
    for i in range(n):
        t, dt = ts[i], ts[i + 1] - ts[i]  # dt < 0
        G = {{g2_of}}(t)
        x = x + (f(t) * x - (1 + {{zeta2}}) / 2 * G * score(x, t)) * dt + math.sqrt({{zeta2}}) * torch.sqrt(-dt * G) * noise[i]
    return x


def em_variance(V, v, ts, f, {{gname}}, {{zeta}}):
    for i in range(len(ts) - 1):
        t, dt = ts[i], ts[i + 1] - ts[i]
        G = {{g2_of}}(t)
        V = (1 + (f(t) + (1 + {{zeta2}}) / 2 * G / v(t)) * dt) ** 2 * V - {{zeta2}} * G * dt
    return V.item()
''',
        "flow plus Langevin": '''
def reverse_em(score, x, ts, f, {{gname}}, {{zeta}}, generator):
    for k in range(1, len(ts)):
        t, step = ts[k - 1], (ts[k - 1] - ts[k]).item()
        G, S = float({{g2_of}}(t)), score(x, ts[k - 1])
        langevin = 0.5 * {{zeta2}} * G * step
        new = x - step * float(f(t)) * x + 0.5 * step * G * S
        x = new + langevin * S + torch.empty_like(x).normal_(generator=generator) * math.sqrt(2 * langevin)
    return x


def em_variance(V, v, ts, f, {{gname}}, {{zeta}}):
    variance = torch.as_tensor(V, dtype=torch.float64)
    for t, end in zip(ts, ts[1:]):
        G, step = {{g2_of}}(t), t - end
        shrink = 1 - step * f(t) - 0.5 * step * G / v(t) - 0.5 * {{zeta2}} * step * G / v(t)
        variance = shrink.square() * variance + {{zeta2}} * step * G
    return variance
''',
        "numpy numbers, coefficients beforehand": '''
def reverse_em(score, x, ts, f, {{gname}}, {{zeta}}, generator):
    plan = [(t, (t - e).item(), float(f(t)), float({{g2_of}}(t))) for t, e in zip(ts.unbind()[:-1], ts.unbind()[1:])]
    state = x.clone()
    for t, h, F, G in plan:
        pull = score(state, t).mul(0.5 * (1 + {{zeta2}}) * G * h)
        kick = torch.randn(state.shape, generator=generator, dtype=torch.float64).to(x).mul(({{zeta2}} * G * h) ** 0.5)
        state = state * (1 - F * h) + pull + kick
    return state


def em_variance(V, v, ts, f, {{gname}}, {{zeta}}):
    import numpy as np
    grid = ts.numpy()
    F, G, right = (np.asarray([float(fn(t)) for t in ts]) for fn in (f, {{g2_of}}, v))
    h = grid[:-1] - grid[1:]
    a = 1 - h * F[:-1] - h * 0.5 * (1 + {{zeta2}}) * G[:-1] / right[:-1]
    for i in range(len(h)):
        V = a[i] ** 2 * V + {{zeta2}} * G[i] * h[i]
    return float(V)
''',
    },
    "q6_flow": {
        "the three-eighths rule": '''
def flow(score, x, ts, f, {{gname}}):
    u = lambda x, t: f(t) * x - {{g2_of}}(t) / 2 * score(x, t)
    for i in range(len(ts) - 1):
        t, h = ts[i], ts[i + 1] - ts[i]
        a = h * u(x, t)
        b = h * u(x + a / 3, t + h / 3)
        c = h * u(x - a / 3 + b, t + 2 * h / 3)
        e = h * u(x + a - b + c, t + h)
        x = x + (a + 3 * b + 3 * c + e) / 8
    return x
''',
        "a table of coefficients": '''
def flow(score, x, ts, f, {{gname}}):
    A = [[], [0.5], [0, 0.5], [0, 0, 1]]
    b, c = [1 / 6, 1 / 3, 1 / 3, 1 / 6], [0, 0.5, 0.5, 1]
    for t, h in zip(ts[:-1], ts.diff()):
        slopes = []
        for row, shift in zip(A, c):
            y, now = x + h * sum((w * k for w, k in zip(row, slopes)), torch.zeros_like(x)), t + shift * h
            slopes.append(f(now) * y - 0.5 * {{g2_of}}(now) * score(y, now))
        x = x + h * sum(w * k for w, k in zip(b, slopes))
    return x
''',
        "Euler's method, extrapolated": '''
def flow(score, x, ts, f, {{gname}}):
    def modified_midpoint(x, t, H, n):  # Gragg's method: errors in even powers of H/n
        h = H / n
        u = lambda x, t: f(t) * x - 0.5 * {{g2_of}}(t) * score(x, t)
        before, now = x, x + h * u(x, t)
        for i in range(1, n):
            before, now = now, before + 2 * h * u(now, t + i * h)
        return (before + now + h * u(now, t + H)) / 2

    for t, end in zip(ts[:-1], ts[1:]):
        coarse, fine = (modified_midpoint(x, t, end - t, n) for n in (2, 4))
        x = fine + (fine - coarse) / 3
    return x
''',
    },
    "q7_likelihood": {
        "torch.func and Heun's method": '''
def divergence(u, x, t):
    J = torch.func.vmap(torch.func.jacrev(lambda y: u(y[None], t)[0]))(x)
    return J.diagonal(dim1=1, dim2=2).sum(1)


def hutchinson(u, x, t, k, generator):
    estimates = []
    for _ in range(k):
        z = torch.randn(x.shape, generator=generator, dtype=x.dtype).sign()
        Jz = torch.func.jvp(lambda y: u(y, t), (x,), (z,))[1]
        estimates.append((z * Jz).sum(1))
    return torch.stack(estimates).mean(0)


def log_likelihood(u, x, ts, log_p_end):
    change = 0
    for i in range(len(ts) - 1):
        s, e, h = ts[i], ts[i + 1], ts[i + 1] - ts[i]
        k1 = u(x, s)
        guess = x + h * k1
        change = change + h / 2 * (divergence(u, x, s) + divergence(u, guess, e))
        x = x + h / 2 * (k1 + u(guess, e))
    log_p = log_p_end(x) + change
    return {{unit}}
''',
        "one augmented state": '''
def divergence(u, x, t):
    y = x.clone().requires_grad_()
    with torch.enable_grad():
        out = u(y, t)
        trace = 0
        for i in range(y.shape[1]):
            e = torch.zeros_like(y)
            e[:, i] = 1
            trace = trace + torch.autograd.grad(out, y, e, retain_graph=True)[0][:, i]
    return trace.detach()


def hutchinson(u, x, t, k, generator):
    y = x.clone().requires_grad_()
    with torch.enable_grad():
        out = u(y, t)
    z = (torch.rand(k, *x.shape, generator=generator, dtype=x.dtype) < 0.5).to(x) * 2 - 1
    products = [torch.autograd.grad(out, y, probe, retain_graph=True)[0] for probe in z]
    return torch.einsum("kbd,kbd->b", torch.stack(products), z) / k


def log_likelihood(u, x, ts, log_p_end):
    d = x.shape[1]

    def slope(y, t):
        return torch.cat([u(y[:, :d], t), divergence(u, y[:, :d], t)[:, None]], 1)

    y = torch.cat([x, torch.zeros_like(x[:, :1])], 1)
    for t, h in zip(ts[:-1], ts.diff()):
        k1 = slope(y, t)
        k2 = slope(y + 2 / 3 * h * k1, t + 2 / 3 * h)
        y = y + h * (k1 / 4 + 3 * k2 / 4)
    log_p = log_p_end(y[:, :d]) + y[:, d]
    return {{unit}}
''',
        "row by row, rank by rank": '''
def divergence(u, x, t):
    out = []
    for row in x:
        J = torch.autograd.functional.jacobian(lambda y: u(y[None], t)[0], row)
        out.append(torch.trace(J))
    return torch.stack(out)


def hutchinson(u, x, t, k, generator):
    total = torch.zeros(len(x), dtype=x.dtype)
    for _ in range(k):
        z = 1 - 2 * torch.bernoulli(torch.full(x.shape, 0.5, dtype=x.dtype), generator=generator)
        _, zJ = torch.autograd.functional.vjp(lambda y: u(y, t), x, z)
        total += torch.linalg.vecdot(zJ, z)
    return total.div(k)


def log_likelihood(u, x, ts, log_p_end):
    points, traces = [x], []
    for t, end in zip(ts[:-1], ts[1:]):
        h, y = end - t, points[-1]
        half = y + h / 2 * u(y, t)
        points.append(y + h * u(half, t + h / 2))
    for t, y in zip(ts, points):
        traces.append(divergence(u, y, t))
    log_p = log_p_end(points[-1]) + torch.trapezoid(torch.stack(traces), ts, dim=0)
    return {{unit}}
''',
    },
}
