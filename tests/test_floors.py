"""Imports point down the floors, and what is expensive to load is imported late."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "bnfold"

FLOORS = (
    {"affine", "choice", "codes", "collector", "errors", "folded_names", "model_files", "naming", "operators", "verdict"},
    {
        "constants",
        "context",
        "data",
        "edits",
        "graph",
        "inline",
        "model",
        "parallel",
        "positions",
        "protos",
        "provenance",
        "shapes",
        "splice",
        "stream",
        "vectorized",
        "weights",
        "wire",
    },
    {"parameters", "sites"},
    {"ops"},
    {"apply", "commit", "decision", "placement", "plain", "planner", "ranges", "route", "scan", "trace"},
    {"runtime"},
    {"report"},
    {"pipeline", "population"},
    {"check", "exporter", "deploy", "folder", "integrations", "testing"},
    {"cli", "__main__"},
)
"""Top-level modules and packages of bnfold, from the ground up. A new one needs a floor here."""

ROOT_NAMES = {"__version__"}
"""What any module may take from the package itself."""

ALLOWED = {
    "onnx_graphsurgeon": {*FLOORS[1], *FLOORS[2], *FLOORS[3], *FLOORS[4], "pipeline"},
    "onnxruntime": {"runtime"},
    "click": {"cli"},
    "torch": {"exporter"},
    "olive": {"integrations"},
}
"""Third-party packages that are kept to some places; the pipeline looks whether it was given a `gs.Graph`."""

LATE = ("onnxruntime", "torch", "onnx_graphsurgeon")
"""Never imported on module level above floor 4."""


@dataclass(frozen=True)
class Import:
    """One import of one module, by another."""

    by: str
    of: str
    line: int
    eager: bool

    def __str__(self) -> str:
        return f"{self.by}:{self.line} imports {self.of}"


def modules(package: Path = PACKAGE) -> dict[str, Path]:
    """Every module by its name inside the package: "ops.conv", and "ops" for its `__init__`."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(name: str, source: str, known: set[str]) -> Iterator[Import]:
    """Every import in a module's source, on any level; what is imported for type checking counts, but not as eager."""
    tree = ast.parse(source)
    late = {id(node) for outer in ast.walk(tree) if is_late(outer) for node in ast.walk(outer)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}:{node.lineno}: a relative import"
            base = f"{node.module}."
            targets = [base + alias.name if is_module(base + alias.name, known) else base[:-1] for alias in node.names]
            if node.module == "bnfold":
                targets = [f"bnfold.{alias.name}" for alias in node.names if alias.name not in ROOT_NAMES]
        else:
            continue
        for target in targets:
            yield Import(name, target, node.lineno, id(node) not in late)


def is_late(node: ast.AST) -> bool:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        return True
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def is_module(dotted: str, known: set[str]) -> bool:
    return dotted.startswith("bnfold.") and dotted.removeprefix("bnfold.") in known


def top(name: str) -> str:
    return name.split(".")[0]


def floor_of(name: str) -> int:
    return next(number for number, floor in enumerate(FLOORS) if top(name) in floor)


def wrong(each: Import) -> str:
    """What is wrong with an import; "" where nothing is."""
    package, _, inside = each.of.partition(".")
    if package != "bnfold":
        if package in ALLOWED and top(each.by) not in ALLOWED[package]:
            return f"{each}, which belongs in {sorted(ALLOWED[package]) or 'no module'}"
        if each.eager and package in LATE and floor_of(each.by) > 4:
            return f"{each} on module level"
        return ""
    if not inside or top(inside) not in {name for floor in FLOORS for name in floor}:
        return f"{each}, which is on no floor"
    up, here = floor_of(inside), floor_of(each.by)
    if up > here or (top(each.by) == "runtime" and 1 < up < 5):
        return f"{each}, floor {here} from floor {up}"
    return ""


MODULES = modules()
KNOWN = set(MODULES)
IMPORTS = [
    each
    for name, path in MODULES.items()
    if name  # the package itself stands above all floors and imports nothing: see below
    for each in imports(name, path.read_text(), KNOWN)
]


