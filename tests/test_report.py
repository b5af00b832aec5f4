"""Reports as text, JSON and Markdown, made from values; no model is opened here."""

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import pytest

from bnfold import __version__
from bnfold.codes import CODES
from bnfold.errors import GateFailed, InputError
from bnfold.report import figures
from bnfold.report.markdown import optimize_markdown
from bnfold.report.page import Page, clean
from bnfold.report.renderings import optimize_renderings
from bnfold.report.report import Inspection, ModelFacts, Report, error_document, verification_document
from bnfold.report.text import explain_text, inspect_text, optimize_text, verify_text
from bnfold.report.write import FORMATS, as_json, write_reports
from bnfold.runtime.compare import Comparison
from bnfold.runtime.verify import OutputComparison, Verification
from bnfold.verdict import Fold, Normalization, Note, Plan, Refusal, Verdict

FACTS = ModelFacts("resnet18.onnx", 8, {"": 17}, "pytorch 2.13", 44_700_000)
FREEZE = "If nobody overrides it, use --freeze-initializers (freeze_initializers=True)."


def normalization(name: str, **changes: object) -> Normalization:
    made = Normalization(name, "", "BatchNormalization", f"{name}_out", f"Conv `{name}.c`", ("Relu `r`",), 64, 1e-5)
    return replace(made, **changes)


def folds(count: int, into: str = "Conv") -> tuple[Fold, ...]:
    return tuple(Fold(normalization(f"bn{number}"), (f"{into} `c{number}`",)) for number in range(count))


def refusals(count: int, code: str, sentence: str, remedy: str = "") -> tuple[Refusal, ...]:
    names = [f"{code.lower()}.{number}" for number in range(count)]
    return tuple(Refusal(normalization(name), code, sentence.replace("NAME", name), remedy) for name in names)


def plan(*verdicts: Verdict, notes: tuple[Note, ...] = ()) -> Plan:
    before = {"BatchNormalization": 20, "Conv": 20, "Expand": 40, "Relu": 29}
    after = {"BatchNormalization": 0, "Conv": 20, "Relu": 29, "Add": 1}
    return Plan(verdicts, before, after, notes)


def compared(output: str = "logits", level: str = "disabled", **changes: object) -> OutputComparison:
    worst = Comparison("float32", (1, 10), max_abs_diff=3.1e-6, reference_max=12.4, allowed=1e-3, sqnr_db=131.2, elements=10)
    return OutputComparison(output, level, "normal(0, 1)", replace(worst, **changes))  # type: ignore[arg-type]


def verification(*outputs: OutputComparison, failures: tuple[str, ...] = (), notes: tuple[Note, ...] = ()) -> Verification:
    return Verification(outputs, failures, notes, 4, 0.5)


PASSED = verification(compared(argmax_total=64), compared(level="default", max_abs_diff=1e-6, argmax_total=64))
FAILED = verification(
    compared(problem="differs", max_abs_diff=0.38, argmax_changed=9, argmax_total=64), failures=("Output `logits` differs.",)
)


def report(plan_: Plan, verification_: Verification | None = PASSED, **changes: object) -> Report:
    ok = verification_ is None or verification_.ok
    size = 44_600_000 if ok else None
    made = Report(FACTS, "resnet18.folded.onnx", size, plan_, verification_, 0.93, written=ok, identical=False)
    return replace(made, **changes)


def test_optimize_screen() -> None:
    assert optimize_text(report(plan(*folds(18), *folds(2, "Gemm")))) == (
        "resnet18.onnx   opset 17 · IR 8 · 44.7 MB · pytorch 2.13\n"
        "\n"
        "                        before   after\n"
        "  BatchNormalization        20       0\n"
        "  Expand                    40       0\n"
        "  Add                        0       1\n"
        "  other                     49      49\n"
        "\n"
        "  folded   20 of 20 normalizations   (Conv 18, Gemm 2)\n"
        "  verified max |Δ| 3.10e-06 · allowed 1.00e-03 · values to 12.4 · SQNR 131 dB\n"
        "           argmax unchanged on 64 of 64 · on 4 inputs\n"
        "  wrote    resnet18.folded.onnx   44.6 MB   0.9 s"
    )


