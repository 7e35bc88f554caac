"""Answers to the assignment on autoregressive models that must lose points, and answers in other styles that must get them all."""
# ruff: noqa: E501  the strings are code, which is easier to compare on one line

from frame import but

Q1 = '''
def chain_log_prob(conditional, x):
    total = torch.zeros(len(x), dtype=torch.float64)
    for i in range(x.shape[1]):
        p = conditional(x[:, :i])
        total = total + torch.where(x[:, i] == {{high}}, p, 1 - p).log()
    return total
'''

Q2 = '''
def nade_log_prob(W, b, V, c, x):
    phi = {{phi}}
    a = b.expand(len(x), -1)
    total = torch.zeros(len(x), dtype=x.dtype)
    for i in range(x.shape[1]):
        h = phi(a)
        z = h @ V[i] + c[i]
        total = total + x[:, i] * z - torch.nn.functional.softplus(z)
        a = a + x[:, i, None] * {{W_i}}
    return total
'''

Q3 = '''
def nade_sample(W, b, V, c, n, generator):
    phi, D = {{phi}}, len(c)
    x = torch.zeros(n, D, dtype=b.dtype)
    a = b.expand(n, -1)
    for i in range(D):
        p = torch.sigmoid(phi(a) @ V[i] + c[i])
        u = torch.rand(n, generator=generator, dtype=b.dtype)
        x[:, i] = (u < p).to(b.dtype)
        a = a + x[:, i, None] * {{W_i}}
    return x
'''

Q4 = '''
def nade_gradient(W, b, V, c, x):
    phi, dphi = {{phi}}, {{dphi}}
    gW, gb, gV, gc = (torch.zeros_like(t) for t in (W, b, V, c))
    a = [b.expand(len(x), -1)]
    for i in range(x.shape[1] - 1):
        a.append(a[-1] + x[:, i, None] * {{W_i}})
    s = torch.zeros_like(a[0])
    for i in reversed(range(x.shape[1])):
        {{gW_i}} = x[:, i] @ s
        h = phi(a[i])
        r = x[:, i] - torch.sigmoid(h @ V[i] + c[i])
        gc[i], gV[i] = r.sum(), r @ h
        s = s + r[:, None] * V[i] * dphi(a[i])
    return gW, s.sum(0), gV, gc
'''

Q5 = '''
def log_mixture(u, mu, s, x):
    log_sigma = {{log_sigma}}
    z = (x[..., None] - mu) * torch.exp(-log_sigma)
    log_normal = -0.5 * z ** 2 - log_sigma - 0.5 * math.log(2 * math.pi)
    return torch.logsumexp(torch.log_softmax(u, -1) + log_normal, -1)
'''

Q6 = '''
def bits_per_dim(log_density, v, J, generator):
    B, D = v.shape
    u = torch.rand(J, B, D, generator=generator, dtype=torch.float64)
    w = {{width}}
    y = {{lo}} + w * (v + u)
    log_p = log_density(y.reshape(J * B, D)).reshape(J, B)
    log_P = torch.logsumexp(log_p, 0) - math.log(J) + D * math.log(w)
    return -log_P / (D * math.log(2))
'''

Q7 = '''
def fit_chain(x):
    N, D = x.shape
    mean = x.mean(0)
    y = x - mean
    B, s = torch.zeros(D, D, dtype=x.dtype), torch.zeros(D, dtype=x.dtype)
    for i in range(D):
        before = {{before_slice}}
        if len(before):
            B[i, before] = torch.linalg.lstsq(y[:, before], y[:, i:i + 1]).solution[:, 0]
        s[i] = (y[:, i] - y @ B[i]).square().mean().sqrt()
    return mean - B @ mean, B, s
'''

LOOP_BACK = Q4[Q4.index("    s = torch.zeros_like"):]

