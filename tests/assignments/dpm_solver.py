"""Wrong and right answers to the assignment on DPM-Solver: every wrong one must lose points, every right one get them all."""

from frame import each_with

CLOCK = '''
def lam_of_t(t):
    log_alpha = -{{B}} * t ** {{p}}
    log_sigma = 0.5 * torch.log(-torch.expm1(2 * log_alpha))
    return log_alpha - log_sigma


def t_of_lam(lam):
    log_alpha = -0.5 * torch.log1p(torch.exp(-2 * lam))
    return (-log_alpha / {{B}}) ** (1 / {{p}})
'''
TRUTH = '''
def exact_flow(x, mu, C, alpha_s, sigma_s, alpha_t, sigma_t):
    values, Q = torch.linalg.eigh(C)
    before = alpha_s**2 * values + sigma_s**2
    after = alpha_t**2 * values + sigma_t**2
    A = Q @ torch.diag((after / before).sqrt()) @ Q.T
    return alpha_t * mu + (x - alpha_s * mu) @ A
'''
FIRST = '''
def ddim(eps_hat, x, alpha, sigma):
    n = len(alpha) - 1
    for i in range(n):
        s, t = i, i + 1
        e = eps_hat(x, alpha[s], sigma[s])
        x0 = (x - sigma[s] * e) / alpha[s]
        x = alpha[t] * x0 + sigma[t] * e
    return x
'''
PHI = '''
def phi(k, h):
    small = h.abs() < 1.0
    a = torch.where(small, h, torch.zeros_like(h))
    b = torch.where(small, torch.ones_like(h), h)
    near = sum(a**j / float(math.factorial(j + k)) for j in range(22))
    far = torch.expm1(b) / b
    for i in range(1, k):
        far = (far - 1 / math.factorial(i)) / b
    return torch.where(small, near, far)
'''
SECOND = '''
def dpm_solver_2(eps_hat, x, lam, level_at):
    r = {{r1}}
    for i in range(len(lam) - 1):
        h = lam[i + 1] - lam[i]
        a0, s0 = level_at(lam[i])
        am, sm = level_at(lam[i] + r * h)
        a1, s1 = level_at(lam[i + 1])
        e = eps_hat(x, a0, s0)
        u = am / a0 * x - sm * torch.expm1(r * h) * e
        D = eps_hat(u, am, sm) - e
        w = torch.expm1(h) / (2 * r)
        x = a1 / a0 * x - s1 * torch.expm1(h) * e - s1 * w * D
    return x
'''
TWO_M = '''
def solve_2m(x0_hat, x, alpha, sigma):
    lam = torch.log(alpha / sigma)
    old = None
    for i in range(len(alpha) - 1):
        Q = x0_hat(x, alpha[i], sigma[i])
        if sigma[i + 1] == 0:
            x = alpha[i + 1] * Q
            continue
        h = lam[i + 1] - lam[i]
        D = Q
        if old is not None:
            r = (lam[i] - lam[i - 1]) / h
            D = (1 + 1 / (2 * r)) * Q - 1 / (2 * r) * old
        x = sigma[i + 1] / sigma[i] * x + alpha[i + 1] * (1 - torch.exp(-h)) * D
        old = Q
    return x
'''
ORDERS = '''
def measured_orders(solve, exact, counts):
    states = [solve(n).to(torch.float64) for n in counts]
    e = [torch.sqrt(torch.mean((x - exact) ** 2)).item() for x in states]
    found = []
    for i in range(len(counts) - 1):
        found.append(math.log(e[i] / e[i + 1]) / math.log(counts[i + 1] / counts[i]))
    return found
'''

