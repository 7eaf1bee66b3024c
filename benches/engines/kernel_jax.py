"""What the tangent kernel of 100 examples and 10 classes costs in JAX: every example's Jacobian by
vmap(jacrev) and the product of all of them, under jit, on the networks and weights of benches/kernel.rs.

    pip install jax
    cargo bench --features cli --bench kernel --no-run
    python benches/engines/kernel_jax.py target/release/deps/kernel-0123456789abcdef

Given that program, which Cargo names, it is run in turn with JAX, the two kernels are compared, and the
ratios are printed. Milliseconds of wall and CPU per kernel, medians of the rounds; compiling is left out.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from statistics import median

import jax
import numpy
from jax import lax
from jax import numpy as jnp

EXAMPLES = 100
CLASSES = 10
ENOUGH = 1.0
ROUNDS = 5


def linear(weights, x):
    bias, matrix = weights
    return matrix @ x + bias


def mlp(weights, x):
    first, second, third = weights
    return linear(third, jax.nn.relu(linear(second, jax.nn.relu(linear(first, x)))))


def convolved(weights, x):
    bias, kernel = weights
    x = lax.conv_general_dilated(x, kernel, (1, 1), [(1, 1), (1, 1)]) + bias[:, None, None]
    x = jax.nn.relu(x)
    height, width = (side // 2 for side in x.shape[2:])
    return x.reshape(1, -1, height, 2, width, 2).mean((3, 5))


def conv(weights, x):
    first, second, third = weights
    return linear(third, convolved(second, convolved(first, x[None])).reshape(-1))


def kernel(network):
    def products(weights, inputs):
        jacobians = jax.vmap(jax.jacrev(network), in_axes=(None, 0))(weights, inputs)
        rows = (leaf.reshape(EXAMPLES * CLASSES, -1) for leaf in jax.tree.leaves(jacobians))
        return sum(of_parameter @ of_parameter.T for of_parameter in rows)

    return jax.jit(products)


def numbers(seed, shape):
    """The numbers of benches/kernel.rs."""
    place = numpy.arange(numpy.prod(shape), dtype=numpy.uint64)
    bits = (numpy.uint64(seed << 32) | place) * numpy.uint64(0x9E3779B97F4A7C15)
    bits = (bits ^ (bits >> numpy.uint64(30))) * numpy.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> numpy.uint64(27))) * numpy.uint64(0x94D049BB133111EB)
    return ((bits >> numpy.uint64(11)).astype(numpy.float64) / 2.0**52 - 1).reshape(shape)


def weights(*shapes):
    """Biases and weights of layers, in order."""
    layers = []
    for place, shape in enumerate(shapes):
        bias = numbers(2 * place + 1, shape[:1]) * 0.1
        matrix = numbers(2 * place + 2, shape) * (6 / numpy.prod(shape[1:])) ** 0.5
        layers.append((jnp.asarray(bias, jnp.float32), jnp.asarray(matrix, jnp.float32)))
    return tuple(layers)


def measure(run):
    """Milliseconds of wall and of CPU time per kernel."""
    wall, cpu, done = time.perf_counter(), os.times(), 0
    while done == 0 or time.perf_counter() - wall < ENOUGH:
        jax.block_until_ready(run())
        done += 1
    now = os.times()
    used = now.user + now.system - cpu.user - cpu.system
    return (time.perf_counter() - wall) / done * 1e3, used / done * 1e3


def measure_ours(program, network, save):
    """The same of benches/kernel.rs, and its kernel."""
    command = [program, "--case", f"{network}:batches", "--save", save]
    measured = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    saved = numpy.fromfile(save, numpy.float32).reshape(EXAMPLES * CLASSES, -1)
    return measured["wall"], measured["cpu"], saved


def main():
    program = sys.argv[1] if len(sys.argv) > 1 else None
    networks = {
        "mlp": (mlp, weights((300, 784), (100, 300), (CLASSES, 100)), (784,)),
        "conv": (conv, weights((16, 1, 3, 3), (32, 16, 3, 3), (CLASSES, 32 * 7 * 7)), (1, 28, 28)),
    }
    print(f"jax {jax.__version__} on {jax.devices()[0].platform}, {os.cpu_count()} cores")
    print(f"{'milliseconds per kernel':<26} {'wall':>9} {'CPU':>9}")
    for name, (network, values, shape) in networks.items():
        inputs = jnp.asarray(numbers(0, (EXAMPLES, *shape)), jnp.float32)
        compiled = kernel(network)
        theirs = numpy.asarray(compiled(values, inputs), numpy.float64)
        of_jax, of_ours, ours = [], [], None
        with tempfile.TemporaryDirectory() as directory:
            for _ in range(ROUNDS):
                of_jax.append(measure(lambda: compiled(values, inputs)))
                if program:
                    *measured, ours = measure_ours(program, name, os.path.join(directory, "kernel"))
                    of_ours.append(measured)
        wall, cpu = (median(column) for column in zip(*of_jax))
        print(f"{name + ':jax':<26} {wall:9.2f} {cpu:9.2f}", flush=True)
        if program:
            our_wall, our_cpu = (median(column) for column in zip(*of_ours))
            most = numpy.sqrt(numpy.outer(theirs.diagonal(), theirs.diagonal()))
            errors = abs(ours - theirs) / most
            print(f"{name + ':data-diet':<26} {our_wall:9.2f} {our_cpu:9.2f}")
            print(f"{'  times as fast':<26} {wall / our_wall:9.1f} {cpu / our_cpu:9.1f}")
            # Of an example with a unit that rounding switches on or off, the gradient is another one.
            print(
                f"  differences in units of both gradients' norms: median {numpy.median(errors):.1e}, "
                f"largest {errors.max():.1e}, over 1e-5 in {(errors.diagonal() > 1e-5).sum()} rows",
                flush=True,
            )


if __name__ == "__main__":
    main()