WRONG = {
    "q1_chain": {
        "the first variable is left out": but(Q1, ("range(x.shape[1])", "range(1, x.shape[1])")),
        "the factor sees its own variable": but(Q1, ("x[:, :i]", "x[:, :i + 1]")),
        "the logarithm of the product": but(Q1, ("torch.zeros(", "torch.ones("), ("total + torch.where", "total * torch.where"),
                                            ("1 - p).log()", "1 - p)"), ("return total", "return total.log()")),
        "the probability of high, whatever came": but(Q1, ("torch.where(x[:, i] == {{high}}, p, 1 - p)", "p")),
        "high and low swapped": but(Q1, ("== {{high}}", "== {{low}}")),
        "bits instead of nats": but(Q1, (".log()", ".log2()")),
        "the mean over variables": but(Q1, ("return total", "return total / x.shape[1]")),
        "the sum over the batch": but(Q1, ("return total", "return total.sum()")),
        "NaN where an entry is certain": but(Q1, ("torch.where(x[:, i] == {{high}}, p, 1 - p).log()",
                                                  "(x[:, i] == {{high}}) * p.log() + (x[:, i] != {{high}}) * (1 - p).log()")),
        "clamped probabilities": but(Q1, ("1 - p).log()", "1 - p).clamp(min=1e-6).log()")),
        "the last variable first": but(Q1, ("x[:, :i]", "x.flip(1)[:, :i]"), ("x[:, i] ==", "x.flip(1)[:, i] ==")),
        "single precision": but(Q1, ("torch.float64", "torch.float32"), ("conditional(x[:, :i])", "conditional(x[:, :i]).float()")),
    },
    "q2_nade": {
        "updated before it is read": but(Q2, ("        h = phi(a)\n", "        a = a + x[:, i, None] * {{W_i}}\n        h = phi(a)\n"),
                                         ("softplus(z)\n        a = a + x[:, i, None] * {{W_i}}", "softplus(z)")),
        "the bias of the hidden layer is missing": but(Q2, ("a = b.expand(len(x), -1)", "a = torch.zeros_like(b).expand(len(x), -1)")),
        "no activation function": but(Q2, ("h = phi(a)", "h = a")),
        "another activation function": but(Q2, ("phi = {{phi}}", "phi = torch.nn.functional.softplus")),
        "activations of activations": but(Q2, ("a = a + x", "a = h + x")),
        "the bias of the logits is missing": but(Q2, ("h @ V[i] + c[i]", "h @ V[i]")),
        "every hidden layer from all before it": but(Q2, ("        h = phi(a)\n", "        h = phi(b + x[:, :i] @ {{W_pass}}[:i])\n")),
        "a masked product, quadratic, too": '''
def nade_log_prob(W, b, V, c, x):
    phi = {{phi}}
    D = x.shape[1]
    W = {{W_pass}}
    mask = torch.ones(D, D, dtype=x.dtype).tril(-1)
    a = torch.einsum("ij,nj,jl->nil", mask, x, W) + b
    z = (phi(a) * V).sum(-1) + c
    return (x * z - torch.nn.functional.softplus(z)).sum(1)
''',
        "logarithms of sigmoids that underflow": but(Q2, ("x[:, i] * z - torch.nn.functional.softplus(z)",
                                                          "torch.where(x[:, i] > 0, torch.sigmoid(z), torch.sigmoid(-z)).log()")),
        "the exponential overflows": but(Q2, ("torch.nn.functional.softplus(z)", "torch.log(1 + torch.exp(z))")),
        "the wrong sign for zeros": but(Q2, ("x[:, i] * z - torch.nn.functional.softplus(z)",
                                             "(2 * x[:, i] - 1) * torch.nn.functional.logsigmoid(z)")),
        "changes x": but(Q2, ("    return total", "    x.mul_(0)\n    return total")),
        "a probability, not its logarithm": but(Q2, ("return total", "return total.exp()")),
        "always double precision": but(Q2, ("return total", "return total.double()")),
    },
    "q3_sample": {
        "the likelier value, always": but(Q3, ("(u < p)", "(p > 0.5)")),
        "one uniform number for all variables": but(Q3, ("    a = b.expand", "    u = torch.rand(n, generator=generator, dtype=b.dtype)\n    a = b.expand"),
                                                    ("        u = torch.rand(n, generator=generator, dtype=b.dtype)\n        x", "        x")),
        "one uniform number for all rows": but(Q3, ("torch.rand(n, gen", "torch.rand(1, gen")),
        "nothing is fed back": but(Q3, ("        a = a + x[:, i, None] * {{W_i}}\n", "")),
        "the probability is fed back": but(Q3, ("a = a + x[:, i, None]", "a = a + p[:, None]")),
        "zeros and ones swapped": but(Q3, ("u < p", "u > p")),
        "the global random numbers": but(Q3, ("torch.rand(n, generator=generator, dtype", "torch.rand(n, dtype")),
        "reseeded by itself": but(Q3, ("    phi, D", "    generator = torch.Generator().manual_seed(0)\n    phi, D")),
        "probabilities are returned": but(Q3, ("(u < p).to(b.dtype)", "p")),
        "the bias of the hidden layer is missing": but(Q3, ("b.expand(n, -1)", "torch.zeros(n, len(b), dtype=b.dtype)")),
        "normal instead of uniform numbers": but(Q3, ("torch.rand(", "torch.randn(")),
        "the weights of the next variable": but(Q3, ("a = a + x[:, i, None] * {{W_i}}", "i += i < D - 1\n        a = a + x[:, i - 1, None] * {{W_i}}")),
        "always double precision": but(Q3, ("return x", "return x.double()")),
    },
    "q4_gradient": {
        "a layer's own variable counts": but(Q4, ("        {{gW_i}} = x[:, i] @ s\n", ""),
                                             ("dphi(a[i])\n", "dphi(a[i])\n        {{gW_i}} = x[:, i] @ s\n")),
        "the sums run from the front": but(Q4, ("in reversed(range(x.shape[1]))", "in range(x.shape[1])")),
        "the mean over the batch": but(Q4, ("return gW, s.sum(0), gV, gc", "return gW / len(x), s.mean(0), gV / len(x), gc / len(x)")),
        "the residual has the wrong sign": but(Q4, ("r = x[:, i] - torch.sigmoid(h @ V[i] + c[i])", "r = torch.sigmoid(h @ V[i] + c[i]) - x[:, i]")),
        "no derivative of the activation": but(Q4, (" * dphi(a[i])", "")),
        "the derivative of another activation": but(Q4, ("{{dphi}}", "lambda a: (a > 0).to(a)")),
        "the derivative taken at h": but(Q4, ("dphi(a[i])", "dphi(h)")),
        "x is missing in the gradient of W": but(Q4, ("x[:, i] @ s", "s.sum(0)")),
        "the activation for the hidden layer in the gradient of V": but(Q4, ("r @ h", "r @ a[i]")),
        "the read-out is missing in delta": but(Q4, ("r[:, None] * V[i] *", "r[:, None] *")),
        "the order of the four": but(Q4, ("return gW, s.sum(0), gV, gc", "return gW, gc, gV, s.sum(0)")),
        "x instead of the residual": but(Q4, ("r = x[:, i] - torch.sigmoid(h @ V[i] + c[i])", "r = x[:, i]")),
        "the sum over later layers, each time anew": but(Q4, (LOOP_BACK, '''
    deltas = []
    for i in range(x.shape[1]):
        h = phi(a[i])
        r = x[:, i] - torch.sigmoid(h @ V[i] + c[i])
        gc[i], gV[i] = r.sum(), r @ h
        deltas.append(r[:, None] * V[i] * dphi(a[i]))
    for i in range(x.shape[1] - 1):
        {{gW_i}} = x[:, i] @ torch.stack(deltas[i + 1:]).sum(0)
    return gW, torch.stack(deltas).sum((0, 1)), gV, gc
''')),
        "automatic differentiation": '''
def nade_gradient(W, b, V, c, x):
    leaves = [t.clone().requires_grad_() for t in (W, b, V, c)]
    W, b, V, c = leaves
    phi, a, total = {{phi}}, b.expand(len(x), -1), 0
    for i in range(x.shape[1]):
        z = phi(a) @ V[i] + c[i]
        total = total + (x[:, i] * z - torch.nn.functional.softplus(z)).sum()
        a = a + x[:, i, None] * {{W_i}}
    return torch.autograd.grad(total, leaves)
''',
    },
    "q5_mixture": {
        "exponentials that underflow": but(Q5, ("torch.logsumexp(torch.log_softmax(u, -1) + log_normal, -1)",
                                                "(torch.softmax(u, -1) * log_normal.exp()).sum(-1).log()")),
        "weights are not normalised": but(Q5, ("torch.log_softmax(u, -1)", "u")),
        "exponentials of the logits overflow": but(Q5, ("torch.log_softmax(u, -1)", "(u.exp() / u.exp().sum(-1, keepdim=True)).log()")),
        "softmax over the wrong axis": but(Q5, ("torch.log_softmax(u, -1)", "torch.log_softmax(u, 0)")),
        "the weights themselves, not their logarithms": but(Q5, ("torch.log_softmax(u, -1)", "torch.softmax(u, -1)")),
        "deviation and variance exchanged": but(Q5, ("log_sigma = {{log_sigma}}", "log_sigma = 2 * ({{log_sigma}})")),
        "the half is missing": but(Q5, ("-0.5 * z ** 2", "-z ** 2")),
        "2 pi is missing": but(Q5, (" - 0.5 * math.log(2 * math.pi)", "")),
        "pi without the root": but(Q5, ("- 0.5 * math.log", "- math.log")),
        "the deviation is missing in front": but(Q5, ("z ** 2 - log_sigma", "z ** 2")),
        "the deviation with the wrong sign": but(Q5, ("z ** 2 - log_sigma", "z ** 2 + log_sigma")),
        "the mean of the logarithms": but(Q5, ("torch.logsumexp(torch.log_softmax(u, -1) + log_normal, -1)",
                                               "(torch.softmax(u, -1) * log_normal).sum(-1)")),
        "the sum over components is missing": but(Q5, ("torch.logsumexp(torch.log_softmax(u, -1) + log_normal, -1)",
                                                       "(torch.log_softmax(u, -1) + log_normal).amax(-1)")),
        "a small number added under the logarithm": but(Q5, ("torch.logsumexp(torch.log_softmax(u, -1) + log_normal, -1)",
                                                             "((torch.softmax(u, -1) * log_normal.exp()).sum(-1) + 1e-12).log()")),
        "always double precision": but(Q5, ("x[..., None] - mu", "x[..., None].double() - mu")),
    },
    "q6_bits": {
        "the width of the cell is missing": but(Q6, (" + D * math.log(w)", "")),
        "the width with the wrong sign": but(Q6, ("+ D * math.log(w)", "- D * math.log(w)")),
        "the width of one coordinate only": but(Q6, ("+ D * math.log(w)", "+ math.log(w)")),
        "nats": but(Q6, ("(D * math.log(2))", "D")),
        "not divided by D": but(Q6, ("(D * math.log(2))", "math.log(2)")),
        "the mean of the logarithms": but(Q6, ("torch.logsumexp(log_p, 0) - math.log(J)", "log_p.mean(0)")),
        "the sum over draws, not the mean": but(Q6, (" - math.log(J)", "")),
        "no noise": but(Q6, ("(v + u)", "(v + 0 * u)")),
        "the middle of the cell": but(Q6, ("(v + u)", "(v + 0 * u + 0.5)")),
        "noise centred at the whole number": but(Q6, ("(v + u)", "(v + u - 0.5)")),
        "normal noise": but(Q6, ("torch.rand(", "torch.randn(")),
        "densities that underflow": but(Q6, ("torch.logsumexp(log_p, 0)", "log_p.exp().sum(0).log()")),
        "one draw for all rows": but(Q6, ("torch.rand(J, B, D,", "torch.rand(J, 1, D,")),
        "one number for all coordinates": but(Q6, ("torch.rand(J, B, D,", "torch.rand(J, B, 1,")),
        "scaled by the largest value": but(Q6, ("w = {{width}}", "w = {{width}} * {{M}} / {{M_last}}")),
        "the global random numbers": but(Q6, ("generator=generator, ", "")),
        "always one draw": but(Q6, ("    B, D = v.shape", "    J = 1\n    B, D = v.shape")),
    },
    "q7_regressions": {
        "divided by N - 1": but(Q7, (".square().mean().sqrt()", ".std()")),
        "variances instead of deviations": but(Q7, (".square().mean().sqrt()", ".square().mean()")),
        "no intercept": but(Q7, ("y = x - mean", "y = x"), ("mean - B @ mean, B", "0 * mean, B")),
        "the means for intercepts": but(Q7, ("mean - B @ mean", "mean")),
        "the intercept with the wrong sign": but(Q7, ("mean - B @ mean", "mean + B @ mean")),
        "every variable from all others": but(Q7, ("{{before_slice}}", "[j for j in range(D) if j != i]")),
        "a Markov chain, one neighbour only": but(Q7, ("{{before_slice}}", "({{before_slice}})[:1]")),
        "the other order": but(Q7, ("{{before_slice}}", "[j for j in range(D) if j != i and j not in ({{before_slice}})]")),
        "the coefficients transposed": but(Q7, ("mean - B @ mean, B, s", "mean - B @ mean, B.T, s")),
        "the Cholesky factor for the coefficients": '''
def fit_chain(x):
    mean = x.mean(0)
    S = (x - mean).T @ (x - mean) / len(x)
    o = torch.arange(len(S)) if "{{triangle}}" == "lower" else torch.arange(len(S)).flip(0)
    C = torch.linalg.cholesky(S[o][:, o])[o][:, o]
    B = C - torch.diag(C.diagonal())
    return mean - B @ mean, B, C.diagonal()
''',
        "coefficients of the whitened variables": '''
def fit_chain(x):
    mean = x.mean(0)
    S = (x - mean).T @ (x - mean) / len(x)
    o = torch.arange(len(S)) if "{{triangle}}" == "lower" else torch.arange(len(S)).flip(0)
    C = torch.linalg.cholesky(S[o][:, o])[o][:, o]
    B = C / C.diagonal() - torch.eye(len(S), dtype=x.dtype)
    return mean - B @ mean, B, C.diagonal()
''',
        "a strong ridge": but(Q7, ("torch.linalg.lstsq(y[:, before], y[:, i:i + 1]).solution[:, 0]",
                                   "torch.linalg.solve(y[:, before].T @ y[:, before] + torch.eye(len(before), dtype=x.dtype), "
                                   "y[:, before].T @ y[:, i])")),
        "slopes one at a time": but(Q7, ("torch.linalg.lstsq(y[:, before], y[:, i:i + 1]).solution[:, 0]",
                                         "y[:, before].T @ y[:, i] / y[:, before].square().sum(0)")),
        "the spread of the variable, not of what is left": but(Q7, ("(y[:, i] - y @ B[i])", "y[:, i]")),
    },
}

