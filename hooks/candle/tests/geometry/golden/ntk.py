"""Writes ntk.json: the tangent kernels of two small networks, from JAX's reverse-mode Jacobians.

In double precision, from weights and inputs that single precision holds exactly. Needs numpy and jax
(made with jax 0.10.2): python ntk.py
"""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

jax.config.update("jax_enable_x64", True)
random = np.random.default_rng(20261124)


def normal(*shape, scale=1.0):
    return (scale * random.normal(size=shape)).astype(np.float32).round(3).astype(np.float32)


def perceptron(weights, x):
    hidden = jnp.tanh(x @ weights["below.weight"].T + weights["below.bias"])
    return hidden @ weights["above.weight"].T + weights["above.bias"]


def convolutional(weights, x):
    x = jax.lax.conv_general_dilated(
        x,
        weights["conv.weight"],
        window_strides=(2, 2),
        padding=((1, 1), (1, 1)),
        dimension_numbers=("NCHW", "OIHW", "NCHW"),
    )
    x = x + weights["conv.bias"][:, None, None]
    mean, variance = weights["norm.running_mean"], weights["norm.running_var"]
    x = (x - mean[:, None, None]) / jnp.sqrt(variance[:, None, None] + 1e-5)
    x = x * weights["norm.weight"][:, None, None] + weights["norm.bias"][:, None, None]
    x = jax.nn.relu(x).reshape(x.shape[0], -1)
    return x @ weights["head.weight"].T + weights["head.bias"]


def kernel(model, weights, x):
    fixed = {name: w for name, w in weights.items() if "running" in name}
    trained = {name: w for name, w in weights.items() if "running" not in name}
    jacobian = jax.jacrev(lambda w: model({**w, **fixed}, x))(trained)
    rows = [part.reshape(x.shape[0], part.shape[1], -1) for part in jacobian.values()]
    rows = np.concatenate(rows, axis=2)
    rows = rows.reshape(-1, rows.shape[2])
    return rows @ rows.T


def tensor(values):
    return {"shape": values.shape, "values": [float(value) for value in values.ravel()]}


def case(model, weights, x):
    wide = {name: jnp.asarray(w, dtype=jnp.float64) for name, w in weights.items()}
    return {
        "weights": {name: tensor(w) for name, w in sorted(weights.items())},
        "inputs": tensor(x),
        "kernel": tensor(kernel(model, wide, jnp.asarray(x, dtype=jnp.float64))),
    }


cases = {
    "perceptron": case(
        perceptron,
        {
            "below.weight": normal(6, 5, scale=0.5),
            "below.bias": normal(6, scale=0.5),
            "above.weight": normal(3, 6),
            "above.bias": normal(3),
        },
        normal(4, 5),
    ),
    "convolutional": case(
        convolutional,
        {
            "conv.weight": normal(3, 2, 3, 3, scale=0.4),
            "conv.bias": normal(3, scale=0.2),
            "norm.weight": normal(3),
            "norm.bias": normal(3),
            "norm.running_mean": normal(3, scale=0.5),
            "norm.running_var": np.abs(normal(3)) + np.float32(0.25),
            "head.weight": normal(2, 27),
            "head.bias": normal(2),
        },
        normal(3, 2, 6, 6),
    ),
}
Path(__file__).with_name("ntk.json").write_text(json.dumps(cases) + "\n")
