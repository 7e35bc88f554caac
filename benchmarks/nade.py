"""NADE's and RNADE's log_prob by the running activation, O(dL), beside the definition, O(d²L), at d up to 3072 (a CIFAR-10 image).

    python benchmarks/nade.py
"""
import time

import torch

from dpmlib.autoregressive import NADE, RNADE, naive_log_prob

HIDDEN, BATCH, REPEATS = 64, 16, 5


def milliseconds(*calls):
    """Best of REPEATS, taken in turns."""
    best = [float("inf")] * len(calls)
    for _ in range(REPEATS):
        for i, call in enumerate(calls):
            start = time.perf_counter()
            call()
            best[i] = min(best[i], 1e3 * (time.perf_counter() - start))
    return best


@torch.no_grad()
def main():
    torch.set_num_threads(1)
    print(f"log_prob of {BATCH} vectors, {HIDDEN} hidden units, one thread; milliseconds, best of {REPEATS}")
    print(f"{'model':6} {'d':>5} {'scan':>8} {'naive':>8} {'ratio':>6} {'apart (nats/dim)':>17}")
    ratio = {}
    for name, make in (("NADE", NADE), ("RNADE", lambda d, L: RNADE(d, L, 5))):
        for d in (192, 768, 3072):
            model = make(d, HIDDEN)
            x = torch.randn(BATCH, d, generator=torch.Generator().manual_seed(0))
            x = (x > 0).float() if name == "NADE" else x
            scan, naive = milliseconds(lambda: model.log_prob(x), lambda: naive_log_prob(model, x))    # noqa: B023
            apart = (model.double().log_prob(x) - naive_log_prob(model, x)).abs().max().item() / d
            ratio[name, d] = naive / scan
            print(f"{name:6} {d:5} {scan:8.1f} {naive:8.1f} {naive / scan:6.1f} {apart:17.1e}")
    print(f"at d = 3072 NADE's scan is {ratio['NADE', 3072]:.1f} times as fast as the definition (wanted: 5 or more)")


if __name__ == "__main__":
    main()
