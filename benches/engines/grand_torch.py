"""What per-example gradient norms cost in PyTorch, torch.func.vmap(grad), on the networks and batches of
benches/cuda, on a CUDA device if there is one.

    pip install torch
    python benches/engines/grand_torch.py

Prints examples per second, medians over repetitions: one call for the whole batch, in pieces where its
gradients do not fit in memory together, and a backward pass per example. Evaluation mode, float32, no
TF32. On the CPU the networks are tiny, which shows that it runs and nothing else.
"""

import json
import time
from statistics import median

import torch
from torch import nn
from torch.func import functional_call, grad, vmap
from torch.nn.functional import cross_entropy

CLASSES = 10
# Repetitions, whatever the time they take and at most, and the seconds for each way of each network.
ROUNDS = 3, 31
SECONDS = 10
PIECES = 1, 2, 4, 8, 16, 32


def convolution(inputs, outputs, kernel, stride):
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs))


class Block(nn.Module):
    """Two convolutions, and a way around them."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.first = convolution(inputs, outputs, 3, stride)
        self.second = convolution(outputs, outputs, 3, 1)
        self.around = convolution(inputs, outputs, 1, stride) if stride > 1 else nn.Identity()

    def forward(self, images):
        hidden = torch.relu(self.first(images))
        return torch.relu(self.second(hidden) + self.around(images))


def resnet_18(channels):
    """For images of 32 by 32 pixels: a stem of 3x3 without pooling."""
    layers = [convolution(3, channels, 3, 1), nn.ReLU()]
    for stage in range(4):
        for place in range(2):
            stride = 2 if stage > 0 and place == 0 else 1
            layers.append(Block(channels, channels * stride, stride))
            channels *= stride
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, CLASSES))


def mlp(hidden):
    return nn.Sequential(
        nn.Linear(784, hidden),
        nn.ReLU(),
        nn.Linear(hidden, hidden),
        nn.ReLU(),
        nn.Linear(hidden, CLASSES),
    )


def batched(model, pieces):
    """The norms of a batch by vmap over the gradient of one example's loss."""
    weights = {name: weight.detach() for name, weight in model.named_parameters()}
    buffers = dict(model.named_buffers())

    def loss(weights, example, label):
        logits = functional_call(model, (weights, buffers), (example[None],))
        return cross_entropy(logits, label[None])

    def norm(example, label):
        gradients = grad(loss)(weights, example, label).values()
        return sum(gradient.square().sum() for gradient in gradients).sqrt()

    def norms(inputs, labels):
        chunk = -(-len(inputs) // pieces)
        return vmap(norm, chunk_size=chunk if pieces > 1 else None)(inputs, labels)

    return norms


def one_by_one(model):
    """The norms of a batch by a backward pass for each of its examples."""
    weights = list(model.parameters())

    def norms(inputs, labels):
        found = []
        for at in range(len(inputs)):
            loss = cross_entropy(model(inputs[at : at + 1]), labels[at : at + 1])
            gradients = torch.autograd.grad(loss, weights)
            found.append(sum(gradient.square().sum() for gradient in gradients).sqrt())
        return torch.stack(found)

    return norms


def per_second(norms, inputs, labels):
    """Examples per second, and the norms. They are read back, so nothing is left to be done."""
    values = norms(inputs, labels).cpu()
    taken, began = [], time.perf_counter()
    while len(taken) < ROUNDS[0] or (
        len(taken) < ROUNDS[1] and time.perf_counter() - began < SECONDS
    ):
        since = time.perf_counter()
        values = norms(inputs, labels).cpu()
        taken.append(time.perf_counter() - since)
    return len(inputs) / median(taken), values


def in_as_few_pieces_as_fit(model, inputs, labels):
    for pieces in PIECES:
        try:
            return pieces, *per_second(batched(model, pieces), inputs, labels)
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
    raise MemoryError("not even in %d pieces" % PIECES[-1])


def main():
    on_cuda = torch.cuda.is_available()
    device = torch.device("cuda" if on_cuda else "cpu")
    name = torch.cuda.get_device_name() if on_cuda else "the CPU, tiny networks"
    torch.manual_seed(1)
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    networks = {
        "ResNet-18": (resnet_18(64 if on_cuda else 2), (128 if on_cuda else 4, 3, 32, 32)),
        "MLP": (mlp(1024 if on_cuda else 32), (512 if on_cuda else 16, 784)),
    }
    print(f"PyTorch {torch.__version__} on {name}\n")
    print("| network | vmap(grad) | pieces | one by one | ratio |")
    print("|---|--:|--:|--:|--:|")
    measured = []
    for network, (model, shape) in networks.items():
        model = model.to(device).eval()
        inputs = torch.rand(shape, device=device) * 2 - 1
        labels = torch.arange(shape[0], device=device) % CLASSES
        pieces, batch, norms = in_as_few_pieces_as_fit(model, inputs, labels)
        single, expected = per_second(one_by_one(model), inputs, labels)
        torch.testing.assert_close(norms, expected, rtol=1e-3, atol=1e-5)
        print(
            f"| {network}, batch {shape[0]} | {batch:.0f} | {pieces} | {single:.0f} "
            f"| {batch / single:.1f} |",
            flush=True,
        )
        measured.append(
            {
                "network": network,
                "batch": shape[0],
                "pieces": pieces,
                "batch_per_second": batch,
                "one_by_one_per_second": single,
            }
        )
    print("\n" + json.dumps({"torch": torch.__version__, "device": name, "grand": measured}))


if __name__ == "__main__":
    main()