WRONG = {
    "q1_clock": each_with(CLOCK, {
        "1 − e^x, which cancels": ("-torch.expm1(2 * log_alpha)", "1 - torch.exp(2 * log_alpha)"),
        "log(1 + x), which cancels": ("torch.log1p(torch.exp(-2 * lam))", "torch.log(1 + torch.exp(-2 * lam))"),
        "log-SNR, not its half": ("return log_alpha - log_sigma", "return 2 * (log_alpha - log_sigma)"),
        "inverse of the log-SNR": ("torch.exp(-2 * lam)", "torch.exp(-lam)"),
        "log σ²": ("0.5 * torch.log(-torch", "torch.log(-torch"),
        "σ = 1 − α": ("0.5 * torch.log(-torch.expm1(2 * log_alpha))", "torch.log(-torch.expm1(log_alpha))"),
        "wrong sign": ("return log_alpha - log_sigma", "return log_sigma - log_alpha"),
        "log σ alone": ("return log_alpha - log_sigma", "return -log_sigma"),
        "float32 inside": ("log_alpha = -{{B}} * t ** {{p}}", "log_alpha = (-{{B}} * t.float() ** {{p}}).double()"),
        "inverse in float32": ("torch.exp(-2 * lam)", "torch.exp(-2 * lam.float())"),
        "the power not undone": (") ** (1 / {{p}})", ")"),
        "inverse without ½": ("-0.5 * torch.log1p", "-torch.log1p"),
        "inverse for small σ only": ("-0.5 * torch.log1p(torch.exp(-2 * lam))", "-0.5 * torch.exp(-2 * lam)"),
        "α² for α": ("log_alpha = -{{B}}", "log_alpha = -0.5 * {{B}}"),
        "one number for all": ("return log_alpha - log_sigma", "return (log_alpha - log_sigma).reshape(-1)[0]"),
        "a schedule of the library": ("    log_alpha = -{{B}} * t ** {{p}}\n",
                                      "    return dpmlib.LinearVP().lam(t)\n    log_alpha = -{{B}} * t ** {{p}}\n"),
    }),
    "q2_truth": each_with(TRUTH, {
        "variances for standard deviations": ("(after / before).sqrt()", "after / before"),
        "upside down": ("after / before", "before / after"),
        "mean not scaled at the end": ("alpha_t * mu", "mu"),
        "mean not scaled at the start": ("alpha_s * mu", "mu"),
        "mean forgotten": ("alpha_t * mu + (x - alpha_s * mu)", "x"),
        "Cholesky: the right law, the wrong map": (
            "A = Q @ torch.diag((after / before).sqrt()) @ Q.T",
            "L = lambda v: torch.linalg.cholesky(Q @ torch.diag(v) @ Q.T)\n    A = (L(after) @ torch.linalg.inv(L(before))).T"),
        "diagonal only": ("values, Q = torch.linalg.eigh(C)", "values, Q = C.diagonal(), torch.eye(len(C), dtype=C.dtype)"),
        "average variance": ("values, Q = torch.linalg.eigh(C)",
                             "values, Q = C.diagonal().mean().expand(len(C)), torch.eye(len(C), dtype=C.dtype)"),
        "basis not undone": (") @ Q.T", ")"),
        "Qᵀ first": ("Q @ torch.diag((after / before).sqrt()) @ Q.T", "Q.T @ torch.diag((after / before).sqrt()) @ Q"),
        "α for α²": ("alpha_s**2 * values", "alpha_s * values"),
        "σ for σ²": ("+ sigma_t**2", "+ sigma_t"),
        "DDIM in one step": ("(after / before).sqrt()", "(alpha_t * alpha_s * values + sigma_t * sigma_s) / before"),
        "posterior mean": ("(after / before).sqrt()", "alpha_t * alpha_s * values / before"),
        "ς = 1 at the start": ("before = alpha_s**2 * values + sigma_s**2", "before = alpha_s**2 * values + 1"),
        "changes x in place": ("(x - alpha_s * mu) @ A", "x.sub_(alpha_s * mu) @ A"),
        "the linear part only": ("A = Q @ torch.diag((after / before).sqrt()) @ Q.T",
                                 "A = alpha_t / alpha_s * torch.eye(len(mu), dtype=x.dtype)"),
    }),
    "q3_first": each_with(FIRST, {
        "α and σ swapped": ("alpha[t] * x0 + sigma[t] * e", "sigma[t] * x0 + alpha[t] * e"),
        "asked at the end of the step": ("eps_hat(x, alpha[s], sigma[s])", "eps_hat(x, alpha[t], sigma[t])"),
        "noise of the old level": ("+ sigma[t] * e", "+ sigma[s] * e"),
        "σ² for σ": ("x - sigma[s] * e", "x - sigma[s] ** 2 * e"),
        "not divided by α": ("(x - sigma[s] * e) / alpha[s]", "x - sigma[s] * e"),
        "the linear part only": ("x = alpha[t] * x0 + sigma[t] * e", "x = alpha[t] / alpha[s] * x"),
        "x_0 without noise": (" + sigma[t] * e", ""),
        "wrong sign of ε": ("+ sigma[t] * e", "- sigma[t] * e"),
        "one step too few": ("range(n)", "range(n - 1)"),
        "grid the other way round": ("    n = len(alpha) - 1\n", "    n, alpha, sigma = len(alpha) - 1, alpha.flip(0), sigma.flip(0)\n"),
        "λ-form, which ends in NaN at the data": (
            "x = alpha[t] * x0 + sigma[t] * e",
            "x = alpha[t] / alpha[s] * x - sigma[t] * torch.expm1(torch.log(alpha[t] / sigma[t] * sigma[s] / alpha[s])) * e"),
        "ancestral noise added": ("x = alpha[t] * x0 + sigma[t] * e", "x = alpha[t] * x0 + sigma[t] * torch.randn_like(e)"),
        "asks twice": ("e = eps_hat(x, alpha[s], sigma[s])",
                       "e = eps_hat(x, alpha[s], sigma[s])\n        e = 0.5 * (e + eps_hat(x, alpha[s], sigma[s]))"),
        "the first prediction for all steps": ("e = eps_hat(x, alpha[s], sigma[s])", "e = eps_hat(x, alpha[0], sigma[0]) if i == 0 else e"),
        "one long step": ("    for i in range(n):\n        s, t = i, i + 1", "    for i in range(1):\n        s, t = 0, n"),
        "float64 out": ("return x", "return x.double()"),
        "changes x in place": ("x = alpha[t] * x0 + sigma[t] * e", "x.copy_(alpha[t] * x0 + sigma[t] * e)"),
        "variance-preserving paths only": ("sigma[t] * e", "(1 - alpha[t] ** 2).sqrt() * e"),
        "Euler in λ": ("x = alpha[t] * x0 + sigma[t] * e",
                       "h = torch.log(alpha[t] / sigma[t]) - torch.log(alpha[s] / sigma[s])\n"
                       "        x = alpha[t] / alpha[s] * (x - sigma[s] * h * e)"),
    }),
    "q4_phi": each_with(PHI, {
        "recursion everywhere": ("h.abs() < 1.0", "h == 0"),
        "recursion down to 0.01": ("h.abs() < 1.0", "h.abs() < 1e-2"),
        "series everywhere": ("h.abs() < 1.0", "h.abs() < 100.0"),
        "too few terms": ("range(22)", "range(5)"),
        "series for all negative h": ("h.abs() < 1.0", "h < 1.0"),
        "e^h in place of e^h − 1": ("torch.expm1(b) / b", "torch.exp(b) / b"),
        "j! for (k + j)!": ("math.factorial(j + k)", "math.factorial(j)"),
        "series starts at j = 1": ("math.factorial(j + k)", "math.factorial(j + k + 1)"),
        "1/k for 1/k!": ("1 / math.factorial(i)", "1 / i"),
        "one step of the recursion too few": ("range(1, k)", "range(1, k - 1)"),
        "one step of the recursion too many": ("range(1, k)", "range(1, k + 1)"),
        "not divided by h": ("(far - 1 / math.factorial(i)) / b", "far - 1 / math.factorial(i)"),
        "wrong at zero": ("return torch.where(small, near, far)",
                          "return torch.where(h == 0, torch.zeros_like(h), torch.where(small, near, far))"),
        "φ_1 for all k": ("range(1, k)", "range(0)"),
        "wrong sign of h": ("    small = ", "    h = -h\n    small = "),
        "decides once for the whole tensor": ("    small = h.abs() < 1.0\n", "    small = (h.abs().max() < 1.0).expand(h.shape)\n"),
        "float32": ("    small = ", "    h = h.float()\n    small = "),
        "clamps h": ("    small = ", "    h = h.clamp(-20, 20)\n    small = "),
    }) | {
        "expm1 by exp − 1": '''
def phi(k, h):
    value = (torch.exp(h) - 1) / h
    for i in range(1, k):
        value = (value - 1 / math.factorial(i)) / h
    return value
''',
    },
    "q5_second": each_with(SECOND, {
        "order one: D forgotten": (" - s1 * w * D", ""),
        "1/r₁ for 1/(2 r₁)": ("/ (2 * r)", "/ r"),
        "weight of the node at ½": ("w = torch.expm1(h) / (2 * r)", "w = torch.expm1(h)"),
        "node at ½": ("r = {{r1}}", "r = 0.5"),
        "r₁ in place of 1/r₁": ("torch.expm1(h) / (2 * r)", "torch.expm1(h) * r / 2"),
        "D with the wrong sign": ("- s1 * w * D", "+ s1 * w * D"),
        "a full step to the node": ("sm * torch.expm1(r * h) * e", "sm * torch.expm1(h) * e"),
        "no step to the node": ("u = am / a0 * x - sm * torch.expm1(r * h) * e", "u = x"),
        "σ_s in the step to the node": ("sm * torch.expm1(r * h)", "s0 * torch.expm1(r * h)"),
        "σ_s in the last line": ("s1 * torch.expm1(h) * e", "s0 * torch.expm1(h) * e"),
        "network told the start, not the node": ("eps_hat(u, am, sm) - e", "eps_hat(u, a0, s0) - e"),
        "network asked at the end": ("eps_hat(u, am, sm) - e", "eps_hat(u, a1, s1) - e"),
        "slope not a difference": ("D = eps_hat(u, am, sm) - e", "D = eps_hat(u, am, sm)"),
        "−h": ("h = lam[i + 1] - lam[i]", "h = lam[i] - lam[i + 1]"),
        "α ratio upside down": ("a1 / a0 * x", "a0 / a1 * x"),
        "h in place of e^h − 1": ("w = torch.expm1(h) / (2 * r)\n        x = a1 / a0 * x - s1 * torch.expm1(h) * e",
                                  "w = h / (2 * r)\n        x = a1 / a0 * x - s1 * h * e"),
        "asks three times": ("D = eps_hat(u, am, sm) - e", "D = eps_hat(u, am, sm) - eps_hat(x, a0, s0)"),
        "mirrored node": ("level_at(lam[i] + r * h)", "level_at(lam[i + 1] - r * h)"),
        "even steps assumed": ("h = lam[i + 1] - lam[i]", "h = (lam[-1] - lam[0]) / (len(lam) - 1)"),
        "another path than the given one": ("a1, s1 = level_at(lam[i + 1])",
                                            "a1, s1 = torch.sigmoid(2 * lam[i + 1]).sqrt(), torch.sigmoid(-2 * lam[i + 1]).sqrt()"),
        "float64 out": ("    return x\n", "    return x.double()\n"),
        "one step too few": ("range(len(lam) - 1)", "range(len(lam) - 2)"),
    }),
    "q6_multistep": each_with(TWO_M, {
        "order one": ("D = (1 + 1 / (2 * r)) * Q - 1 / (2 * r) * old", "D = Q"),
        "even steps assumed": ("r = (lam[i] - lam[i - 1]) / h", "r = 1.0"),
        "ratio upside down": ("r = (lam[i] - lam[i - 1]) / h", "r = h / (lam[i] - lam[i - 1])"),
        "1/r for 1/(2r)": ("(1 + 1 / (2 * r)) * Q - 1 / (2 * r) * old", "(1 + 1 / r) * Q - 1 / r * old"),
        "interpolates in place of extrapolating": ("(1 + 1 / (2 * r)) * Q - 1 / (2 * r) * old",
                                                   "(1 - 1 / (2 * r)) * Q + 1 / (2 * r) * old"),
        "average of the two": ("(1 + 1 / (2 * r)) * Q - 1 / (2 * r) * old", "0.5 * Q + 0.5 * old"),
        "the two swapped": ("(1 + 1 / (2 * r)) * Q - 1 / (2 * r) * old", "(1 + 1 / (2 * r)) * old - 1 / (2 * r) * Q"),
        "the past is never renewed": ("        old = Q\n", "        old = Q if old is None else old\n"),
        "the past is the mixture D": ("        old = Q\n", "        old = D\n"),
        "ε form's exponential": ("1 - torch.exp(-h)", "torch.exp(h) - 1"),
        "h for 1 − e^−h": ("(1 - torch.exp(-h))", "h"),
        "α and σ swapped": ("sigma[i + 1] / sigma[i] * x", "alpha[i + 1] / alpha[i] * x"),
        "σ in place of α": ("+ alpha[i + 1] * (1", "+ sigma[i + 1] * (1"),
        "α of the start": ("+ alpha[i + 1] * (1", "+ alpha[i] * (1"),
        "wrong sign": ("+ alpha[i + 1] * (1", "- alpha[i + 1] * (1"),
        "NaN at the data": ("if sigma[i + 1] == 0:", "if False:"),
        "noise left at the data": ("            x = alpha[i + 1] * Q\n", "            x = alpha[i + 1] * x\n"),
        "stops before the data": ("            x = alpha[i + 1] * Q\n", ""),
        "asked at the end of the step": ("x0_hat(x, alpha[i], sigma[i])", "x0_hat(x, alpha[i + 1], sigma[i + 1])"),
        "steps in σ": ("lam = torch.log(alpha / sigma)", "lam = -sigma"),
        "log-SNR": ("lam = torch.log(alpha / sigma)", "lam = 2 * torch.log(alpha / sigma)"),
        "variance-preserving paths only": ("    lam = ", "    sigma = (1 - alpha**2).sqrt()\n    lam = "),
        "asks twice in the first step": ("        D = Q\n", "        D = Q if i else x0_hat(x, alpha[i], sigma[i])\n"),
        "float64 out": ("    return x\n", "    return x.double()\n"),
        "changes x in place": ("    old = None\n", "    old = None\n    x.mul_(1 + 1e-6)\n"),
    }),
    "q7_orders": each_with(ORDERS, {
        "upside down": ("e[i] / e[i + 1]", "e[i + 1] / e[i]"),
        "ratio of counts ignored": ("math.log(counts[i + 1] / counts[i])", "math.log(2)"),
        "no division": (" / math.log(counts[i + 1] / counts[i])", ""),
        "difference of counts": ("counts[i + 1] / counts[i]", "counts[i + 1] - counts[i] + 1"),
        "mean squares, no root": ("torch.sqrt(torch.mean((x - exact) ** 2))", "torch.mean((x - exact) ** 2)"),
        "mean of errors, with signs": ("torch.sqrt(torch.mean((x - exact) ** 2))", "torch.mean(x - exact).abs()"),
        "largest error": ("torch.sqrt(torch.mean((x - exact) ** 2))", "(x - exact).abs().max()"),
        "mean of absolute errors": ("torch.sqrt(torch.mean((x - exact) ** 2))", "(x - exact).abs().mean()"),
        "first row only": ("(x - exact) ** 2", "(x - exact)[:1] ** 2"),
        "float32": ("solve(n).to(torch.float64)", "solve(n).float()"),
        "truth in the solver's dtype": ("torch.mean((x - exact) ** 2)", "torch.mean((x.float() - exact.float()) ** 2)"),
        "against the finest run": ("(x - exact) ** 2", "(x - states[-1] + 1e-12) ** 2"),
        "absolute value": ("return found", "return [abs(p) for p in found]"),
        "one number": ("return found", "return sum(found) / len(found)"),
        "from the first count": ("math.log(e[i] / e[i + 1]) / math.log(counts[i + 1] / counts[i])",
                                 "math.log(e[0] / e[i + 1]) / math.log(counts[i + 1] / counts[0])"),
        "rounded": ("return found", "return [round(p, 1) for p in found]"),
        "solves again for each pair": ("    found = []\n", "    found, _ = [], [solve(n) for n in counts[1:]]\n"),
        "the nominal order": ("return found", "return [2.0] * len(found)"),
    }),
}

