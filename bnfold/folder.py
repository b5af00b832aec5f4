"""Folds every model of a folder into a mirrored folder, as exporters write them: several ONNX files and what belongs to them."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from bnfold.errors import BnfoldError, InputError
from bnfold.model import Model
from bnfold.model_files import models_in
from bnfold.pipeline import optimize
from bnfold.report.folder import FolderReport, Outcome


def optimize_folder(
    source: str | os.PathLike[str], destination: str | os.PathLike[str], *, jobs: int = 1, dry_run: bool = False, **options: Any
) -> FolderReport:
    """Folds and verifies every `.onnx` file below `source`; a model that fails does not stop the others.

    Args:
        source: the folder.
        destination: the mirrored folder. Files that are neither models nor the external data of one are copied there.
            The same as `source` to replace each model in place.
        jobs: how many models are worked on at the same time, each in a process of its own.
        dry_run: decide, and write nothing.
        options: as for `bnfold.optimize`.

    Returns:
        One outcome for each model, in sorted order, however many jobs there were.

    Raises:
        InputError: the folder does not exist or holds no model, `destination` is a file or lies inside it, or another file
            cannot be copied.
    """
    started = time.perf_counter()
    root, target = Path(source), Path(destination)
    if not root.is_dir():
        raise InputError(f"{root} is no folder.")
    models = models_in(root)
    if not models:
        raise InputError(f"{root} holds no .onnx file.")
    if os.path.exists(target) and not target.is_dir():
        raise InputError(f"the destination {target} is a file. A folder is folded into a folder.")
    in_place = target.resolve() == root.resolve()
    if not in_place and root.resolve() in target.resolve().parents:
        raise InputError(f"the destination {target} lies inside {root}. Choose a folder outside of it.")
    fold = partial(_fold, dry_run=dry_run, **options)
    if dry_run or in_place:
        copied: tuple[str, ...] = ()
    else:
        copied = tuple(_copy_others(root, target, models))
    destinations = [target / model.relative_to(root) for model in models]
    if jobs == 1 or len(models) == 1:
        outcomes = list(map(fold, models, destinations))
    else:  # fresh processes: onnxruntime's threads do not survive a fork
        with ProcessPoolExecutor(min(jobs, len(models)), mp_context=get_context("spawn")) as pool:
            outcomes = list(pool.map(fold, models, destinations))
    return FolderReport(str(root), None if dry_run else str(target), tuple(outcomes), copied, time.perf_counter() - started)


def _fold(source: Path, destination: Path, **options: Any) -> Outcome:
    try:
        if not options["dry_run"]:
            destination.parent.mkdir(parents=True, exist_ok=True)
        report = optimize(source, destination, **options)
    except BnfoldError as error:
        return Outcome(str(source), None, str(error))
    except OSError as error:
        return Outcome(str(source), None, f"{error.filename or destination}: {error.strerror}.")
    return Outcome(str(source), report)


def _copy_others(root: Path, target: Path, models: list[Path]) -> Iterator[str]:
    """Copies what is no model and no model's external data: that is written with the model, or is folded into new data."""
    taken = {*models, *(file for model in models for file in _external(model))}
    for path in sorted(root.rglob("*")):
        if path in taken or not path.is_file():
            continue
        copy = target / path.relative_to(root)
        try:
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, copy)
        except OSError as error:
            raise InputError(f"cannot copy {path} to {copy}: {error.strerror}.") from error
        yield str(path.relative_to(root))


def _external(model: Path) -> list[Path]:
    try:
        return Model.open(model).external_files()
    except BnfoldError:  # told when the model itself is folded
        return []