RIGHT = {
    "q1_chain": {
        "all conditionals first": '''
def chain_log_prob(conditional, x):
    p = torch.stack([conditional(x[:, :i]) for i in range(x.shape[1])], dim=1)
    came = x == {{high}}
    p[~came] = 1 - p[~came]
    return p.log().sum(dim=1)
''',
        "numpy": '''
def chain_log_prob(conditional, x):
    import numpy as np
    logs = np.zeros(tuple(x.shape))
    with np.errstate(divide="ignore"):
        for i in range(x.shape[1]):
            p = conditional(x[:, :i]).numpy()
            logs[:, i] = np.log(np.where(x[:, i].numpy() == {{high}}, p, 1 - p))
    return torch.from_numpy(logs.sum(1))
''',
        "xlogy": '''
def chain_log_prob(conditional, x):
    t = (x.double() - ({{low}})) / ({{high}} - ({{low}}))
    out = 0
    for i in range(x.shape[1]):
        p = conditional(x[:, :i])
        out = out + torch.special.xlogy(t[:, i], p) + torch.special.xlog1py(1 - t[:, i], -p)
    return out
''',
        "row by row": '''
def chain_log_prob(conditional, x):
    rows = []
    for row in x:
        terms = []
        for i in range(len(row)):
            p = conditional(row[None, :i]).item()
            q = p if row[i].item() == {{high}} else 1 - p
            terms.append(math.log(q) if q > 0 else -math.inf)
        rows.append(math.fsum(terms))
    return torch.tensor(rows, dtype=torch.float64)
''',
    },
    "q2_nade": {
        "indices in lists, logits put together one by one": '''
def nade_log_prob(W, b, V, c, x):
    W, z = {{W_pass}}, x[:, :0]
    a = b + torch.zeros_like(x[:, [0]])
    for i in range(len(c)):
        z = torch.cat([z, {{phi}}(a) @ V[[i]].T + c[i]], 1)
        a = a + x[:, [i]] * W[[i]]
    return (x * z - torch.nn.functional.softplus(z)).sum(1)
''',
        "cumulative sums": '''
def nade_log_prob(W, b, V, c, x):
    steps = x[:, :, None] * ({{W_pass}})[None]
    a = steps.cumsum(1) - steps + b
    z = ({{phi}}(a) * V).sum(2) + c
    return -torch.nn.functional.softplus((1 - 2 * x) * z).sum(1)
''',
        "one activation, changed in place": '''
def nade_log_prob(W, b, V, c, x):
    W = {{W_pass}}
    a = b.repeat(x.shape[0], 1)
    log_p = []
    for i in range(len(c)):
        z = (V[i] * {{phi}}(a)).sum(dim=1) + c[i]
        log_p.append(torch.where(x[:, i] == 1, torch.nn.functional.logsigmoid(z), torch.nn.functional.logsigmoid(-z)))
        if i + 1 < len(c):
            a.addcmul_(x[:, i, None], W[i][None])
    return sum(log_p)
''',
        "the distribution of torch": '''
def nade_log_prob(W, b, V, c, x):
    W, hidden, a = {{W_pass}}, [], b[None]
    for bit, column in zip(x.T, W):
        hidden.append({{phi}}(a).expand(len(x), -1))
        a = torch.addr(a.expand(len(x), -1), bit, column)
    z = torch.einsum("inl,il->ni", torch.stack(hidden), V) + c
    return torch.distributions.Bernoulli(logits=z, validate_args=False).log_prob(x).sum(-1)
''',
    },
    "q3_sample": {
        "torch.bernoulli": '''
def nade_sample(W, b, V, c, n, generator):
    W, columns = {{W_pass}}, []
    a = b.repeat(n, 1)
    for i in range(c.shape[0]):
        p = torch.special.expit({{phi}}(a) @ V[i] + c[i])
        columns.append(torch.bernoulli(p, generator=generator))
        a += torch.outer(columns[-1], W[i])
    return torch.stack(columns, 1)
''',
        "all uniform numbers at once": '''
def nade_sample(W, b, V, c, n, generator):
    W = {{W_pass}}
    u = torch.rand(n, len(c), generator=generator, dtype=torch.float64)
    threshold = torch.log(u) - torch.log1p(-u)  # u < σ(z) exactly if logit(u) < z
    x = torch.zeros(n, len(c), dtype=b.dtype)
    for i in range(len(c)):
        z = {{phi}}(x @ W + b) @ V[i] + c[i]  # zeros for what is not drawn yet
        x[:, i] = (threshold[:, i] < z).to(b.dtype)
    return x
''',
        "row by row": '''
def nade_sample(W, b, V, c, n, generator):
    W, rows = {{W_pass}}, []
    u = torch.rand(n, len(c), generator=generator, dtype=torch.float64)
    A = b.repeat(n, 1)
    X = torch.empty(n, len(c), dtype=b.dtype)
    for i, (v, bias) in enumerate(zip(V, c)):
        q = 1 / (1 + torch.exp(-(torch.mv({{phi}}(A), v) + bias)))
        X[:, i] = 1 - (u[:, i] >= q).to(b.dtype)
        A = A + X[:, i].unsqueeze(1) @ W[i].unsqueeze(0)
    return X
''',
    },
    "q4_gradient": {
        "indices in lists": '''
def nade_gradient(W, b, V, c, x):
    W, hs, rs, acts = {{W_pass}}, [], [], [b.repeat(len(x), 1)]
    for i in range(len(c)):
        hs.append({{phi}}(acts[-1]))
        rs.append(x[:, [i]] - torch.sigmoid(hs[-1] @ V[[i]].T + c[i]))
        acts.append(acts[-1] + x[:, [i]] * W[[i]])
    parts, later = [], torch.zeros_like(acts[0])
    for i in reversed(range(len(c))):
        parts.insert(0, ((x[:, [i]] * later).sum(0), (rs[i] * hs[i]).sum(0), rs[i].sum()))
        later = later + rs[i] * V[[i]] * ({{dphi}})(acts[i])
    W, gV, gc = (torch.stack(each) for each in zip(*parts))
    return {{W_pass}}, later.sum(0), gV, gc
''',
        "cumulative sums": '''
def nade_gradient(W, b, V, c, x):
    phi, dphi = {{phi}}, {{dphi}}
    steps = x[:, :, None] * ({{W_pass}})[None]
    a = steps.cumsum(1) - steps + b
    h = phi(a)
    r = x - torch.sigmoid((h * V).sum(2) + c)
    delta = r[:, :, None] * V * dphi(a)
    later = delta.sum(1, keepdim=True) - delta.cumsum(1)
    gW = (x[:, :, None] * later).sum(0)
    gW = gW if "{{W_pass}}" == "W" else gW.T
    return gW, delta.sum((0, 1)), torch.einsum("bi,bil->il", r, h), r.sum(0)
''',
        "running backwards": '''
def nade_gradient(W, b, V, c, x):
    phi, dphi = {{phi}}, {{dphi}}
    a = b.repeat(len(x), 1)
    D = x.shape[1]
    for i in range(D):
        a = a + x[:, i:i + 1] * {{W_i}}
    gW, gV, gc = torch.empty_like(W), torch.empty_like(V), torch.empty_like(c)
    s = torch.zeros_like(a)
    for i in range(D - 1, -1, -1):
        a = a - x[:, i:i + 1] * {{W_i}}
        {{gW_i}} = (x[:, i:i + 1] * s).sum(0)
        r = x[:, i] - torch.sigmoid(phi(a) @ V[i] + c[i])
        gc[i] = r.sum()
        gV[i] = (r[:, None] * phi(a)).sum(0)
        s += torch.outer(r, V[i]) * dphi(a)
    return gW, s.sum(0), gV, gc
''',
        "two lists": '''
def nade_gradient(W, b, V, c, x):
    phi, dphi, W0 = {{phi}}, {{dphi}}, {{W_pass}}
    a, A = b.unsqueeze(0).repeat(len(x), 1), []
    for bit, column in zip(x.T, W0):
        A.append(a)
        a = a + bit[:, None] * column
    A = torch.stack(A)
    H = phi(A)
    R = x.T - torch.sigmoid(torch.einsum("inl,il->in", H, V) + c[:, None])
    delta = R[..., None] * V[:, None] * dphi(A)
    s, columns = torch.zeros_like(b).expand(len(x), -1), []
    for bit, d in zip(reversed(x.T.unbind()), reversed(delta.unbind())):
        columns.insert(0, bit @ s)
        s = s + d
    gW = torch.stack(columns)
    return (gW if "{{W_pass}}" == "W" else gW.T), delta.sum((0, 1)), (R[..., None] * H).sum(1), R.sum(1)
''',
    },
    "q5_mixture": {
        "by torch.distributions": '''
def log_mixture(u, mu, s, x):
    normal = torch.distributions.Normal(mu, torch.exp({{log_sigma}}), validate_args=False)
    return (u - u.logsumexp(-1, keepdim=True) + normal.log_prob(x.unsqueeze(-1))).logsumexp(-1)
''',
        "the largest term taken out by hand": '''
def log_mixture(u, mu, s, x):
    sigma = torch.exp({{log_sigma}})
    t = u - ((x[..., None] - mu) / sigma) ** 2 / 2 - sigma.log()
    top, top_u = t.amax(-1, keepdim=True).detach(), u.amax(-1, keepdim=True)
    normaliser = top_u[..., 0] + (u - top_u).exp().sum(-1).log()
    return top[..., 0] + (t - top).exp().sum(-1).log() - normaliser - math.log(2 * math.pi) / 2
''',
        "component by component": '''
def log_mixture(u, mu, s, x):
    u, mu, log_sigma = torch.broadcast_tensors(u.log_softmax(-1), mu, {{log_sigma}})
    out = None
    for k in range(u.shape[-1]):
        t = (u[..., k] - log_sigma[..., k] - math.log(math.sqrt(2 * math.pi))
             - (x - mu[..., k]) ** 2 / (2 * (2 * log_sigma[..., k]).exp()))
        out = t if out is None else torch.logaddexp(out, t)
    return out
''',
    },
    "q6_bits": {
        "draw after draw": '''
def bits_per_dim(log_density, v, J, generator):
    w, logs = {{width}}, []
    for _ in range(J):
        u = torch.rand(v.shape, generator=generator, dtype=torch.float64)
        logs.append(log_density({{lo}} + (v + u) * w) + v.shape[1] * math.log(w))
    bound = torch.stack(logs).logsumexp(0) - math.log(J)
    return -bound / math.log(2) / v.shape[1]
''',
        "in units of a cell": '''
def bits_per_dim(log_density, v, J, generator):
    B, D = v.shape
    cells = v.repeat_interleave(J, 0).double()
    cells += torch.empty_like(cells).uniform_(generator=generator)
    nats = -log_density(cells / {{M}} * {{span}} + {{lo}}).view(B, J)
    low = nats.min(1, keepdim=True).values
    mean = (low - nats).exp().mean(1)
    return (low[:, 0] - mean.log()) / (D * math.log(2)) + math.log2({{M}} / {{span}})
''',
        "one by one, in base two": '''
def bits_per_dim(log_density, v, J, generator):
    D, acc = v.shape[1], None
    for j in range(J):
        y = {{lo}} + {{width}} * (v.double() + torch.rand(*v.shape, generator=generator).double())
        term = log_density(y)
        acc = term if acc is None else torch.logaddexp(acc, term)
    return (math.log2(J) - acc / math.log(2)) / D - math.log2({{width}})
''',
    },
    "q7_regressions": {
        "from the Cholesky factor": '''
def fit_chain(x):
    mean = x.mean(0)
    y = x - mean
    D = x.shape[1]
    o = torch.arange(D) if "{{triangle}}" == "lower" else torch.arange(D - 1, -1, -1)
    C = torch.linalg.cholesky((y.T @ y / len(x))[o][:, o])
    s = C.diagonal()
    I = torch.eye(D, dtype=x.dtype)
    B = {{tri}}((I - s[:, None] * torch.linalg.inv(C))[o][:, o])  # diag(s) C⁻¹ = I − B
    return mean - B @ mean, B, s[o]
''',
        "from the QR factors of the centred data": '''
def fit_chain(x):
    D = x.shape[1]
    o = torch.arange(D) if "{{triangle}}" == "lower" else torch.arange(D).flip(0)
    mean = x.mean(0)
    R = torch.linalg.qr((x - mean)[:, o] / len(x) ** 0.5).R
    s = R.diagonal()
    B = torch.eye(D, dtype=x.dtype) - (torch.linalg.inv(R) * s).T
    B = {{tri}}(B[o][:, o])
    return mean - B @ mean, B, s.abs()[o]
''',
        "regressions with numpy": '''
def fit_chain(x):
    import numpy as np
    X = x.numpy()
    N, D = X.shape
    centre = X.mean(0)
    m, B, s = np.zeros(D), np.zeros((D, D)), np.zeros(D)
    for i in range(D):
        before = {{before_slice}}
        A = np.column_stack([X[:, before] - centre[before], np.ones(N)])
        w, *_ = np.linalg.lstsq(A, X[:, i], rcond=None)
        B[i, before], m[i] = w[:-1], w[-1] - w[:-1] @ centre[before]
        s[i] = np.sqrt(np.mean((X[:, i] - A @ w) ** 2))
    return tuple(torch.from_numpy(v) for v in (m, B, s))
''',
        "normal equations": '''
def fit_chain(x):
    mean = x.mean(0)
    S = torch.cov(x.T, correction=0).reshape(x.shape[1], x.shape[1])
    B, s2 = torch.zeros_like(S), S.diagonal().clone()
    for i in range(len(S)):
        j = torch.tensor([k for k in range(len(S)) if k != i and (k < i) == ("{{triangle}}" == "lower")])
        if j.numel():
            B[i, j] = torch.linalg.solve(S[j][:, j], S[j, i])
            s2[i] = S[i, i] - B[i, j] @ S[j, i]
    return mean - B @ mean, B, s2.sqrt()
''',
    },
}