def test_every_module_has_a_floor_and_every_floor_its_modules():
    assert {top(name) for name in MODULES if name} == {name for floor in FLOORS for name in floor}
    assert sum(map(len, FLOORS)) == len({name for floor in FLOORS for name in floor})


def test_imports_point_down():
    assert [complaint for each in IMPORTS if (complaint := wrong(each))] == []
    assert len(IMPORTS) > 200


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("affine", "from bnfold.weights import Weight"),
        ("graph", "def f():\n    from bnfold.sites import Site"),
        ("ops.conv", "from bnfold import planner"),
        ("ops.conv", "import bnfold.apply"),
        ("ops.conv", "from bnfold import fold"),
        ("runtime.verify", "from bnfold.sites import Site"),
        ("runtime.verify", "if TYPE_CHECKING:\n    from bnfold.report.report import Report"),
        ("report.text", "from bnfold.pipeline import optimize"),
        ("pipeline", "from bnfold.cli import console"),
        ("affine", "import onnx_graphsurgeon as gs"),
        ("report.text", "def f():\n    import onnx_graphsurgeon as gs"),
        ("pipeline", "import onnx_graphsurgeon as gs"),
        ("pipeline", "import onnxruntime"),
        ("runtime.session", "import onnxruntime as ort"),
        ("report.text", "import click"),
        ("runtime.source", "def f():\n    from torch import nn"),
    ],
)
def test_an_import_that_points_elsewhere_is_noticed(name, source):
    assert [complaint for each in imports(name, source, KNOWN) if (complaint := wrong(each))]


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("ops.conv", "from bnfold.ops.linear import along\nfrom bnfold import __version__, edits\nimport onnx_graphsurgeon"),
        ("runtime.session", "def f():\n    import onnxruntime\nfrom bnfold.model import Model"),
        ("pipeline", "def f():\n    import onnx_graphsurgeon as gs\nif TYPE_CHECKING:\n    import onnx_graphsurgeon"),
        ("cli.verify", "import click\nfrom bnfold.runtime.verify import verify"),
    ],
)
def test_an_import_that_points_down_is_fine(name, source):
    assert not [complaint for each in imports(name, source, KNOWN) if (complaint := wrong(each))]


def test_no_module_needs_itself():
    needs: dict[str, set[str]] = {name: set() for name in MODULES}
    for each in IMPORTS:
        target = each.of.removeprefix("bnfold.")
        if each.eager and target in needs and target != each.by and not each.by.startswith(f"{target}."):
            needs[each.by].add(target)
    try:
        TopologicalSorter(needs).prepare()
    except CycleError as error:
        pytest.fail(f"modules import each other: {' → '.join(error.args[1])}")


def test_the_package_itself_imports_nothing_of_its_own():
    eager = [each for each in imports("", (PACKAGE / "__init__.py").read_text(), KNOWN) if each.eager]
    assert {top(each.of) for each in eager} <= set(sys.stdlib_module_names)


def test_every_module_says_what_it_is():
    assert [name for name, path in MODULES.items() if not ast.get_docstring(ast.parse(path.read_text()))] == []


# -- what really gets loaded ----------------------------------------------------------------------------------------------

EXPENSIVE = ("numpy", "ml_dtypes", "onnx", "onnx_graphsurgeon", "onnxruntime", "torch")


def modules_loaded_by(code: str, *arguments: str) -> set[str]:
    """The names of all modules that are loaded once `code` has run."""
    script = f"import sys\ntry:\n    {code}\nexcept SystemExit as done:\n    assert not done.code, done.code\n"
    script += "print(*sys.modules, file=sys.__stderr__)"
    command = [sys.executable, "-c", script, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stderr.splitlines()[-1].split())


def loaded_by(code: str, *arguments: str) -> set[str]:
    """The expensive packages that are loaded once `code` has run."""
    return modules_loaded_by(code, *arguments) & set(EXPENSIVE)


RUN = "from bnfold.cli.main import main; main()"

