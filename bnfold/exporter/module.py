"""The module as it is going to be traced: out of its wrappers, with shapes, and with statistics to be replaced later."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from bnfold.errors import InputError

if TYPE_CHECKING:
    import torch


def unwrapped(module: Any) -> Any:
    """The module inside of DataParallel, DistributedDataParallel and torch.compile."""
    import torch

    wrappers = (torch.nn.DataParallel, torch.nn.parallel.DistributedDataParallel)
    while True:
        inner = module.module if isinstance(module, wrappers) else getattr(module, "_orig_mod", None)
        if inner is None:
            return module
        module = inner


def materialize(module: torch.nn.Module, args: Sequence[torch.Tensor]) -> None:
    """Runs a module with lazy parts once, which gives them their shapes."""
    import torch
    from torch.nn.parameter import is_lazy

    if not any(is_lazy(each) for each in (*module.parameters(), *module.buffers())):
        return
    try:
        with torch.no_grad():
            module(*args)
    except Exception as error:  # whatever the module's own code raises
        raise InputError(
            f"{type(module).__name__} has lazy parts without a shape, and does not run on the example: {error}. "
            "Run it once yourself, or load its weights."
        ) from error


def with_placeholders(module: torch.nn.Module) -> torch.nn.Module:
    """A copy whose normalizations without usable statistics have mean 0 and variance 1."""
    import torch

    module = copy.deepcopy(module)
    floats = [found.detach() for found in module.parameters() if found.is_floating_point()]
    for each in module.modules():
        if not isinstance(each, torch.nn.modules.batchnorm._BatchNorm):
            continue
        mean, var = each.running_mean, each.running_var
        usable = mean is not None and var is not None and bool(torch.isfinite(mean).all() and torch.isfinite(var).all())
        if usable and var is not None and bool((var + each.eps > 0).all()):
            continue
        like = next((found for found in (each.weight, *floats) if found is not None), torch.zeros(0))
        each.track_running_stats = True
        each.running_mean = torch.zeros(each.num_features, dtype=like.dtype, device=like.device)
        each.running_var = torch.ones(each.num_features, dtype=like.dtype, device=like.device)
        each.num_batches_tracked = torch.tensor(0)
    return module
