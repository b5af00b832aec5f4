"""The page of benchmark results: what is recorded is shown, and rows on which bnfold loses, or a tool fails, stay in."""

from __future__ import annotations

import json
import re

import pytest

from benchmarks import cells, headlines, recorded, results, run
from benchmarks.marks import replaced

HEAD = {
    "date": "2026-01-02",
    "machine": "a machine",
    "python": "3.11",
    "versions": {"onnx": "1.23"},
    "peers": {"onnxsim": "0.8"},
    "quick": False,
}
CHAIN = "a chain of Conv and BatchNormalization"


def found(wall_s: float, peak_mb: float = 50) -> dict:
    return {"wall_s": wall_s, "cpu_s": wall_s, "peak_mb": peak_mb, "runs": 5, "spread": 0.05, "cpu_spread": 0.04}


def cost(ours: dict) -> dict:
    failed = {"failure": "RuntimeError: too | large", "peak_mb": 9000}
    tools = {"cp": found(1), "bnfold": ours, "bnfold, again": found(1.53), "onnxslim": failed}
    case = {"name": "1 GB", "bytes": 10**9, "target": {"times_of_cp": 2.0, "peak_mb": 200}, "tools": tools}
    return {**HEAD, "cases": [case]}


def growth(ours: dict, larger: dict | None = None) -> dict:
    """Graphs of two sizes, ten times apart."""
    graphs = [
        {
            "name": name,
            "size": size,
            "tools": {
                "onnx.load": found(1),
                "onnx.load + onnx.save": found(2),
                "bnfold": mine,
                "bnfold, again": mine,
                "onnxslim": {"failure": "RecursionError: maximum recursion depth exceeded"},
            },
        }
        for name in (CHAIN, "nothing to fold", "one weight, many Conv", "one tensor, many Conv")
        for size, mine in ((1000, ours), (10_000, larger or ours))
    ]
    names = ("python -c pass", "bnfold --help", "import onnx", "bnfold optimize, a tiny model")
    return {**HEAD, "graphs": graphs, "starting": {name: found(0.01 * place) for place, name in enumerate(names, 1)}}


def ran(ratio: float, claim: str = "none") -> dict:
    told = {"latency_ms": 10 * ratio, "ratio": ratio, "low": ratio, "high": ratio, "claim": claim}
    return {**told, "cpu_ms": 5.0, "bytes": 10**6}


def cell(ours: dict, by_hand: dict, network: str = "resnet18", export: str = "raw") -> dict:
    rows = {"original": ran(1.0), "bnfold": ours, "onnxsim": {"failure": "exit 1: <it> | died"}, "by hand": by_hand}
    facts = {"network": network, "export": export, "level": "default", "threads": 1, "batch": 1, "date": "2026-01-01"}
    return {**facts, "blocks": 6, "runs": 3, "noise": 0.01, "rows": rows}


def sessions(*measured: dict) -> dict:
    plan = {"networks": ["resnet18", "unet"], "exports": ["raw"], "runs": [[1, 1], [1, 8]]}
    return {**HEAD, "planned": plan, "cells": list(measured)}


def errors() -> dict:
    rows = {
        "original": {"error_max": 1e-7, "ulp_max": None, "folded_weights": 0},
        "bnfold": {"error_max": 2e-7, "ulp_max": 0.5, "folded_weights": 3},
        "onnxsim": {"failure": "died"},
    }
    return {**HEAD, "rows": [{"network": "n", "export": "clean", "rows": rows}]}


def checked(least_s: float, longest_s: float) -> dict:
    """Without verification, with a budget of 0 s and with one of 3 s."""
    known = {"peak_mb": 400, "low_s": 1, "high_s": 9, "runs": 3}
    spent = ((None, 0.0), (0, least_s), (3, longest_s))
    rows = [{"budget_s": budget, "wall_s": 1 + seconds, "verification_s": seconds, **known} for budget, seconds in spent]
    return {**HEAD, "network": "resnet50", "bytes": 10**8, "rows": rows}


