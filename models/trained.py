"""The networks that are trained here and shipped: where each comes from, its data, and how it is trained.

Loads no PyTorch before a network is built.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Recipe:
    """How a network is trained; the weights after the last step are the ones exported.

    Attributes:
        batch: examples in each step.
        epochs: passes over the training set.
        learning_rate: of the first step.
        optimizer: its name in `torch.optim`.
        decay: let the learning rate fall linearly to zero, so that moving averages catch up with the weights.
        init: "xavier", "small gaussian", or "" for the weights that torch draws.
        seeds: runs, from seed 0 on; the best on the training set, in eval mode, is exported.
    """

    batch: int
    epochs: int
    learning_rate: float
    optimizer: str = "SGD"
    decay: bool = False
    init: str = ""
    seeds: int = 1


@dataclass(frozen=True)
class Trained:
    """One shipped network.

    Attributes:
        title: what people call it.
        paper: authors and year; the docstring of its module has the full reference.
        module: the file under models/.
        factory: the function or class in it that builds the network, untrained.
        options: its arguments.
        data: the file under models/ with `load(split, folder)`, which gives inputs `[N, …]` and targets `[N]`.
        shape: of one input, without the batch axis; what `load` gives is reshaped to it.
        recipe: how it is trained.
        norms: normalizations in the network, however they are written; a fixed map of the pixels is one, too.
        input: the name of the input.
        output: the name of the output; "logits" of classes, or a quantity that is compared by its error.
        rest: code → why normalizations with that code stay. Empty when all fold.
    """

    title: str
    paper: str
    module: str
    factory: str
    data: str
    shape: tuple[int, ...]
    recipe: Recipe
    norms: int
    options: Mapping[str, Any] = field(default_factory=dict)
    input: str = "image"
    output: str = "logits"
    rest: Mapping[str, str] = field(default_factory=dict)

    def build(self) -> torch.nn.Module:
        """The network, untrained, with weights from torch's global generator."""
        return getattr(import_module(f"models.{self.module}"), self.factory)(**self.options)

    def example(self) -> torch.Tensor:
        """Two inputs of zeros, for the export."""
        import torch

        return torch.zeros(2, *self.shape)

    def load(self, split: str, folder: Path | None = None) -> tuple[NDArray[Any], NDArray[Any]]:
        """Inputs `[N, *shape]`, float32 or bytes that stand for it, and targets `[N]`, int64 classes or float32 quantities.

        Raises:
            InputError: the data are not where they were looked for, or damaged.
            EnvironmentUnfit: they could not be had on this machine.
        """
        inputs, targets = import_module(f"models.{self.data}").load(split, folder)
        return inputs.reshape(-1, *self.shape), targets


def path_of(name: str) -> Path:
    """The shipped file of a network."""
    return HERE / f"{name.replace('-', '_')}.onnx"


def pretrained(name: str) -> torch.nn.Module:
    """The network as a PyTorch module in eval mode, with the weights of its shipped file."""
    module = TRAINED[name].build()
    load_weights(module, path_of(name))
    return module.eval()


def load_weights(module: torch.nn.Module, path: Path) -> None:
    """Puts the initializers of an ONNX file back where `models.export` took them from: they have the names of the state dict.

    Raises:
        ValueError: a weight is missing, or there is one too many.
    """
    import onnx
    import torch

    counters = {name for name in module.state_dict() if name.endswith("num_batches_tracked")}  # exists for training only
    parts = module.named_modules()
    absent = {f"{prefix}.{name}" for prefix, part in parts for name, value in part._parameters.items() if value is None}
    graph = onnx.load(path).graph
    found = {tensor.name: torch.from_numpy(onnx.numpy_helper.to_array(tensor).copy()) for tensor in graph.initializer}
    found = {name: value for name, value in found.items() if name not in absent}  # ones and zeros of an absent scale and shift
    wrong = found.keys() ^ (module.state_dict().keys() - counters)
    if wrong:
        names = ", ".join(sorted(wrong))
        raise ValueError(f"{path} does not hold the weights of {type(module).__name__}: only one of them has {names}.")
    module.load_state_dict(found, strict=False)