@pytest.mark.parametrize(
    ("whole", "verification", "told"),
    [
        (18.64, 18.21, "18.6 s (verification 18.2 s)"),
        (1.0, 0.5, "1.0 s (verification 0.5 s)"),
        (1.0, 0.49, "1.0 s"),
        (0.99, 0.9, "1.0 s"),
    ],
)
def test_it_says_where_the_time_went(whole: float, verification: float, told: str) -> None:
    made = report(plan(*folds(1)), replace(PASSED, elapsed_s=verification), elapsed_s=whole)
    assert optimize_text(made).endswith(f"MB   {told}")


def test_refusals_are_grouped_with_their_first_names() -> None:
    concat = refusals(30, "BNF004", "`NAME` is also read by Concat `NAME`")
    relu = refusals(1, "BNF005", "Relu `NAME` stands between it and any linear operator", "Train it the other way round.")
    text = optimize_text(report(plan(*folds(1), *relu, *concat)))
    assert "stays      30   BNF004  `…` is also read by Concat `…`\n" in text
    assert "bnf004.0, bnf004.1, bnf004.2, bnf004.3, … (26 more, -v for all)\n" in text
    assert "  1   BNF005  Relu `bnf005.0` stands between it and any linear operator\n" in text
    assert "Train it the other way round." in text
    assert text.index("BNF004") < text.index("BNF005")


def test_many_different_sentences_share_the_title_of_their_code() -> None:
    every = [refusals(1, "BNF012", f"it maps axis {axis}")[0] for axis in range(5)]
    groups = figures.refusal_groups(every)
    assert [(group.count, group.headline) for group in groups] == [(5, CODES["BNF012"].title)]


def test_a_shared_sentence_keeps_its_names() -> None:
    (group,) = figures.refusal_groups(refusals(2, "BNF005", "Relu `r` stands between"))
    assert group.headline == "Relu `r` stands between"


def test_verbose_lists_every_verdict_and_name() -> None:
    stays = refusals(30, "BNF004", "`NAME` is also read by Concat `c`")
    text = optimize_text(report(plan(*folds(2), *stays)), verbose=True)
    assert "folds    bn1   into Conv `c1`   Conv `bn1.c` → Relu `r`   (64 channels, epsilon 1e-05)\n" in text
    assert text.count("is also read by Concat `c`") == 30
    assert "bnf004.29" in text.partition("stays      30   BNF004")[2]
    assert "-v for all" not in text


def test_overridable_weights_are_one_clear_line() -> None:
    kept = plan(*refusals(20, "BNF006", "`NAME` is an initializer that a caller may override", FREEZE))
    same = report(kept, None, identical=True)
    expected = (
        "  folded   0 of 20 normalizations: resnet18.onnx keeps its weights as overridable inputs (IR 8), and\n"
        "           folding them would ignore a caller's values (BNF006).\n"
        "           If nobody overrides them, which is the usual case:\n"
        "           bnfold optimize resnet18.onnx --freeze-initializers\n"
        "  wrote    resnet18.folded.onnx, identical to resnet18.onnx"
    )
    assert optimize_text(same).endswith(expected)
    assert "bnfold optimize resnet18.onnx --freeze-initializers" in inspect_text(Inspection(FACTS, kept))


def test_freeze_command_quotes_the_path_and_needs_every_refusal() -> None:
    frozen = refusals(2, "BNF006", "`NAME` may be overridden", FREEZE)
    assert figures.freeze_command(Plan(frozen), "my model.onnx") == "bnfold optimize 'my model.onnx' --freeze-initializers"
    assert not figures.freeze_command(Plan(frozen + folds(1)), "m.onnx")
    assert not figures.freeze_command(Plan(frozen + refusals(1, "BNF006", "Conv `c` computes it")), "m.onnx")
    assert not figures.freeze_command(Plan(frozen + refusals(1, "BNF004", "it is read twice", FREEZE)), "m.onnx")
    assert not figures.freeze_command(Plan(()), "m.onnx")


def test_a_model_without_normalizations_says_so() -> None:
    assert figures.NOTHING_TO_FOLD in optimize_text(report(Plan(()), None, identical=True))
    assert figures.NOTHING_TO_FOLD in inspect_text(Inspection(FACTS, Plan(())))