NEEDLESS = {
    *("asyncio", "concurrent", "multiprocessing", "unittest"),
    *("bz2", "email", "http", "lzma", "socket", "sqlite3", "ssl", "subprocess", "tarfile", "xml", "zipfile"),
    *("jinja2", "onnxruntime", "torch"),
}
"""Packages that folding one model needs nothing of, beyond what onnx and onnx-graphsurgeon load themselves."""

NOT_FOR_A_SMALL_MODEL = {
    *("check", "data", "deploy", "exporter", "folder", "integrations", "population", "splice", "testing", "wire"),
    *("report.renderings", "report.html", "report.junit", "report.sarif", "report.markdown", "report.findings", "report.lint"),
    *("runtime.session", "runtime.verify", "runtime.accuracy", "runtime.bench", "runtime.reference"),
}
"""What bnfold has for other commands, for `--report`, for a verification and for large files."""


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        ["optimize", "--help"],
        ["accuracy", "--help"],
        ["bench", "--help"],
        ["run", "--help"],
        ["doctor", "--help"],
        ["explain", "BNF004"],
    ],
    ids=" ".join,
)
def test_help_loads_nothing_expensive(arguments):
    assert loaded_by(RUN, *arguments) == set()


def test_importing_bnfold_loads_nothing_expensive():
    assert loaded_by("import bnfold; dir(bnfold); bnfold.__version__; bnfold.InputError") == set()


@pytest.mark.parametrize(
    "command",
    [
        ["optimize", "{model}", "-o", "{out}", "--no-verify"],
        ["optimize", "{model}", "--dry-run"],
        ["inspect", "{model}", "--json"],
    ],
    ids=" ".join,
)
def test_without_verification_no_runtime_is_loaded(command, tmp_path):
    places = {"model": str(ROOT / "models" / "lenet.onnx"), "out": str(tmp_path / "out.onnx")}
    loaded = loaded_by(RUN, *(word.format(**places) for word in command))
    assert "onnx" in loaded
    assert not loaded & {"onnxruntime", "torch"}


def inside(modules: set[str], packages: set[str]) -> set[str]:
    """Those of `modules` that are one of `packages`, or in one."""
    return {name for name in modules if any(f"{name}.".startswith(f"{package}.") for package in packages)}


def test_a_small_model_loads_only_what_folding_it_needs(tmp_path):
    given = modules_loaded_by("import click, onnx, onnx_graphsurgeon")
    model, folded = ROOT / "models" / "lenet.onnx", tmp_path / "out.onnx"
    loaded = modules_loaded_by(RUN, "optimize", str(model), "-o", str(folded), "--no-verify")
    assert {"bnfold.pipeline", "bnfold.apply", "bnfold.report.text"} <= loaded
    assert folded.exists()
    assert inside(loaded - given, NEEDLESS) == set()
    assert inside(loaded, {f"bnfold.{name}" for name in NOT_FOR_A_SMALL_MODEL}) == set()


def test_what_a_small_model_does_without_is_there():
    """A module that was renamed would never be found among those loaded."""
    assert {name for name in NOT_FOR_A_SMALL_MODEL if name not in KNOWN} == set()


def test_a_report_loads_what_renders_it(tmp_path):
    model, report = ROOT / "models" / "lenet.onnx", tmp_path / "report.xml"
    arguments = [str(model), "-o", str(tmp_path / "out.onnx"), "--no-verify", "--report", str(report)]
    assert {"bnfold.report.renderings", "bnfold.report.junit"} <= modules_loaded_by(RUN, "optimize", *arguments)
    assert report.exists()


def test_fold_needs_no_runtime():
    loaded = loaded_by(f"import bnfold; bnfold.fold({str(ROOT / 'models' / 'lenet.onnx')!r})")
    assert "onnx" in loaded
    assert not loaded & {"onnxruntime", "torch"}


def test_verification_loads_no_torch(tmp_path):
    loaded = loaded_by(RUN, "optimize", str(ROOT / "models" / "lenet.onnx"), "-o", str(tmp_path / "out.onnx"))
    assert "onnxruntime" in loaded
    assert "torch" not in loaded
