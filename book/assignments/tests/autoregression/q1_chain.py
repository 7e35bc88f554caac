from dpmlib.classroom import test_case

OK_FORMAT = False

name = 'q1_chain'
points = None


@test_case(name='a Markov chain', points=1, hidden=False, failure_message='A Markov chain with known transition probabilities: log p(x) must be the sum of D logarithms, the first entry included.')
def test_markov(chain_log_prob):
    import math
    import torch
    start, stay = 0.3, 0.8  # p(x_1 = high), p(x_i = x_{i-1})

    def conditional(prefix):
        if prefix.shape[1] == 0:
            return torch.full((len(prefix),), start, dtype=torch.float64)
        last = prefix[:, -1] == 1
        return 1 - stay + (2 * stay - 1) * last.double()

    rows = [[1, 1, 0, 0, 1], [0, 0, 0, 1, 1], [1, 0, 1, 0, 1]]
    x = torch.tensor(rows).double() * (1 - (0)) + (0)
    got = chain_log_prob(conditional, x)
    assert got is not None and tuple(got.shape) == (3,), "the result must have shape (B,)"
    for row, value in zip(rows, got.tolist()):
        same = sum(a == b for a, b in zip(row, row[1:]))
        expected = math.log(start if row[0] else 1 - start)
        expected += same * math.log(stay) + (4 - same) * math.log(1 - stay)
        message = f"x = {row} (0 low, 1 high): expected {expected:.6f}, got {value:.6f}"
        assert abs(value - expected) < 1e-9, message


@test_case(name='sums to one', points=1, hidden=False, failure_message='Over all 2^D states the probabilities must sum to 1, whatever the conditionals. If not: does the i-th factor see x_i itself, or is one factor missing?')
def test_normalised(chain_log_prob):
    import torch
    D = 8
    bits = torch.arange(2 ** D)[:, None] >> torch.arange(D) & 1
    x = bits.double() * (1 - (0)) + (0)

    def conditional(prefix):
        k = torch.arange(1, prefix.shape[1] + 1).double()
        return torch.sigmoid(3 * torch.sin((prefix * k.sqrt()).sum(1) + 1.3 * len(k)))

    log_p = chain_log_prob(conditional, x)
    assert log_p is not None, "nothing was returned"
    p = log_p.exp()
    assert abs(p.sum() - 1) < 1e-10, f"sum of p(x) over {2 ** D} states is {p.sum():.6f}"
    for i in range(D):  # the conditionals of the product are those we began with
        for s in (0, 77, 200):
            same = (x[:, :i] == x[s, :i]).all(1)
            ratio = p[same & (x[:, i] == 1)].sum() / p[same].sum()
            given = conditional(x[s:s + 1, :i])[0]
            message = f"variable {i + 1}: conditional {given:.4f} went in, {ratio:.4f} came out"
            assert abs(ratio - given) < 1e-9, message
