"""Makes the golden files of this directory: small networks, a batch, and the norm of every example's
own gradient as JAX's vmap(grad) gives it, in f64.

    pip install jax safetensors numpy
    python make.py

Each file holds the weights by name, and `inputs`, `labels` and `norms`.
"""

from pathlib import Path

import jax
import numpy
from jax import lax
from jax import numpy as jnp
from safetensors.numpy import save_file

jax.config.update("jax_enable_x64", True)
EPS = 1e-3


def norms(network, weights, inputs, labels):
    def loss(weights, example, label):
        # A batch of one: every operation of the network is one of a batch.
        return -jax.nn.log_softmax(network(weights, example[None])[0])[label]

    def norm(example, label):
        gradients = jax.tree.leaves(jax.grad(loss)(weights, example, label))
        return jnp.sqrt(sum(jnp.sum(gradient**2) for gradient in gradients))

    return jax.vmap(norm)(inputs, labels)


def linear(weights, name, x):
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def conv(weights, name, x, stride, padding, dilation, groups):
    y = lax.conv_general_dilated(
        x,
        weights[f"{name}.weight"],
        (stride, stride),
        [(padding, padding)] * 2,
        rhs_dilation=(dilation, dilation),
        feature_group_count=groups,
    )
    return y + weights[f"{name}.bias"][:, None, None]


def normalized(x, axes):
    return (x - x.mean(axes, keepdims=True)) / jnp.sqrt(x.var(axes, keepdims=True) + EPS)


def images(weights, x):
    x = conv(weights, "first", x, stride=1, padding=1, dilation=1, groups=1)
    # In evaluation mode with the statistics that a new layer has: mean 0, variance 1.
    x = x / jnp.sqrt(1 + EPS)
    x = x * weights["batch_norm.weight"][:, None, None] + weights["batch_norm.bias"][:, None, None]
    x = jax.nn.relu(x)
    x = x.reshape(*x.shape[:2], 4, 2, 4, 2).mean((3, 5))
    x = conv(weights, "second", x, stride=2, padding=2, dilation=2, groups=2)
    batch, channels, height, width = x.shape
    grouped = normalized(x.reshape(batch, 2, -1), (2,)).reshape(x.shape)
    x = grouped * weights["group_norm.weight"][:, None, None]
    x = x + weights["group_norm.bias"][:, None, None]
    slopes = weights["slopes.weight"][:, None, None]
    x = jnp.where(x > 0, x, slopes * x)
    return linear(weights, "output", x.reshape(batch, -1))


def pooled(weights, x):
    x = jax.nn.relu(conv(weights, "first", x, stride=1, padding=1, dilation=1, groups=1))
    # Windows that overlap: three by three, two apart.
    x = lax.reduce_window(x, -jnp.inf, lax.max, (1, 1, 3, 3), (1, 1, 2, 2), "VALID")
    x = jax.nn.relu(conv(weights, "second", x, stride=1, padding=1, dilation=1, groups=1))
    # Windows that leave a row and a column over.
    x = lax.reduce_window(x, -jnp.inf, lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID")
    return linear(weights, "output", x.reshape(len(x), -1))


def tokens(weights, indices):
    x = weights["tokens.weight"][indices]
    x = normalized(x, (-1,)) * weights["layer_norm.weight"] + weights["layer_norm.bias"]
    query, key, value = (linear(weights, name, x) for name in ("query", "key", "value"))
    x = x + jax.nn.softmax(query @ key.swapaxes(1, 2), axis=-1) @ value
    scale = 1 / jnp.sqrt((x**2).mean(-1, keepdims=True) + EPS)
    x = x * scale * weights["rms_norm.weight"]
    x = jnp.tanh(linear(weights, "hidden", x))
    return linear(weights, "output", x.mean(1))


def make(name, network, shapes, inputs, classes):
    random = numpy.random.default_rng(0)
    weights = {
        key: random.normal(size=shape, scale=0.5).astype(numpy.float32)
        for key, shape in shapes.items()
    }
    labels = random.integers(classes, size=len(inputs), dtype=numpy.uint32)
    wide = {key: value.astype(numpy.float64) for key, value in weights.items()}
    wide_inputs = inputs.astype(numpy.float64) if inputs.dtype == numpy.float32 else inputs
    result = norms(network, wide, wide_inputs, labels)
    tensors = weights | {"inputs": inputs, "labels": labels, "norms": numpy.asarray(result)}
    save_file(tensors, Path(__file__).with_name(f"{name}.safetensors"))
    print(name, numpy.asarray(result))


def with_bias(name, *shape):
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


def main():
    random = numpy.random.default_rng(1)
    make(
        "images",
        images,
        with_bias("first", 4, 2, 3, 3)
        | with_bias("batch_norm", 4)
        | with_bias("second", 6, 2, 3, 3)
        | with_bias("group_norm", 6)
        | {"slopes.weight": (6,)}
        | with_bias("output", 3, 6 * 2 * 2),
        random.normal(size=(6, 2, 8, 8)).astype(numpy.float32),
        classes=3,
    )
    make(
        "tokens",
        tokens,
        {"tokens.weight": (11, 8), "rms_norm.weight": (8,)}
        | with_bias("layer_norm", 8)
        | with_bias("query", 8, 8)
        | with_bias("key", 8, 8)
        | with_bias("value", 8, 8)
        | with_bias("hidden", 8, 8)
        | with_bias("output", 4, 8),
        random.integers(11, size=(6, 7), dtype=numpy.uint32),
        classes=4,
    )
    # More examples than one pass takes at first.
    make(
        "pooled",
        pooled,
        with_bias("first", 4, 2, 3, 3) | with_bias("second", 6, 4, 3, 3) | with_bias("output", 3, 24),
        random.normal(size=(20, 2, 11, 11), scale=0.2).astype(numpy.float32),
        classes=3,
    )


if __name__ == "__main__":
    main()
