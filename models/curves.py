"""Draws how the perceptron learns with and without batch normalization: figure 1a of the paper, on Fashion-MNIST."""

from pathlib import Path

from models.pictures import save, style
from models.results import load

PICTURE = Path(__file__).parent / "mlp_curves.svg"
SHOWN = {"mlp": "with batch normalization", "mlp-plain": "without"}


def draw(path: Path = PICTURE) -> None:
    """Writes the accuracies in `results.json`, after each epoch of 1,000 steps, as an SVG picture; the same bytes each time."""
    from matplotlib.figure import Figure

    records = load()
    with style():
        figure = Figure(figsize=(7, 3.2), layout="constrained")
        test, train = figure.subplots(1, 2, sharey=True)
        for name, label in SHOWN.items():
            record = records[name]
            epochs = record["runs"][0]["epochs"]
            steps = [1000 * (place + 1) for place in range(len(epochs))]
            test.plot(steps, [epoch["test"] / record["test_examples"] for epoch in epochs], label=label)
            train.plot(steps, [epoch["train_running"] / record["train_examples"] for epoch in epochs], label=label)
        test.set(title="test images", xlabel="steps of 60 images", ylabel="accuracy", ylim=(0.55, 1))
        train.set(title="training images, while training", xlabel="steps of 60 images")
        test.legend(loc="lower right")
        for axes in (test, train):
            axes.grid(alpha=0.3)
        save(figure, path)
