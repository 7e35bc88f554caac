from dpmlib.classroom import test_case

OK_FORMAT = False

name = 'q5_second'
points = None


@test_case(name='where it asks', points=1, hidden=False, failure_message='Two evaluations a step: at λ_s, and at λ_s + 0.8 h.')
def test_levels(dpm_solver_2):
    import torch

    asked = []

    def level_at(lam):
        lam = torch.as_tensor(lam, dtype=torch.float64)
        return torch.sigmoid(2 * lam).sqrt(), torch.sigmoid(-2 * lam).sqrt()

    def spy(x, a, s):
        asked.append(float(torch.log(torch.as_tensor(a) / torch.as_tensor(s))))
        return 0.3 * x

    dpm_solver_2(spy, torch.ones(2, 2).double(), torch.tensor([-1.0, 0.0, 2.0]).double(), level_at)
    right = [-1.0, -1.0 + 0.8, 0.0, 2.0 * 0.8]
    shown = [round(v, 3) for v in asked]
    assert len(asked) == 4 and all(abs(a - b) < 1e-6 for a, b in zip(asked, right)), f"asked at λ = {shown}, expected {[round(v, 3) for v in right]}"


@test_case(name='one point', points=1, hidden=False, failure_message='If all data are one point, ε̂ does not change along the path, D = 0, and every step is exact.')
def test_point(dpm_solver_2):
    import torch

    mu, eps = torch.tensor([0.8, 1.0]).double(), torch.tensor([[0.5, -2.0], [1.0, 0.3], [0.0, 0.1]]).double()
    level_at = lambda lam: (torch.sigmoid(2 * torch.as_tensor(lam).double()).sqrt(), torch.sigmoid(-2 * torch.as_tensor(lam).double()).sqrt())
    lam = torch.tensor([-2.0, -0.5, 0.0, 1.5]).double()
    (a0, s0), (a1, s1) = level_at(lam[0]), level_at(lam[-1])
    found = dpm_solver_2(lambda x, a, s: (x - a * mu) / s, a0 * mu + s0 * eps, lam, level_at)
    right = a1 * mu + s1 * eps
    assert found is not None and found.shape == (3, 2) and torch.allclose(found, right, atol=1e-8), f"got {found.round(decimals=6).tolist()}, expected {right.round(decimals=6).tolist()}"