PAPER_MLP = Recipe(batch=60, epochs=50, learning_rate=0.1, init="small gaussian")  # 50 × 1,000 steps
D2L_LENET = Recipe(batch=256, epochs=10, learning_rate=1.0, init="xavier", seeds=5)
SETTLED_LENET = Recipe(batch=256, epochs=10, learning_rate=1.0, init="xavier", decay=True)

TRAINED: dict[str, Trained] = {
    "lenet": Trained("LeNet", "d2l.ai", "lenet", "lenet", "fashion_mnist", (1, 28, 28), D2L_LENET, 4),
    "lenet-by-hand": Trained(
        "LeNet, BN by hand", "d2l.ai", "lenet", "lenet_by_hand", "fashion_mnist", (1, 28, 28), D2L_LENET, 4
    ),
    "lenet-after": Trained(
        "LeNet, BN after the activation", "Mishkin et al. 2017", "lenet", "lenet", "fashion_mnist", (1, 28, 28),
        SETTLED_LENET, 4, {"after": True},
        rest={
            "BNF011": "Before it stands a Sigmoid, behind it a MaxPool, and training made some of its scales negative: they "
            "turn the maximum into a minimum.",
        },
    ),
    "lenet-whitened": Trained(
        "LeNet, input whitened", "d2l.ai", "lenet", "lenet", "fashion_mnist", (1, 28, 28), SETTLED_LENET, 5, {"whitened": True}
    ),
    "lenet-by-hand-whitened": Trained(
        "LeNet, BN by hand, input whitened", "d2l.ai", "lenet", "lenet_by_hand", "fashion_mnist", (1, 28, 28),
        SETTLED_LENET, 5, {"whitened": True},
    ),
    "lenet-after-whitened": Trained(
        "LeNet, BN after the activation, input whitened", "Mishkin et al. 2017", "lenet", "lenet", "fashion_mnist",
        (1, 28, 28), SETTLED_LENET, 5, {"after": True, "whitened": True},
    ),
    "mlp": Trained("Perceptron", "Ioffe, Szegedy 2015", "mlp", "MLP", "fashion_mnist", (784,), PAPER_MLP, 3),
    "mlp-plain": Trained(
        "Perceptron without BN", "Ioffe, Szegedy 2015", "mlp", "MLP", "fashion_mnist", (784,), PAPER_MLP, 0, {"norm": False}
    ),
    "mlp-whitened": Trained(
        "Perceptron, input whitened", "Ioffe, Szegedy 2015", "mlp", "MLP", "fashion_mnist", (784,), PAPER_MLP, 4,
        {"whitened": True},
    ),
    "lstm": Trained(
        "LSTM over the rows of an image", "Laurent et al. 2016", "lstm", "RowLSTM", "fashion_mnist", (28, 28),
        Recipe(batch=128, epochs=8, learning_rate=2e-3, optimizer="Adam", decay=True), 1, input="rows",
    ),
    "speech": Trained(
        "Time delay network", "Snyder et al. 2018", "speech", "TDNN", "prompts", (40, 98),
        Recipe(batch=64, epochs=12, learning_rate=2e-3, optimizer="Adam", decay=True), 5, input="frames",
    ),
    "driving": Trained(
        "PilotNet, half as wide", "Bojarski et al. 2016", "driving", "PilotNet", "road", (3, 66, 200),
        Recipe(batch=64, epochs=10, learning_rate=2e-3, optimizer="Adam", decay=True), 6, {"width": 0.5}, output="steering",
    ),
    "histology": Trained(
        "Classifier of patches", "Janowczyk, Madabhushi 2016", "histology", "PatchNet", "tissue", (3, 32, 32),
        Recipe(batch=64, epochs=6, learning_rate=2e-3, optimizer="Adam", decay=True), 4,
    ),
}  # fmt: skip
