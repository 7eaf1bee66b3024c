"""What per-example gradient norms cost in JAX, vmap(grad) under jit, on the networks and batches of
benches/grand.rs.

    pip install jax
    python benches/engines/grand_jax.py

Milliseconds per example: wall and CPU, medians over repetitions.
"""

import os
import time
from statistics import median

import jax
import numpy
from jax import lax
from jax import numpy as jnp

CLASSES = 10
ENOUGH = 1.5
ROUNDS = 5


def linear(weights, x):
    matrix, bias = weights
    return x @ matrix.T + bias


def mlp(weights, x):
    first, second, third = weights
    return linear(third, jax.nn.relu(linear(second, jax.nn.relu(linear(first, x)))))


def convolved(weights, x):
    kernel, bias = weights
    x = lax.conv_general_dilated(x, kernel, (1, 1), [(1, 1), (1, 1)]) + bias[:, None, None]
    pool = (1, 1, 2, 2)
    return lax.reduce_window(jax.nn.relu(x), -jnp.inf, lax.max, pool, pool, "VALID")


def conv(weights, x):
    first, second, third = weights
    x = convolved(second, convolved(first, x))
    return linear(third, x.reshape(len(x), -1))


def tokens(weights, indices):
    embedding, first, second, third = weights
    x = jax.nn.relu(linear(first, embedding[indices]))
    return linear(third, jax.nn.relu(linear(second, x)).mean(1))


def norms(network):
    def loss(weights, example, label):
        return -jax.nn.log_softmax(network(weights, example[None])[0])[label]

    def norm(weights, example, label):
        gradients = jax.tree.leaves(jax.grad(loss)(weights, example, label))
        return jnp.sqrt(sum(jnp.sum(gradient**2) for gradient in gradients))

    return jax.jit(jax.vmap(norm, in_axes=(None, 0, 0)))


def training(network):
    def loss(weights, inputs, labels):
        logs = jax.nn.log_softmax(network(weights, inputs))
        return -jnp.take_along_axis(logs, labels[:, None], 1).mean()

    return jax.jit(jax.grad(loss))


def measure(run, examples):
    """Milliseconds of wall and of CPU time per example."""
    jax.block_until_ready(run())
    measured = []
    for _ in range(ROUNDS):
        wall, cpu, done = time.perf_counter(), os.times(), 0
        while time.perf_counter() - wall < ENOUGH:
            jax.block_until_ready(run())
            done += examples
        now = os.times()
        used = now.user + now.system - cpu.user - cpu.system
        measured.append(((time.perf_counter() - wall) / done * 1e3, used / done * 1e3))
    return [median(column) for column in zip(*measured)]


def main():
    random = numpy.random.default_rng(1)

    def weights(*shape):
        scale = (2 / numpy.prod(shape[1:])) ** 0.5
        matrix = random.normal(size=shape, scale=scale).astype(numpy.float32)
        return jnp.asarray(matrix), jnp.zeros(shape[0], jnp.float32)

    def uniform(*shape):
        return jnp.asarray(random.random(shape, dtype=numpy.float32))

    networks = {
        "mlp": (
            mlp,
            (weights(300, 784), weights(100, 300), weights(CLASSES, 100)),
            uniform(256, 784),
        ),
        "conv": (
            conv,
            (weights(16, 1, 3, 3), weights(32, 16, 3, 3), weights(CLASSES, 32 * 7 * 7)),
            uniform(128, 1, 28, 28),
        ),
        "tokens": (
            tokens,
            (weights(1000, 128)[0], weights(256, 128), weights(128, 256), weights(CLASSES, 128)),
            jnp.asarray(random.integers(1000, size=(64, 32))),
        ),
    }
    print(f"jax {jax.__version__} on {jax.devices()[0].platform}, {os.cpu_count()} cores")
    print(f"{'milliseconds per example':<26} {'wall':>9} {'CPU':>9}")
    for name, (network, values, inputs) in networks.items():
        labels = jnp.arange(len(inputs)) % CLASSES
        for way, run in (("training", training(network)), ("norms", norms(network))):
            wall, cpu = measure(lambda run=run: run(values, inputs, labels), len(inputs))
            print(f"{name + ':' + way:<26} {wall:9.4f} {cpu:9.4f}", flush=True)


if __name__ == "__main__":
    main()
