"""Which operators onnxruntime runs once it has optimized a graph, and how long each takes: its own profiler, read back."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_KERNEL = "_kernel_time"


@dataclass(frozen=True)
class OperatorTime:
    """All nodes of one operator on one provider.

    Attributes:
        op_type: the operator, with onnxruntime's own names for those that it makes itself.
        provider: where it runs.
        count: how many nodes ran in one run of the model; a body that loops counts each time.
        seconds: for all of them in one run, on average. On a GPU it is the time to launch them, unless the provider synchronizes.
    """

    op_type: str
    provider: str
    count: int
    seconds: float


def read_profile(path: Path, runs: int) -> tuple[OperatorTime, ...]:
    """Reads what `InferenceSession.end_profiling` wrote, the slowest operator first.

    Args:
        path: the file.
        runs: how many runs it holds.
    """
    return operator_times(json.loads(path.read_text(encoding="utf-8")), runs)


def operator_times(events: Sequence[dict[str, object]], runs: int) -> tuple[OperatorTime, ...]:
    """The kernels among the events of a Chrome trace, whose durations are in microseconds, per run."""
    counts: dict[tuple[str, str], int] = defaultdict(int)
    seconds: dict[tuple[str, str], float] = defaultdict(float)
    for event in events:
        arguments = event.get("args")
        if event.get("cat") != "Node" or not str(event.get("name")).endswith(_KERNEL) or not isinstance(arguments, dict):
            continue
        key = str(arguments.get("op_name", "")), str(arguments.get("provider", ""))
        counts[key] += 1
        seconds[key] += float(str(event["dur"])) * 1e-6
    times = (OperatorTime(*key, round(counts[key] / runs), seconds[key] / runs) for key in counts)
    return tuple(sorted(times, key=lambda each: -each.seconds))
