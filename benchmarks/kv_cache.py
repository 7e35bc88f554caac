"""What the KV cache saves: the same 256 tokens sampled with it and with the whole prefix run again at every step.

Both draw from the same generator. They take turns and the best processor time of each counts, so that a busy machine slows both.
"""

import time

import torch

from dpmlib.autoregressive.transformer import CausalTransformer


def multiply_adds(d: int, vocab: int, width: int, depth: int, cache: bool, block=lambda W: 12 * W * W) -> int:
    """Multiply-adds in the matrix products of one sequence of d tokens.

    A token costs 12 W² per block and V W in the head, and 2 W per block for each token that it is compared with and reads. With the
    cache, step k runs one token, which sees k; without, it runs k tokens, and a masked product costs as much as any: k² pairs.
    """
    fixed, pair = depth * block(width) + vocab * width, 2 * width * depth
    return sum((fixed + pair * k) if cache else k * (fixed + pair * k) for k in range(1, d + 1))


def seconds(net: CausalTransformer, n: int, rounds: int = 2) -> tuple[float, float]:
    """Best processor time of sampling n sequences with the cache and without."""
    best = [float("inf")] * 2
    for _ in range(rounds):
        for i, cache in enumerate((True, False)):
            start = time.process_time()
            net.sample(n, torch.Generator().manual_seed(0), cache=cache)
            best[i] = min(best[i], time.process_time() - start)
    return best[0], best[1]


def ratio(d: int = 256, vocab: int = 256, n: int = 8, width: int = 64, depth: int = 2, heads: int = 4, rounds: int = 1) -> float:
    """Time without the cache over time with it."""
    net = CausalTransformer(d, vocab, width, depth, heads)
    net.sample(n, torch.Generator().manual_seed(0))
    fast, slow = seconds(net, n, rounds)
    return slow / fast


if __name__ == "__main__":
    torch.set_num_threads(1)
    for width, depth, n in [(64, 2, 1), (64, 2, 8), (128, 4, 1), (128, 4, 8)]:
        work = multiply_adds(256, 256, width, depth, False) / multiply_adds(256, 256, width, depth, True)
        times = ratio(n=n, width=width, depth=depth)
        print(f"256 tokens, width {width}, {depth} blocks, {n} at a time: without the cache {times:5.1f} times the processor time "
              f"({work:.0f} times the multiply-adds)")