DOCUMENTS = {
    "tool_cost.json": cost(found(1.5)),
    "scaling.json": growth(found(1.1), found(9)),
    "verification.json": checked(2, 4),
    "inference.json": sessions(cell(ran(0.7, "faster"), ran(0.7))),
    "session_creation.json": sessions(cell(ran(0.7, "faster"), ran(0.7))),
    "numerical.json": errors(),
}


@pytest.fixture
def home(tmp_path):
    for name, document in DOCUMENTS.items():
        (tmp_path / name).write_text(json.dumps(document))
    return tmp_path


def table(targets) -> str:
    return "\n".join(" | ".join(target.cells) for target in targets)


@pytest.mark.parametrize(
    ("wall_s", "peak_mb", "words"),
    [(1.5, 50, ("1.50 × cp | yes", "50 MB | yes")), (2.5, 300, ("2.50 × cp | **no**", "300 MB | **no**"))],
)
def test_cost_says_whether_its_targets_are_met(wall_s, peak_mb, words):
    text = table(results.tool_cost_targets(cost(found(wall_s, peak_mb))))
    assert all(word in text for word in words)


def test_a_failure_is_short_in_the_table_and_whole_below_it():
    text = "\n".join(results.tool_cost(cost(found(1.5))))
    assert "| onnxslim | failed <sup>1</sup> |  |  | 9,000 MB |  |" in text
    assert "\n1. `RuntimeError: too | large`" in text


@pytest.mark.parametrize(
    "section",
    [results.tool_cost(cost({"failure": "died", "peak_mb": 1})), results.scaling(growth({"failure": "died"}))],
)
def test_a_section_is_written_although_bnfold_failed(section):
    assert "| died |" in "\n".join(section)


def test_noise_is_said_of_whole_processes():
    text = " ".join(results.tool_cost(cost(found(1.5))))
    assert "interquartile range is 5.0% of the median in the middle, and 5.0% at most" in text
    assert "differs from itself by 2.0% at most" in text


@pytest.mark.parametrize(("wall_s", "words"), [(1.4, "1.40 × | yes"), (13, "6.5 × | **no**")])
def test_scaling_says_whether_its_targets_are_met(wall_s, words):
    assert words in table(results.scaling_targets(growth(found(wall_s))))


@pytest.mark.parametrize(
    ("small_s", "large_s", "words"),
    [
        (1.04, 10.04, "1.25 × as fast as the graph | 1.00 × | yes"),
        (1.04, 20.04, "1.25 × as fast as the graph | 2.00 × | **no**"),
        (0.04, 20.04, "1.25 × as fast as the graph | the smaller costs no more than starting | ?"),
    ],
)
def test_linear_is_what_is_left_without_starting(small_s, large_s, words):
    text = table(results.scaling_targets(growth(found(small_s), found(large_s))))
    assert f"{CHAIN}, 1,000 to 10,000: linear | {words}" in text


@pytest.mark.parametrize(
    "targets",
    [
        results.tool_cost_targets(cost({"failure": "died", "peak_mb": 1})),
        results.scaling_targets(growth({"failure": "died"})),
    ],
)
def test_a_failure_of_bnfold_is_a_target_that_is_not_met(targets):
    assert "| died | **no**" in table(targets)


@pytest.mark.parametrize(("longest_s", "words"), [(4.5, "4.5 s of 5.0 s | yes"), (5.5, "5.5 s of 5.0 s | **no**")])
def test_verification_says_whether_its_budget_is_kept(longest_s, words):
    document = checked(2, longest_s)
    assert words in table(results.verification_targets(document))
    text = "\n".join(results.verification(document))
    assert "| `--no-verify` | 1.00 s | 0.00 s | 0% | 400 MB | 1.00 to 9.00 s of 3 |" in text