def test_dry_run_and_missing_verification_are_said() -> None:
    dry = optimize_text(report(plan(*folds(2)), None, written=False, size_after_bytes=None))
    assert "  folds    2 of 2 normalizations" in dry
    assert dry.endswith("wrote    nothing (dry run)")
    assert "verified no, as asked (--no-verify)" in optimize_text(report(plan(*folds(2)), None))


def test_growth_is_shown() -> None:
    assert "90.0 MB, up from 44.7 MB" in optimize_text(report(plan(*folds(2)), size_after_bytes=90_000_000))


def test_failed_verification() -> None:
    failed = report(plan(*folds(20)), FAILED)
    text = optimize_text(failed)
    assert "  FAILED   Output `logits` differs.\n" in text
    assert "argmax changed on 9 of 64" in text
    assert text.endswith("Nothing was written.")
    assert "wrote" not in text
    assert not failed.ok
    with pytest.raises(GateFailed, match=r"resnet18\.onnx failed its verification.*Output `logits` differs"):
        failed.raise_for_status()


def test_passed_verification_raises_nothing() -> None:
    report(plan(*folds(1))).raise_for_status()
    report(plan(*folds(1)), None).raise_for_status()


def test_quiet_prints_problems_only() -> None:
    assert optimize_text(report(plan(*folds(20))), quiet=True) == ""
    assert optimize_text(report(plan(*folds(1), *refusals(1, "BNF004", "read twice"))), quiet=True) == ""
    copied = plan(*folds(1), notes=(Note("BNF016", "`W` was copied", "c"),))
    assert optimize_text(report(copied), quiet=True) == ""
    untrained = plan(*folds(1), notes=(Note("BNF017", "statistics look untrained", "bn7"),))
    assert "BNF017  statistics look untrained" in optimize_text(report(untrained), quiet=True)
    training = plan(*refusals(1, "BNF001", "it is in training mode"))
    assert "BNF001  it is in training mode" in optimize_text(report(training), quiet=True)
    failed = optimize_text(report(plan(*folds(1)), FAILED), quiet=True)
    assert "FAILED" in failed
    assert "Nothing was written." in failed
    assert "folded" not in failed
    assert verify_text("a.onnx", "b.onnx", PASSED, quiet=True) == ""
    assert "FAILED" in verify_text("a.onnx", "b.onnx", FAILED, quiet=True)


def test_verify_screen_of_several_outputs_puts_the_worst_first() -> None:
    rows = [compared(f"y{number}", max_abs_diff=number * 1e-6) for number in range(6)]
    assert verify_text("a.onnx", "b.onnx", verification(*rows)) == (
        "b.onnx   against a.onnx\n"
        "\n"
        "  verified 6 outputs on 4 inputs\n"
        "           output   max |Δ|   allowed values to      SQNR\n"
        "           y5      5.00e-06  1.00e-03      12.4    131 dB\n"
        "           y4      4.00e-06  1.00e-03      12.4    131 dB\n"
        "           y3      3.00e-06  1.00e-03      12.4    131 dB\n"
        "           y2      2.00e-06  1.00e-03      12.4    131 dB\n"
        "           … (2 more, -v for all)"
    )
    every = verify_text("a.onnx", "b.onnx", verification(*rows), verbose=True)
    assert "y0     identical  1.00e-03      12.4    131 dB   disabled, normal(0, 1)" in every
    assert "SQNR   optimizations, input\n" in every


def test_only_classes_have_an_argmax_on_the_screen() -> None:
    image = compared("image", shape=(1, 3, 8, 8), argmax_changed=5, argmax_total=64)
    alone, both = verification(image), verification(image, compared("logits", argmax_total=10))
    assert "argmax" not in verify_text("a.onnx", "b.onnx", alone)
    assert "argmax unchanged on 10 of 10" in verify_text("a.onnx", "b.onnx", both)
    assert alone.to_dict()["argmax_changed"] == 5


def test_a_failure_is_not_repeated_as_a_warning() -> None:
    same = "The original is not deterministic."
    noisy = verification(failures=(same,), notes=(Note("BNF033", same), Note("BNF034", "A level is skipped.")))
    text = optimize_text(report(plan(*folds(1)), noisy))
    assert text.count(same) == 1
    assert text.index("BNF034") < text.index("FAILED")
    assert text.endswith(f"FAILED   {same}\n           Nothing was written.")


