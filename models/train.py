"""Trains a LeNet on Fashion-MNIST, exports it, and records what was measured."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch import nn

from models import fashion_mnist
from models.export import export
from models.lenet import lenet, lenet_by_hand

NETWORKS = {"lenet": lenet, "lenet-by-hand": lenet_by_hand}
LEARNING_RATE = 1.0
BATCH = 256


def train(name: str, data: Path | None, out: Path, seeds: int = 5, epochs: int = 10) -> dict[str, Any]:
    """Trains `name` from seeds 0, 1, …, and exports the best to `<out>/<name with underscores>.onnx`.

    At this learning rate the moving averages lag far behind the weights, and the accuracy with them jumps from epoch
    to epoch. So several runs are made, always of the full length, and the one with the best accuracy on the training
    images, in eval mode, is kept; the test images have no say in it.

    Args:
        name: a key of `NETWORKS`.
        data: folder of Fashion-MNIST, as in `fashion_mnist.load`.
        out: folder for the ONNX file.
        seeds: number of runs.
        epochs: passes over the 60,000 training images in each run.

    Returns:
        The record for `results.json`. Accuracies are counts of correctly classified images.
    """
    train_set = load_tensors("train", data)
    test_set = load_tensors("test", data)
    torch.set_num_threads(1)  # the order of floating-point sums, and so every digit, is the same in each run
    models, runs = zip(*(train_run(name, seed, epochs, train_set, test_set) for seed in range(seeds)), strict=True)
    chosen = max(runs, key=lambda run: run["train_correct"])
    model = models[chosen["seed"]]

    path = out / f"{name.replace('-', '_')}.onnx"
    export(model.eval(), path, torch.zeros(2, 1, 28, 28))
    test_images, test_labels = test_set
    torch_test = predict(model, test_images)
    onnx_test = torch.from_numpy(predict_onnx(path, test_images.numpy()))
    return {
        "file": path.name,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "bytes": path.stat().st_size,
        "parameters": sum(p.numel() for p in model.parameters()),
        "torch": torch.__version__,
        "onnxruntime": onnxruntime.__version__,
        "train_images": len(train_set[1]),
        "test_images": len(test_labels),
        "seed": chosen["seed"],
        "train_correct": chosen["train_correct"],
        "test_correct_torch": int((torch_test == test_labels).sum()),
        "test_correct_onnx": int((onnx_test == test_labels).sum()),
        "test_same_prediction": int((onnx_test == torch_test).sum()),
        "runs": list(runs),
    }


def load_tensors(split: str, data: Path | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Images and labels as `fashion_mnist.load` gives them."""
    images, labels = fashion_mnist.load(split, data)
    return torch.from_numpy(images), torch.from_numpy(labels)


def train_run(
    name: str,
    seed: int,
    epochs: int,
    train_set: tuple[torch.Tensor, torch.Tensor],
    test_set: tuple[torch.Tensor, torch.Tensor],
) -> tuple[nn.Module, dict[str, Any]]:
    """One training of `name` to its last epoch, and its record; prints a line per epoch."""
    torch.manual_seed(seed)
    model = NETWORKS[name]()
    model.apply(init_weights)
    optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE)
    history = []
    for epoch in range(1, epochs + 1):
        running = train_epoch(model, optimizer, *train_set)
        test = count_correct(model, *test_set)
        history.append({"train_running": running, "test": test})
        print(
            f"{name} seed {seed} epoch {epoch:2}: train {running / len(train_set[1]):.4f} (while training)"
            f"  test {test / len(test_set[1]):.4f}",
            flush=True,
        )
    return model, {
        "seed": seed,
        "train_correct": count_correct(model, *train_set),
        "test_correct": history[-1]["test"],
        "epochs": history,
    }


def init_weights(module: nn.Module) -> None:
    """Xavier-uniform weights for linear and convolution layers; biases stay as torch draws them."""
    if isinstance(module, nn.Linear | nn.Conv2d):
        nn.init.xavier_uniform_(module.weight)


def train_epoch(model: nn.Module, optimizer: torch.optim.Optimizer, images: torch.Tensor, labels: torch.Tensor) -> int:
    """One pass in random order; how many images were classified correctly on the way, before each step."""
    model.train()
    correct = 0
    for batch in torch.randperm(len(labels)).split(BATCH):
        logits = model(images[batch])
        loss = nn.functional.cross_entropy(logits, labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        correct += int((logits.argmax(1) == labels[batch]).sum())
    return correct


def predict(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """The classes `[N]` that `model` in eval mode gives to images `[N, 1, 28, 28]`."""
    model.eval()
    with torch.no_grad():
        return torch.cat([model(batch).argmax(1) for batch in images.split(1000)])


def count_correct(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> int:
    """How many images `model` in eval mode classifies correctly."""
    return int((predict(model, images) == labels).sum())


def predict_onnx(path: Path, images: np.ndarray) -> np.ndarray:
    """The classes `[N]` that the ONNX file gives to images `[N, 1, 28, 28]`, with onnxruntime on the CPU."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return np.concatenate(
        [session.run(["logits"], {"image": images[i : i + 1000]})[0].argmax(1) for i in range(0, len(images), 1000)]
    )
