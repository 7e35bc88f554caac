from dpmlib.classroom import test_case

OK_FORMAT = False

name = 'q7_orders'
points = None


@test_case(name='a pure power', points=1, hidden=False, failure_message='A solver that errs by v/n³ has the order 3 between any two counts.')
def test_power(measured_orders):
    import torch

    exact = torch.tensor([[1.0, -2.0], [0.5, 3.0]]).double()
    v = torch.tensor([[0.3, 0.1], [-0.2, 1.0]]).double()
    for p in (1, 2, 3):
        found = measured_orders(lambda n: exact + v / n**p, exact, [5, 10, 20])
        assert found is not None and len(found) == 2, f"got {found}, expected two numbers"
        assert all(abs(float(f) - p) < 1e-9 for f in found), f"got {[float(f) for f in found]}, expected {p} twice"