def test_subnormal_weights_are_one_line() -> None:
    notes = [Note("BNF009", f"{number} values of Conv `c` become subnormal", f"bn{number // 2}") for number in range(6)]
    (group,) = figures.note_groups(notes)
    assert (group.headline, group.count, group.names) == (CODES["BNF009"].title, 3, ("bn0", "bn1", "bn2"))
    assert figures.note_groups(notes[:1])[0].headline == "0 values of Conv `c` become subnormal"


def test_no_line_ends_with_a_dot_in_the_middle() -> None:
    for width in range(40, 120, 7):
        assert not any(line.endswith("·") for line in optimize_text(report(plan(*folds(3))), width=width).splitlines())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"max_abs_diff": 0.0, "sqnr_db": math.inf}, "identical"),
        ({"max_abs_diff": math.nan, "sqnr_db": math.nan}, "not comparable"),
        ({"max_abs_diff": 0.5, "reference_max": 0.0, "sqnr_db": -math.inf}, "max |Δ| 5.00e-01 · allowed 1.00e-03 · values to 0"),
    ],
)
def test_difference_of_edge_cases(changes: dict[str, float], words: str) -> None:
    assert figures.difference(compared(**changes)) == words


def test_inspect_sums_up_and_points_to_more() -> None:
    inspection = Inspection(FACTS, plan(*folds(3), *refusals(1, "BNF004", "`NAME` is read twice")))
    text = inspect_text(inspection)
    assert "bn0" not in text
    assert text.count("`bnf004.0` is read twice") == 1
    assert "  4 normalizations: 3 fold, 1 stay\n" in text
    assert "`bnfold explain BNF004` says what can be done about it." in text
    assert "`-v` lists each normalization" in text
    listed = inspect_text(inspection, verbose=True)
    assert "  folds    bn0   into Conv `c0`   Conv `bn0.c` → Relu `r`   (64 channels, epsilon 1e-05)\n" in listed
    assert "`-v` lists" not in listed
    narrow = inspect_text(inspection, verbose=True, width=70)
    assert "  stays    bnf004.0   BNF004  `bnf004.0` is read twice\n           Conv `bnf004.0.c` → Relu `r`" in narrow


def test_inspect_describes_scope_and_unnamed_surroundings() -> None:
    alone = normalization("bn", scope="if_1/then_branch", producer="", readers=(), channels=None, op_type="Mul, Add")
    text = inspect_text(Inspection(FACTS, plan(Refusal(alone, "BNF006", "not constant"))), verbose=True)
    assert (
        "bn   BNF006  not constant\n           graph input → no reader   (Mul, Add, epsilon 1e-05, in if_1/then_branch)" in text
    )


@pytest.mark.parametrize("width", [60, 80, 120])
def test_lines_fit_the_terminal(width: int) -> None:
    stays = refusals(30, "BNF004", "`NAME` is also read by Concat `c`, which has quite a long name", "Do something about it.")
    full = report(plan(*folds(3), *stays, notes=(Note("BNF017", "statistics look untrained", "bn"),)), FAILED)
    pages = [optimize_text(full, width=width, verbose=verbose) for verbose in (False, True)]
    pages.append(inspect_text(Inspection(FACTS, full.plan), width=width))
    pages.append(verify_text("a.onnx", "b.onnx", PASSED, width=width))
    assert max(len(line) for page in pages for line in page.splitlines()) <= width


def test_colours_change_nothing_but_colours() -> None:
    def coloured(text: str, role: str) -> str:
        return f"\x1b[{len(role)}m{text}\x1b[0m"

    full = report(plan(*folds(3), *refusals(9, "BNF004", "`NAME` is read twice")), FAILED)
    painted = optimize_text(full, style=coloured)
    assert "\x1b[" in painted
    assert re.sub(r"\x1b\[\d+m", "", painted) == optimize_text(full)