@pytest.mark.parametrize(
    ("ours", "by_hand", "words"),
    [
        (ran(0.7, "faster"), ran(0.7), ("1.43 to 1.43 × | yes", "| 1 of 1 cells | yes")),
        (
            ran(0.9, "faster"),
            ran(0.7),
            ("1.11 to 1.11 × | **no**", "cells; not resnet18 raw default 1×1 (1.286) | **no**"),
        ),
        (ran(1.1, "slower"), ran(1.1), ("noise | all cells | 0 of 1 cells; not resnet18 raw default 1×1 (1.100) | **no**",)),
    ],
)
def test_inference_says_whether_its_targets_are_met(ours, by_hand, words):
    text = table(results.inference_targets(sessions(cell(ours, by_hand))))
    assert [word for word in words if word not in text] == []


@pytest.mark.parametrize(
    ("ratio", "words"),
    [
        (0.8, "1 of 1 cells; 0 of 1 by hand | yes"),
        (0.95, "0 of 1 cells; not resnet18 raw default (0.950); 0 of 1 by hand | **no**"),
    ],
)
def test_session_creation_says_whether_its_target_is_met(ratio, words):
    assert words in table(results.creation_targets(sessions(cell(ran(ratio), ran(1.0)))))


def test_inference_keeps_what_failed_and_says_what_was_not_measured():
    broken = {**cells.Cell("unet", "raw", "disabled", 1, 1)._asdict(), "failure": "does not run: at all", "rows": {}}
    text = "\n".join(results.inference(sessions(cell(ran(0.7, "faster"), ran(0.7)), broken)))
    assert "| 10.00 ms | 1.0% | **0.700** | failed <sup>1</sup> | 0.700 |" in text
    assert "1. `exit 1: <it> | died`\n2. `does not run: at all`" in text
    assert "**Not measured: 6 of 8 cells.**" in text
    assert "* 1 thread, batch 1: resnet18 (1 of 2), unet (1 of 2)\n* 1 thread, batch 8: resnet18, unet\n" in text


def test_inference_is_summed_up_by_threads_and_batch():
    one = cell(ran(0.7, "faster"), ran(0.7))
    eight = {**cell(ran(0.8), ran(0.7)), "threads": 2, "batch": 8}
    text = "\n".join(results.inference(sessions(one, eight)))
    assert "| export | optimizations | 1 thread, batch 1 | 2 threads, batch 8 |" in text
    assert "| raw | default | 0.700 (1 faster, 0 slower) of 1 | 0.800 (0 faster, 0 slower) of 1 |" in text
    assert "by threads and batch" not in "\n".join(results.inference(sessions(one)))


def test_sessions_are_summed_up_by_export():
    text = "\n".join(results.creation(sessions(cell(ran(0.8), ran(0.7)), cell(ran(1.25), ran(0.7), "unet"))))
    assert "| raw | default | 2 | 1.00 (1 of 2) | failed | 0.70 (2 of 2) |" in text


def test_numerical_error_keeps_what_failed():
    text = "\n".join(results.numerical(errors()))
    assert "| n | float32 | output error | 1.0e-07 | 2.0e-07 | died |" in text
    assert "| weights, ulp |  | 0.50 | died |" in text


def test_the_page_has_the_sections_that_were_recorded(home):
    (home / "scaling.json").unlink()
    text = results.page(home)
    assert "## Tool cost" in text
    assert "| [Session creation](#session-creation) | ≤ 0.9 × the original's processor time | all cells |" in text
    assert "2026-01-02, a machine, Python 3.11, onnx 1.23; the peers: onnxsim 0.8." in text
    assert "2026-01-01, a machine" in text, "the day of the cells"
    assert "## Scaling" not in text


def test_quick_outcomes_go_to_a_folder_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setattr(recorded, "FULL", tmp_path)
    monkeypatch.setattr(recorded, "QUICK", tmp_path / ".quick")
    recorded.save("one.json", {"quick": False, "figure": 1})
    recorded.save("one.json", {"quick": True, "figure": 2})
    assert recorded.load(tmp_path / "one.json")["figure"] == 1
    assert recorded.load(tmp_path / ".quick" / "one.json")["figure"] == 2


