from dpmlib.classroom import test_case

OK_FORMAT = False

name = 'q6_path'
points = None


@test_case(name='the costs for Gaussian data', points=1, hidden=False, failure_message='For data N(μ, a² I), Γ_t = 1/V_t with V = ᾱ a² + β̄, and 1 − β_{t|s} Γ_t = ᾱ_t V_s/(ᾱ_s V_t).')
def test_costs(jump_costs):
    import torch

    a2 = 0.7 ** 2
    abar = torch.tensor([1.0, 0.9, 0.7, 0.4, 0.2]).double()
    V = abar * a2 + 1 - abar
    cost = torch.as_tensor(jump_costs((1 / V)[1:], abar))
    assert cost.shape == (5, 5), f"shape {tuple(cost.shape)}, expected (5, 5)"
    for t in range(5):
        for s in range(5):
            if 1 <= s < t:
                right = torch.log(abar[t] * V[s] / (abar[s] * V[t])).item()
                assert abs(float(cost[t, s]) - right) < 1e-9, f"cost[{t}, {s}] = {float(cost[t, s]):.4f}, expected {right:.4f}"
            else:
                assert cost[t, s] == torch.inf, f"cost[{t}, {s}] = {float(cost[t, s])}, expected infinity"


@test_case(name='against all paths', points=2, hidden=False, failure_message='On a chain of eight steps every path can be tried.')
def test_exhaustive(best_path):
    import itertools
    import torch

    N = 8
    cost = torch.rand(N + 1, N + 1, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    for K in (2, 3, 5, 7, 8):
        found = best_path(cost.clone(), K)
        assert found is not None, "best_path returned nothing"
        found = [int(n) for n in found]
        ok = len(found) == K and found[0] == 1 and found[-1] == N and all(a < b for a, b in zip(found, found[1:]))
        assert ok, f"K = {K}: {found} is not an increasing list of {K} steps from 1 to {N}"
        total = lambda p: sum(cost[t, s].item() for s, t in zip(p, p[1:]))
        right = min(([1, *middle, N] for middle in itertools.combinations(range(2, N), K - 2)), key=total)
        assert total(found) <= total(right) + 1e-9, f"K = {K}: {found} costs {total(found):.4f}, and {right} only {total(right):.4f}"
