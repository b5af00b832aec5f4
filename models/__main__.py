"""`python -m models`: trains, builds, exports and measures the reference networks, and writes the tables about them."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np

from bnfold.errors import BnfoldError, EnvironmentUnfit
from models import fashion_mnist, results
from models.networks import NETWORKS, Network
from models.trained import TRAINED, Trained

if TYPE_CHECKING:
    import torch

HERE = Path(__file__).parent
SAMPLE_SIZE = 100
Folder = click.Path(file_okay=False, path_type=Path)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """The reference networks of bnfold; see models/README.md."""


@cli.command()
@click.argument("folder", type=Folder)
def download(folder: Path) -> None:
    """Fetch the four files of Fashion-MNIST into FOLDER."""
    fashion_mnist.download(folder)
    click.echo(f"Fashion-MNIST is complete in {folder}")


@cli.command()
@click.argument("name", type=click.Choice(list(TRAINED)), metavar="NAME")
@click.option("--data", type=Folder, help="Folder of its data; otherwise they are looked for, made or downloaded.")
def train(name: str, data: Path | None) -> None:
    """Train network NAME, export it into this folder, fold it and record the results (up to five minutes)."""
    need_torch()
    from models import train as training
    from models.measure import measure

    results.record(name, training.train(name, data, HERE))
    results.record(name, {"folding": measure(name, data)})


@cli.command("measure")
@click.argument("names", nargs=-1, type=click.Choice(list(TRAINED)), metavar="[NAME]...")
def measure_networks(names: tuple[str, ...]) -> None:
    """Fold the trained networks, all or NAMEs, and compare PyTorch, ONNX and folded ONNX on their whole test sets."""
    need_torch()
    from models.measure import measure

    for name in names or TRAINED:
        results.record(name, {"folding": measure(name)})
        click.echo(f"{name} {results.load()[name]['folding']}", err=True)


@cli.command()
@click.argument("name", type=click.Choice(list(TRAINED)), metavar="NAME")
@click.argument("path", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--raw", is_flag=True, help="Keep the file exactly as PyTorch's exporter writes it.")
@click.option("--half", is_flag=True, help="Weights, statistics, input and output in float16.")
def export(name: str, path: Path, raw: bool, half: bool) -> None:
    """Write the trained network NAME, with the weights of its shipped file, to PATH."""
    need_torch()
    from models.trained import pretrained

    network = TRAINED[name]
    write(pretrained(name), network.example(), path, raw, half, network)


@cli.command()
@click.argument("name", type=click.Choice(list(NETWORKS)), metavar="NAME")
@click.argument("path", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--raw", is_flag=True, help="Keep the file exactly as PyTorch's exporter writes it.")
@click.option("--half", is_flag=True, help="Weights, statistics, input and output in float16.")
def build(name: str, path: Path, raw: bool, half: bool) -> None:
    """Write network NAME, with seeded trained-looking weights, to PATH. `python -m models list` lists the names."""
    need_torch()
    network = NETWORKS[name]
    write(network.build(), network.example(), path, raw, half, network)


@cli.command("list")
def list_networks() -> None:
    """List the trained networks, and those that `build` knows."""
    for heading, networks in (("trained, shipped as .onnx:", TRAINED), ("built when needed:", NETWORKS)):
        click.echo(heading)
        for name, network in networks.items():
            shape = " × ".join(str(extent) for extent in network.shape)
            click.echo(f"  {name:23} {network.title:46} {network.paper:27} {network.input}: {shape}")


@cli.command()
@click.argument("names", nargs=-1, type=click.Choice(list(NETWORKS)), metavar="[NAME]...")
def survey(names: tuple[str, ...]) -> None:
    """Fold every built network in three exports and write docs/networks.md; with NAMEs, print the page for those only."""
    need_torch()
    from models.survey import PAGE, page
    from models.survey import survey as measure_all

    text = page(measure_all(names or NETWORKS, lambda line: click.echo(line, err=True)))
    if names:
        click.echo(text)
    else:
        PAGE.write_text(text, encoding="utf-8")


@cli.command()
@click.option("--data", type=Folder, help="Folder of Fashion-MNIST; otherwise it is looked for, or downloaded.")
def sample(data: Path | None) -> None:
    """Write the first 100 test images to fashion_mnist_sample.npz."""
    images, labels = fashion_mnist.load("test", data)
    np.savez_compressed(HERE / "fashion_mnist_sample.npz", image=images[:SAMPLE_SIZE], label=labels[:SAMPLE_SIZE])


@cli.command()
def table() -> None:
    """Write the tables of README.md again, from results.json."""
    results.write_table()


@cli.command()
def plot() -> None:
    """Draw the training curves of the perceptrons again, from results.json; needs matplotlib."""
    from models.curves import draw

    try:
        draw()
    except ImportError as error:
        raise EnvironmentUnfit(f"{error.name} is not installed. Run: pip install 'bnfold[models]'") from error


def write(
    module: "torch.nn.Module", example: "torch.Tensor", path: Path, raw: bool, half: bool, network: Network | Trained
) -> None:
    """Exports a module, in half precision if asked for."""
    from models.export import export

    if half:
        module, example = module.half(), example.half()
    export(module, path, example, raw=raw, input_name=network.input, output_name=network.output)


def need_torch() -> None:
    """Raises `EnvironmentUnfit` where PyTorch or its ONNX exporter is missing."""
    try:
        import onnxscript  # noqa: F401
        import torch  # noqa: F401
    except ImportError as error:
        raise EnvironmentUnfit(f"{error.name} is not installed. Run: pip install 'bnfold[torch]'") from error


def main() -> None:
    """Runs the command; an expected error becomes one message and its exit code."""
    try:
        cli(prog_name="python -m models")
    except BnfoldError as error:
        click.echo(f"models: {error}", err=True)
        sys.exit(error.exit_code)
    except OSError as error:
        click.echo(f"models: {error}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
