"""The networks that are built when needed: where each comes from, what it reads, and why bnfold leaves what it leaves.

Loads no PyTorch before a network is built.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Network:
    """One network and two sizes of it: the paper's, and one for tests.

    Attributes:
        title: what people call it.
        paper: authors and year; the docstring of its module has the full reference.
        module: the file under models/.
        factory: the function in it that builds the network; the arguments' defaults make the paper's size.
        shape: of one input, without the batch axis.
        small: arguments that make the size for tests.
        small_shape: of one input of that size.
        input: the name of the input.
        output: the name of the output.
        rest: code → why normalizations with that code stay, for those that no algebra folds. Empty when all fold.
    """

    title: str
    paper: str
    module: str
    factory: str
    shape: tuple[int, ...]
    small: Mapping[str, Any]
    small_shape: tuple[int, ...]
    input: str = "image"
    output: str = "logits"
    rest: Mapping[str, str] = field(default_factory=dict)

    def build(self, *, small: bool = False) -> torch.nn.Module:
        """The network in eval mode, with weights and statistics from seed 0."""
        factory = getattr(import_module(f"models.{self.module}"), self.factory)
        return factory(**(self.small if small else {}))

    def example(self, *, small: bool = False) -> torch.Tensor:
        """Two inputs of zeros, for the export."""
        import torch

        return torch.zeros(2, *(self.small_shape if small else self.shape))


CONCAT = (
    "It reads a Concat of maps that other layers read as well, each with a normalization of its own; behind it stands a ReLU."
)

NETWORKS: dict[str, Network] = {
    "resnet18": Network(
        "ResNet-18", "He et al. 2015", "resnet", "resnet18",
        (3, 224, 224), {"width": 8, "num_classes": 10}, (3, 64, 64),
    ),
    "resnet50": Network(
        "ResNet-50", "He et al. 2015", "resnet", "resnet50",
        (3, 224, 224), {"width": 8, "num_classes": 10, "layers": (1, 2, 1, 1)}, (3, 64, 64),
    ),
    "resnet152": Network(
        "ResNet-152", "He et al. 2015", "resnet", "resnet152",
        (3, 224, 224), {"width": 8, "num_classes": 10, "layers": (1, 1, 4, 1)}, (3, 64, 64),
    ),
    "preact-resnet18": Network(
        "Pre-activation ResNet-18", "He et al. 2016", "preact_resnet", "preact_resnet18",
        (3, 224, 224), {"width": 8, "num_classes": 10}, (3, 64, 64),
        rest={
            "BNF004": "It reads a sum on the shortcut path, of which other units read a part or all; behind it stands a ReLU.",
        },
    ),
    "mobilenet-v2": Network(
        "MobileNetV2", "Sandler et al. 2018", "mobilenet", "mobilenet_v2",
        (3, 224, 224), {"width": 0.25, "repeats": 2, "num_classes": 10}, (3, 64, 64),
    ),
    "efficientnet-b0": Network(
        "EfficientNet-B0", "Tan, Le 2019", "efficientnet", "efficientnet_b0",
        (3, 224, 224), {"width": 0.25, "repeats": 1, "num_classes": 10}, (3, 64, 64),
    ),
    "densenet121": Network(
        "DenseNet-121", "Huang et al. 2017", "densenet", "densenet121",
        (3, 224, 224), {"growth": 4, "blocks": (2, 2, 2), "num_classes": 10}, (3, 64, 64),
        rest={"BNF004": CONCAT},
    ),
    "densenet201": Network(
        "DenseNet-201", "Huang et al. 2017", "densenet", "densenet201",
        (3, 224, 224), {"growth": 4, "blocks": (2, 3, 2), "num_classes": 10}, (3, 64, 64),
        rest={"BNF004": CONCAT},
    ),
    "bn-inception": Network(
        "BN-Inception", "Ioffe, Szegedy 2015", "bn_inception", "bn_inception",
        (3, 224, 224), {"width": 0.125, "num_classes": 10}, (3, 64, 64),
    ),
    "inception-v3": Network(
        "Inception-v3", "Szegedy et al. 2015", "inception_v3", "inception_v3",
        (3, 299, 299), {"width": 0.0625, "num_classes": 10}, (3, 80, 80),
    ),
    "caffenet": Network(
        "CaffeNet, BN after ReLU", "Mishkin et al. 2017", "caffenet", "caffenet",
        (3, 128, 128), {"width": 0.0625, "num_classes": 10}, (3, 128, 128),
        rest={
            "BNF010": "Before it stands a ReLU, and the convolution behind it pads with zeros, which its shift would change.",
        },
    ),
    "repvgg-a0": Network(
        "RepVGG-A0, training form", "Ding et al. 2021", "repvgg", "repvgg_a0",
        (3, 224, 224), {"width": 8, "layers": (2, 2, 2, 1), "num_classes": 10}, (3, 64, 64),
        rest={
            "BNF004": "The identity branch has no convolution of its own: it reads what the other branches read, and is added to "
            "them. Only merging the three branches into one convolution would remove it.",
        },
    ),
    "unet": Network(
        "U-Net", "Ronneberger et al. 2015", "unet", "unet",
        (1, 128, 128), {"width": 4}, (1, 32, 32),
    ),
    "dcgan": Network(
        "DCGAN generator", "Radford et al. 2016", "dcgan", "dcgan",
        (100, 1, 1), {"width": 4}, (100, 1, 1), input="noise", output="image",
    ),
    "levit": Network(
        "LeViT-like", "Graham et al. 2021", "levit", "levit",
        (3, 224, 224), {"width": 32, "depths": (1, 1, 1), "size": 64, "num_classes": 10}, (3, 64, 64),
    ),
    "mlp": Network(
        "Multilayer perceptron", "Ioffe, Szegedy 2015", "mlp", "mlp",
        (784,), {"width": 20}, (784,),
    ),
    "pointnet": Network(
        "PointNet", "Qi et al. 2017", "pointnet", "pointnet",
        (3, 1024), {"width": 8, "num_classes": 10}, (3, 64), input="points",
    ),
    "r3d18": Network(
        "R3D-18", "Tran et al. 2018", "resnet3d", "r3d18",
        (3, 8, 112, 112), {"width": 8, "num_classes": 10}, (3, 4, 32, 32), input="clip",
    ),
}  # fmt: skip
