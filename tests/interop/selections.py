"""The selections of the research programs, written out in NumPy from their procedures.

Positions in, positions out. Where scores are equal, NumPy's stable sort leaves the order of the
positions, which is the order of the ids here; the programs themselves use an unstable sort, whose order
of equal scores is nobody's intention.
"""

import math

import numpy as np


def keep_lowest(scores, size):
    """Data Diet's `keep_min_scores`: the first `size` in ascending order."""
    return np.sort(np.argsort(scores, kind="stable")[:size])


def keep_highest(scores, size):
    """Data Diet's `keep_max_scores`: the last `size` in ascending order."""
    order = np.argsort(scores, kind="stable")
    return np.sort(order[len(order) - size :])


def keep_window(scores, offset, size):
    """Data Diet's `offset` subset: `size` in ascending order from `offset` on."""
    return np.sort(np.argsort(scores, kind="stable")[offset : offset + size])


def drop_hardest(scores, number, hard):
    """The positions that are left without the `number` hardest."""
    order = np.argsort(scores, kind="stable")
    return np.sort(order[: len(order) - number] if hard == "high" else order[number:])


def strata_by_range(scores, strata):
    """Coverage-centric coreset selection, algorithm 1: ranges of equal width over all scores."""
    borders = np.linspace(scores.min(), scores.max(), strata + 1)
    return np.digitize(scores, borders[1:-1])


def strata_by_widened_range(scores, strata):
    """The strata of the authors' program: the range ends a ten-thousandth above the highest score."""
    low, high = scores.min(), scores.max() * 1.0001
    step = (high - low) / strata
    places = np.full(len(scores), -1)
    for stratum in range(strata):
        start, end = low + stratum * step, low + (stratum + 1) * step
        places[(scores >= start) & (scores < end)] = stratum
    return places


def beta_weights(scores, prediction_means, pruned, c_d):
    """`beta_sampling` of the DUAL program: the weights of its draws, by the density in full."""
    highest = np.argsort(scores, kind="stable")[-10:]
    b = 15 * (1 - prediction_means[highest].mean()) * (1 - pruned**c_d)
    a = 16 - b
    factor = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b))
    return scores * factor * prediction_means ** (a - 1) * (1 - prediction_means) ** (b - 1)


def draw_without_replacement(weights, size, uniforms):
    """The `size` positions whose waiting times, with the weights as rates, end first."""
    times = -np.log(uniforms) / weights
    return np.sort(np.argsort(times, kind="stable")[:size])


def splitmix64(seed, number):
    """Uniform numbers of the generator SplitMix64, the upper 53 bits and a half."""
    mask, numbers = (1 << 64) - 1, []
    for _ in range(number):
        seed = (seed + 0x9E3779B97F4A7C15) & mask
        z = ((seed ^ (seed >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        numbers.append((((z ^ (z >> 31)) >> 11) + 0.5) / (1 << 53))
    return np.array(numbers)


def stratum_budgets(sizes, budget):
    """Algorithm 1: while there are strata, the smallest gives its share of what is left, or all."""
    waiting = {stratum: int(size) for stratum, size in enumerate(sizes)}
    budgets = np.zeros(len(sizes), dtype=int)
    while waiting:
        smallest = min(waiting, key=lambda stratum: (waiting[stratum], stratum))
        budgets[smallest] = min(waiting[smallest], budget // len(waiting))
        budget -= budgets[smallest]
        del waiting[smallest]
    return budgets
