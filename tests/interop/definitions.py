"""The definitions of signals and scores, written out in NumPy float64 and plain Python.

Nothing here shares code or method with the library: each function is its formula, word for word.
"""

from decimal import Decimal, localcontext

import numpy as np


SIGNALS = ["el2n", "el1n", "loss", "margin", "confidence", "entropy"]


def one_hot(labels, classes: int) -> np.ndarray:
    return np.eye(classes)[np.asarray(labels)]


def signals(logits, targets) -> dict[str, np.ndarray]:
    """Every signal of logits `[rows, classes]` against targets of the same shape."""
    z = np.asarray(logits, dtype=np.float64)
    y = np.asarray(targets, dtype=np.float64)
    rows = np.arange(len(z))
    # Minus infinity masks a class out, but not all of them.
    broken = np.isnan(z).any(axis=1) | (z == np.inf).any(axis=1) | (z == -np.inf).all(axis=1)
    z = np.where(broken[:, None], 0.0, z)

    shifted = z - z.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    p = np.exp(log_p)
    # 0 times minus infinity contributes nothing.
    y_log_p = np.where(y > 0, y * np.where(y > 0, log_p, 0.0), 0.0)
    p_log_p = p * np.where(p > 0, log_p, 0.0)
    label = y.argmax(axis=1)
    others = z.copy()
    others[rows, label] = -np.inf
    values = {
        "el2n": np.sqrt(((p - y) ** 2).sum(axis=1)),
        "el1n": np.abs(p - y).sum(axis=1),
        "loss": -y_log_p.sum(axis=1),
        "margin": z[rows, label] - others.max(axis=1),
        "confidence": p[rows, label],
        "entropy": -p_log_p.sum(axis=1),
    }
    for name in values:
        values[name] = np.where(broken, np.nan, values[name])
    values["correct"] = (z.argmax(axis=1) == label) & ~broken
    return values


def signals_exactly(logits, label: int) -> dict[str, float]:
    """The signals of one row to 60 digits, so that tiny errors keep their relative precision."""
    with localcontext() as context:
        context.prec = 60
        z = [Decimal(float(value)) for value in logits]
        terms = [(value - max(z)).exp() for value in z]
        p = [term / sum(terms) for term in terms]
        error = [value - (1 if k == label else 0) for k, value in enumerate(p)]
        return {
            "el2n": float(sum(value * value for value in error).sqrt()),
            "el1n": float(sum(abs(value) for value in error)),
            "loss": float(-p[label].ln()),
            "confidence": float(p[label]),
            "entropy": float(-sum(value * value.ln() for value in p if value > 0)),
        }


def bfloat16(values) -> tuple[np.ndarray, np.ndarray]:
    """Values rounded to bfloat16, to nearest even: their bits as uint16, and they as float64."""
    bits = np.asarray(values, dtype=np.float32).view(np.uint32).astype(np.uint64)
    rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    return rounded, (rounded.astype(np.uint32) << 16).view(np.float32).astype(np.float64)


def over_time(confidences, correct, window: int = 10) -> dict[str, float]:
    """Scores of the `p_t` of one example in order, and whether each presentation was right.

    The dataset map with its threshold closeness and its count of forgetting (the cartography program's
    `compute_train_dy_metrics`), dynamic uncertainty (He et al. 2023, equations 2 and 3) and DUAL (Cho et
    al. 2025, equation 4), whose program has windows of 10 and `torch.std`, which divides by n - 1.
    """
    p = np.asarray(confidences, dtype=np.float64)
    times_forgotten, learned = 0, False
    for right in correct:
        times_forgotten += learned and not right
        learned = right
    windows = np.lib.stride_tricks.sliding_window_view(p, min(window, len(p)))
    deviations = windows.std(axis=1, ddof=1) if len(p) > 1 else np.array([np.nan])
    return {
        "cartography_confidence": p.mean(),
        "cartography_variability": p.std(),
        "cartography_correctness": np.mean(correct),
        "cartography_forgetting": float(times_forgotten if any(correct) else 1000),
        "threshold_closeness": p.mean() * (1 - p.mean()),
        "dynamic_uncertainty": deviations.mean(),
        "dual": ((1 - windows.mean(axis=1)) * deviations).mean(),
    }


def forgetting(presentations: list[bool]) -> dict[str, float]:
    """Toneva et al. 2018, section 3: a forgetting event is acc(t) > acc(t + 1)."""
    events = 0
    for now, after in zip(presentations, presentations[1:]):
        if now > after:
            events += 1
    learned = True in presentations
    return {
        "forgetting": float(events if learned else len(presentations)),
        "forgetting_inf": float(events) if learned else float("inf"),
        "never_learned": float(not learned),
        "first_learned": float(presentations.index(True)) if learned else float("nan"),
        "presentations": float(len(presentations)),
    }
