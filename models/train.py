"""Trains the networks of `trained.py`, exports them, and records what was measured."""

import hashlib
from pathlib import Path
from typing import Any

import onnxruntime
import torch
from torch import nn

from models.export import export
from models.mlp import small_gaussian
from models.trained import TRAINED, Trained, path_of

Examples = tuple[torch.Tensor, torch.Tensor]


def train(name: str, data: Path | None, out: Path, seeds: int | None = None, epochs: int | None = None) -> dict[str, Any]:
    """Trains `name` by its recipe, from seeds 0, 1, …, and exports the best run to `out`.

    With a constant learning rate the moving averages can lag far behind the weights, and the accuracy with them jumps
    from epoch to epoch. Such a recipe makes several runs, always of the full length, and keeps the one that is best on
    the training examples, in eval mode; the test examples have no say in it.

    Args:
        name: a key of `TRAINED`.
        data: folder of the data, as in the `load` of its data file.
        out: folder for the ONNX file.
        seeds: number of runs, if not the recipe's.
        epochs: passes over the training examples in each run, if not the recipe's.

    Returns:
        The record for `results.json`. A score is the count of correctly classified examples, or for a quantity the
        root of the mean squared error.
    """
    network = TRAINED[name]
    recipe = network.recipe
    train_set, test_set = (tensors(network, split, data) for split in ("train", "test"))
    torch.set_num_threads(1)  # the order of floating-point sums, and so every digit, is the same in each run
    models, runs = zip(
        *(train_run(name, seed, epochs or recipe.epochs, train_set, test_set) for seed in range(seeds or recipe.seeds)),
        strict=True,
    )
    best = max if network.output == "logits" else min
    chosen = best(runs, key=lambda run: run["train_score"])
    model = models[chosen["seed"]]
    path = out / path_of(name).name
    export(model.eval(), path, network.example(), input_name=network.input, output_name=network.output)
    return {
        "file": path.name,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "bytes": path.stat().st_size,
        "parameters": sum(p.numel() for p in model.parameters()),
        "torch": torch.__version__,
        "onnxruntime": onnxruntime.__version__,
        "train_examples": len(train_set[1]),
        "test_examples": len(test_set[1]),
        "seed": chosen["seed"],
        "train_score": chosen["train_score"],
        "test_score": chosen["test_score"],
        "runs": list(runs),
    }


def tensors(network: Trained, split: str, data: Path | None) -> Examples:
    """Inputs and targets of one split."""
    inputs, targets = network.load(split, data)
    return torch.from_numpy(inputs), torch.from_numpy(targets)


def train_run(name: str, seed: int, epochs: int, train_set: Examples, test_set: Examples) -> tuple[nn.Module, dict[str, Any]]:
    """One training of `name` to its last epoch, and its record; prints a line per epoch."""
    network = TRAINED[name]
    recipe = network.recipe
    torch.manual_seed(seed)
    model = network.build()
    initialize(model, recipe.init)
    optimizer = getattr(torch.optim, recipe.optimizer)(model.parameters(), lr=recipe.learning_rate)
    steps = epochs * -(-len(train_set[1]) // recipe.batch)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps if recipe.decay else 1.0)
    history = []
    for epoch in range(1, epochs + 1):
        running = train_epoch(model, network, optimizer, schedule, train_set)
        history.append({"train_running": running, "test": score(model, network, test_set)})
        print(f"{name} seed {seed} epoch {epoch:2}: while training {running:.6g}, test {history[-1]['test']:.6g}", flush=True)
    return model, {
        "seed": seed,
        "train_score": score(model, network, train_set),
        "test_score": history[-1]["test"],
        "epochs": history,
    }


def initialize(model: nn.Module, init: str) -> None:
    """Draws weights as `Recipe.init` says; what it does not name stays as torch draws it."""
    if init == "small gaussian":
        small_gaussian(model)
    if init == "xavier":
        model.apply(xavier)


def xavier(module: nn.Module) -> None:
    """Xavier-uniform weights for linear and convolution layers; biases stay as torch draws them."""
    if isinstance(module, nn.Linear | nn.Conv2d):
        nn.init.xavier_uniform_(module.weight)


def train_epoch(
    model: nn.Module,
    network: Trained,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    examples: Examples,
) -> float:
    """One pass in random order; the score of the batches as they came, before each step, with their own statistics."""
    model.train()
    inputs, targets = examples
    classes = network.output == "logits"
    loss_of = nn.functional.cross_entropy if classes else nn.functional.mse_loss
    total: float = 0
    for batch in torch.randperm(len(targets)).split(network.recipe.batch):
        found = model(inputs[batch].float())
        loss = loss_of(found, targets[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            total += tally(found, targets[batch], classes)
    return finish(total, len(targets), classes)


def predict(model: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    """The outputs of `model` in eval mode."""
    model.eval()
    with torch.no_grad():
        return torch.cat([model(batch.float()) for batch in inputs.split(1000)])


def score(model: nn.Module, network: Trained, examples: Examples) -> float:
    """Correct answers of `model` in eval mode, or for a quantity the root of its mean squared error."""
    inputs, targets = examples
    classes = network.output == "logits"
    return finish(tally(predict(model, inputs), targets, classes), len(targets), classes)


def tally(found: torch.Tensor, targets: torch.Tensor, classes: bool) -> float:
    """Of one batch: the number of correct answers, or the sum of squared errors."""
    if classes:
        return int((found.argmax(1) == targets).sum())
    return float(((found - targets) ** 2).sum())


def finish(total: float, count: int, classes: bool) -> float:
    """A score from the sum of tallies."""
    return total if classes else (total / count) ** 0.5