def test_names_cannot_smuggle_control_characters() -> None:
    evil = "\x1b]0;owned\x07\nx\udc80"
    stays = Refusal(normalization(evil, producer=evil, readers=(evil,), scope=evil), "BNF004", f"`{evil}` is read twice")
    facts = ModelFacts(evil, 8, {evil: 1}, evil, 1)
    broken = verification(compared(evil), failures=(evil,))
    for text in (
        optimize_text(replace(report(plan(stays, *folds(1)), broken), source=facts, destination=evil), verbose=True),
        inspect_text(Inspection(facts, plan(stays)), verbose=True),
        verify_text(evil, evil, broken, verbose=True),
        optimize_markdown(replace(report(plan(stays, *folds(1)), broken), source=facts, destination=evil)),
    ):
        assert all(letter.isprintable() or letter == "\n" for letter in text)
        assert "\nx" not in text
    assert clean("a\tb") == "a\N{REPLACEMENT CHARACTER}b"


def test_long_names_are_never_broken() -> None:
    name = "/very/long/" * 20
    assert name in "\n".join(Page(width=40).entry("stays", f"x {name} y"))


def test_json_is_strict_and_versioned() -> None:
    document = json.loads(as_json(report(plan(*folds(2), *refusals(1, "BNF004", "read twice"))).to_dict()))
    assert document["schema"] == 1
    assert document["bnfold"] == __version__
    assert document["ok"] is True
    assert document["error"] is None
    assert document["source"]["opsets"] == {"": 17}
    assert (document["folded"], document["kept"]) == (2, 1)
    assert [verdict["kind"] for verdict in document["plan"]["verdicts"]] == ["fold", "fold", "refusal"]
    assert document["verification"]["outputs"][0]["max_abs_diff"] == 3.1e-6
    assert (document["written"], document["identical"]) == (True, False)


def test_json_has_no_nan() -> None:
    broken = plan(Fold(normalization("bn", epsilon=math.nan), ("Conv `c`",)))
    document = json.loads(as_json(report(broken, verification(compared(max_abs_diff=math.inf))).to_dict()))
    assert document["plan"]["verdicts"][0]["normalization"]["epsilon"] is None
    assert document["verification"]["outputs"][0]["max_abs_diff"] is None


def test_json_of_a_failure_says_why() -> None:
    document = report(plan(*folds(1)), FAILED).to_dict()
    assert document["ok"] is False
    assert document["error"]["exit_code"] == 1
    assert "Output `logits` differs." in document["error"]["message"]
    assert error_document("no such file", 2)["error"] == {"message": "no such file", "exit_code": 2}
    compared_ = verification_document("a.onnx", "b.onnx", FAILED)
    assert compared_["error"]["message"] == "b.onnx does not compute what a.onnx does: Output `logits` differs."
    assert verification_document("a.onnx", "b.onnx", PASSED)["error"] is None


def test_markdown_tables_are_well_formed() -> None:
    stays = Refusal(normalization("a|b`c"), "BNF004", "`t` <b>is</b> read | twice", "Remove it.")
    text = optimize_markdown(report(plan(stays, *folds(2)), FAILED))
    tables = [table.splitlines() for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)]
    assert len(tables) == 4
    for table in tables:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table}) == 1
    assert "| BatchNormalization | 20 | 0 |" in text
    assert "**The verification failed, and nothing was written.**" in text
    assert "a\\|b'c" in text
    assert "<b>" not in text


def test_report_is_written_by_suffix(tmp_path: Path) -> None:
    made = report(plan(*folds(2)))
    write_reports(optimize_renderings(made), [tmp_path / f"report{suffix}" for suffix in FORMATS])
    assert json.loads((tmp_path / "report.json").read_text("utf-8"))["folded"] == 2
    assert (tmp_path / "report.md").read_text("utf-8").startswith("# bnfold: `resnet18.onnx`\n")
    with pytest.raises(InputError, match="cannot write the report"):
        write_reports(optimize_renderings(made), [tmp_path / "absent" / "report.md"])


@pytest.mark.parametrize("row", CODES.values(), ids=lambda row: row.code)
def test_explain_prints_the_whole_page(row: object) -> None:
    code = CODES[row.code]  # type: ignore[attr-defined]
    text = " ".join(explain_text(code, width=80).split())
    for part in (code.code, code.title, code.level, code.meaning, code.before, code.after, code.remedy, code.ignore):
        assert " ".join(part.split()) in text