class TestCells:
    def test_the_most_telling_come_first(self):
        order = cells.planned(["unet", "resnet18", "mlp", "mobilenet-v2"], ["clean", "raw"])
        assert len(set(order)) == 4 * 2 * 2 * 4
        assert {cell.network for cell in order[:32]} == set(cells.FIRST)
        assert {cell.network for cell in order[32:]} == {"unet", "mlp"}
        settings = [cell[3:] for cell in order[32:]]
        assert settings == sorted(settings, key=cells.RUNS.index)

    @pytest.mark.parametrize(("minutes", "taken"), [(None, 5), (0, 0), (1, 1), (2, 3), (100, 5)])
    def test_the_time_is_looked_at_before_each(self, minutes, taken):
        clock = iter(range(0, 1000, 30))  # seconds; each cell takes 30, and the first look is at the start
        order = cells.planned(["unet"], ["raw"])[:5]
        assert len(list(cells.within(order, minutes, lambda: next(clock)))) == taken

    def test_a_record_knows_its_cell(self):
        known = cells.Cell("unet", "raw", "default", 2, 8)
        assert cells.of({**known._asdict(), "rows": {}}) == known


def test_run_makes_the_environment_only_where_there_is_none(tmp_path, monkeypatch):
    commands = []

    def called(command, **_):
        commands.append([str(part) for part in command])
        return run.subprocess.CompletedProcess(command, int("benchmarks.scaling" in command))

    monkeypatch.setattr(run.subprocess, "run", called)
    monkeypatch.setattr(run, "find_spec", lambda name: name)
    monkeypatch.setattr(run.results, "write", lambda home: commands.append(["write", str(home)]))
    for turn, expected in enumerate((["patterns", "scaling", "inference", "write"], ["scaling", "inference", "write"])):
        commands.clear()
        options = ["--quick", "--only", "scaling,inference", "--minutes", "7", "--venv", str(tmp_path / "peers")]
        monkeypatch.setattr("sys.argv", ["run.py", *options])
        with pytest.raises(SystemExit, match="before: scaling"):
            run.main()
        assert [next(name for name in expected if name in " ".join(command)) for command in commands] == expected, turn
        assert commands[-1] == ["write", str(recorded.QUICK)]
        assert commands[-2][-3:] == ["--quick", "--minutes", "7.0"]
        for name in ("bin/python", "Scripts/python"):
            (tmp_path / "peers" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "peers" / name).touch()


class TestPlots:
    def test_each_is_drawn_and_the_same_each_time(self, home):
        pytest.importorskip("matplotlib", reason="matplotlib is not installed (pip install 'bnfold[benchmarks]')")
        results.write(home)
        drawn = {path.name: path.read_text("utf-8") for path in (home / results.PLOTS).iterdir()}
        assert sorted(drawn) == sorted(f"{name}.svg" for section in results.SECTIONS for name in section.plots)
        results.write(home)
        assert {path.name: path.read_text("utf-8") for path in (home / results.PLOTS).iterdir()} == drawn
        assert "onnxslim: at 1,000 RecursionError (✕)" in drawn["scaling.svg"]
        assert "failed: RuntimeError: too | large" in drawn["tool_cost.svg"]


class TestCommitted:
    """What is in the repository belongs together."""

    def test_the_page_is_what_the_outcomes_say(self):
        assert (recorded.FULL / results.PAGE).read_text("utf-8") == results.page(recorded.FULL)

    def test_the_readme_is_what_the_outcomes_say(self):
        text = results.README.read_text("utf-8")
        assert text == replaced(text, headlines.MARK, results.block(recorded.FULL)), "run python benchmarks/results.py"

    def test_every_plot_is_made_from_the_outcomes(self):
        plots = recorded.FULL / results.PLOTS
        made = {name: description for name, description, _ in results.descriptions(recorded.FULL)}
        assert {path.stem for path in plots.glob("*.svg")} == set(made)
        for name, description in made.items():
            assert description in (plots / f"{name}.svg").read_text("utf-8"), name

    def test_the_page_names_plots_that_are_there(self):
        named = re.findall(r"\]\((plots/[^)]+)\)", (recorded.FULL / results.PAGE).read_text("utf-8"))
        assert named
        assert [name for name in named if not (recorded.FULL / name).exists()] == []