RIGHT = {
    "q1_clock": {
        "log σ first": CLOCK,
        "one logarithm": '''
def lam_of_t(t):
    m = {{B}} * torch.pow(t, {{p}})
    return -0.5 * torch.log(torch.expm1(2 * m))


def t_of_lam(lam):
    m = 0.5 * torch.nn.functional.softplus(-2 * lam, threshold=600)
    return torch.exp(torch.log(m / {{B}}) / {{p}})
''',
        "numpy": '''
def lam_of_t(t):
    import numpy as np
    m = {{B}} * t.numpy() ** {{p}}
    return torch.as_tensor(-m - np.log(np.sqrt(-np.expm1(-2 * m))), dtype=torch.float64)


def t_of_lam(lam):
    import numpy as np
    m = 0.5 * np.logaddexp(0, -2 * lam.numpy())
    return torch.as_tensor((m / {{B}}) ** (1 / {{p}}), dtype=torch.float64)
''',
    },
    "q2_truth": {
        "symmetric matrix": TRUTH,
        "roots of both covariances": '''
def exact_flow(x, mu, C, alpha_s, sigma_s, alpha_t, sigma_t):
    from scipy.linalg import sqrtm
    eye = torch.eye(len(mu), dtype=x.dtype)
    before, after = (torch.as_tensor(sqrtm((a**2 * C + s**2 * eye).numpy()).real) for a, s in ((alpha_s, sigma_s), (alpha_t, sigma_t)))
    centred = x - alpha_s * mu
    return alpha_t * mu + torch.linalg.solve(before, centred.T).T @ after
''',
        "in y and ς, coordinate by coordinate": '''
def exact_flow(x, mu, C, alpha_s, sigma_s, alpha_t, sigma_t):
    U, ell, _ = torch.linalg.svd(C)
    y = (x / alpha_s - mu) @ U
    a, b = sigma_s / alpha_s, sigma_t / alpha_t
    moved = torch.stack([y[:, i] * torch.sqrt((l + b**2) / (l + a**2)) for i, l in enumerate(ell)], 1)
    return alpha_t * (mu + moved @ U.T)
''',
    },
    "q3_first": {
        "x_0 and ε": FIRST,
        "straight lines in σ/α": '''
def ddim(eps_hat, x, alpha, sigma):
    ratio = (sigma / alpha).tolist()
    for i in range(len(ratio) - 1):
        y = x / float(alpha[i]) + (ratio[i + 1] - ratio[i]) * eps_hat(x, alpha[i], sigma[i])
        x = float(alpha[i + 1]) * y
    return x.clone()
''',
        "x_0 form of the exponential integrator": '''
def ddim(eps_hat, x, alpha, sigma):
    lam = torch.log(alpha) - torch.log(sigma)
    levels_ = list(zip(alpha, sigma, lam))
    for (a, s, l), (b, r, m) in zip(levels_, levels_[1:]):
        x0 = (x - s * eps_hat(x, a, s)) / a
        x = r / s * x - b * torch.expm1(l - m) * x0
    return x
''',
    },
    "q4_phi": {
        "where": PHI,
        "one by one, scalars": '''
def phi(k, h):
    def one(v):
        if abs(v) < 1.5:
            return sum(v**j / math.factorial(j + k) for j in range(30))
        value = math.expm1(v) / v
        for i in range(1, k):
            value = (value - 1 / math.factorial(i)) / v
        return value
    return torch.tensor([one(v) for v in h.flatten().tolist()], dtype=torch.float64).reshape(h.shape)
''',
        "quadrature": '''
def phi(k, h):
    import numpy as np
    u, w = np.polynomial.legendre.leggauss(64)
    u, w = torch.tensor((u + 1) / 2), torch.tensor(w / 2)
    return (torch.exp((1 - u) * h[..., None]) * u ** (k - 1) * w).sum(-1) / math.factorial(k - 1)
''',
    },
    "q5_second": {
        "the paper's weight": SECOND,
        "the exact integral of the line": '''
def dpm_solver_2(eps_hat, x, lam, level_at):
    grid = lam.tolist()
    for start, end in zip(grid[:-1], grid[1:]):
        h = end - start
        node = start + {{r1}} * h
        a, b, c = ([float(v) for v in level_at(torch.tensor(l, dtype=torch.float64))] for l in (start, node, end))
        first = eps_hat(x, torch.tensor(a[0]).double(), torch.tensor(a[1]).double())
        u = b[0] / a[0] * x - b[1] * math.expm1({{r1}} * h) * first
        slope = (eps_hat(u, torch.tensor(b[0]).double(), torch.tensor(b[1]).double()) - first) / ({{r1}} * h)
        x = c[0] / a[0] * x - c[1] * (math.expm1(h) * first + (math.expm1(h) - h) * slope)
    return x
''',
        "all levels at once": '''
def dpm_solver_2(eps_hat, x, lam, level_at):
    h = lam.diff()
    alpha, sigma = level_at(lam)
    alpha_m, sigma_m = level_at(lam[:-1] + {{r1}} * h)
    w = (torch.expm1(h) - h) / ({{r1}} * h)
    for i in range(len(h)):
        first = eps_hat(x, alpha[i], sigma[i])
        u = alpha_m[i] / alpha[i] * x - sigma_m[i] * torch.expm1({{r1}} * h[i]) * first
        D = eps_hat(u, alpha_m[i], sigma_m[i]) - first
        x = alpha[i + 1] / alpha[i] * x - sigma[i + 1] * (torch.expm1(h[i]) * first + w[i] * D)
    return x
''',
        "weighted mean of two values": '''
def dpm_solver_2(eps_hat, x, lam, level_at):
    weight = 1 / (2 * {{r1}})
    for i in range(1, len(lam)):
        h = lam[i] - lam[i - 1]
        (a0, s0), (a1, s1), (a2, s2) = level_at(lam[i - 1]), level_at(lam[i - 1] + {{r1}} * h), level_at(lam[i])
        e0 = eps_hat(x, a0, s0)
        u = a1 * ((x - s0 * e0) / a0) + s1 * e0
        e = (1 - weight) * e0 + weight * eps_hat(u, a1, s1)
        x = a2 * ((x - s0 * e) / a0) + s2 * e
    return x
''',
    },
    "q6_multistep": {
        "the paper's box": TWO_M,
        "the exact integral of the line": '''
def solve_2m(x0_hat, x, alpha, sigma):
    past = []
    for i in range(alpha.numel() - 1):
        past.append(x0_hat(x, alpha[i], sigma[i]))
        if float(sigma[i + 1]) == 0.0:
            x = float(alpha[i + 1]) * past[-1]
            break
        lam = [math.log(alpha[j] / sigma[j]) for j in (max(i - 1, 0), i, i + 1)]
        h = lam[2] - lam[1]
        total = -math.expm1(-h) * past[-1]
        if len(past) > 1:
            total = total + (h + math.expm1(-h)) * (past[-1] - past[-2]) / (lam[1] - lam[0])
        x = float(sigma[i + 1] / sigma[i]) * x + float(alpha[i + 1]) * total
    return x
''',
        "as DDIM with the extrapolated prediction": '''
def solve_2m(x0_hat, x, alpha, sigma):
    lam = (alpha / sigma).log()
    h = lam[1:] - lam[:-1]
    Q_old = None
    for i in range(len(h)):
        Q = x0_hat(x, alpha[i], sigma[i])
        middle = Q
        if i > 0 and torch.isfinite(h[i]):
            middle = Q + 0.5 * h[i] / h[i - 1] * (Q - Q_old)
        eps = (x - alpha[i] * middle) / sigma[i]
        x = alpha[i + 1] * middle + sigma[i + 1] * eps
        Q_old = Q
    return x
''',
    },
    "q7_orders": {
        "loop": ORDERS,
        "numpy": '''
def measured_orders(solve, exact, counts):
    import numpy as np
    e = [np.linalg.norm(solve(n).numpy().astype(np.float64) - exact.numpy()) for n in counts]
    return list(-np.diff(np.log(e)) / np.diff(np.log(counts)))
''',
        "log-log slopes": '''
def measured_orders(solve, exact, counts):
    x = torch.log(torch.tensor(counts, dtype=torch.float64))
    y = torch.stack([(solve(n).double() - exact).pow(2).mean().sqrt().log() for n in counts])
    return [-s for s in ((y[1:] - y[:-1]) / (x[1:] - x[:-1])).tolist()]
''',
    },
}
