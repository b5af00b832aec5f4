"""The page of `--report FILE.html`: what is in it, and how it looks and works in a browser without a network."""

from __future__ import annotations

import base64
import functools
import gzip
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import numpy_helper, parser

import bnfold
from bnfold.cli.main import cli

for package in ("jinja2", "vl_convert"):
    pytest.importorskip(package, reason="the extra `html` is not installed")

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = {
    "optimize": "optimize {lenet} -o {out}/optimized.onnx --data {data} --verify-budget 1",
    "in_place": "optimize {out}/in_place.onnx --in-place --no-verify",
    "dry_run": "optimize {lenet} -o {out}/nothing.onnx --dry-run",
    "stays": "optimize {out}/stays.onnx -o {out}/stayed.onnx --no-verify",
    "folder": "optimize {out}/models -o {out}/folded --no-verify",
    "verify": "verify {lenet} {out}/candidate.onnx --verify-budget 1",
    "broken": "verify {lenet} {out}/broken.onnx --verify-budget 1",
    "accuracy": "accuracy {lenet} {out}/broken.onnx --data {data}",
    "bench": "bench {lenet} {lenet} --duration 0.05 --repeats 2",
    "check": "check {out}/models --select ALL",
    "large": "optimize {out}/large.onnx -o {out}/large.folded.onnx --no-verify",
}
"""Page → the command that makes it."""

FAILING = {"broken", "check"}
LARGE = 200
HOSTILE = '</script><script>document.title="owned"</script><img src=x onerror=alert(1)>'


class Reader(HTMLParser):
    """Collects what a page is made of."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="session")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Makes a page once: its path."""
    folder = tmp_path_factory.mktemp("pages")
    models = folder / "models"
    models.mkdir()
    lenet = ROOT / "models" / "lenet.onnx"
    shutil.copy(lenet, folder / "in_place.onnx")
    shutil.copy(lenet, models / "one.onnx")
    shutil.copy(ROOT / "models" / "lenet_after.onnx", models / "two.onnx")
    onnx.save(bnfold.fold(lenet).model, folder / "candidate.onnx")
    onnx.save(broken(onnx.load(lenet)), folder / "broken.onnx")
    onnx.save(chain(LARGE), folder / "large.onnx")
    onnx.save(staying(), folder / "stays.onnx")
    places = {
        "lenet": lenet,
        "out": folder,
        "data": ROOT / "models" / "fashion_mnist_sample.npz",
    }

    @functools.cache
    def make(name: str) -> Path:
        path = folder / f"{name}.html"
        words = [word.format(**places) for word in COMMANDS[name].split()]
        result = CliRunner().invoke(cli, [*words, "--report", str(path)])
        assert result.exit_code == (name in FAILING), result.output
        return path

    return make


def broken(model: onnx.ModelProto) -> onnx.ModelProto:
    """The LeNet with one channel of its second Conv a quarter too large."""
    weight = next(tensor for tensor in model.graph.initializer if list(tensor.dims[:1]) == [16] and len(tensor.dims) == 4)
    values = numpy_helper.to_array(weight).copy()
    values[3] *= 1.25
    weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    return model


def chain(length: int) -> onnx.ModelProto:
    """Many Conv with a normalization each."""
    body = " ".join(
        f"c{place} = Conv (x{place}, W) n{place} = BatchNormalization (c{place}, s, b, m, v) x{place + 1} = Relu (n{place})"
        for place in range(length)
    )
    text = f'<ir_version: 8, opset_import: ["": 17]> g (float[1,2,4,4] x0) => (float[1,2,4,4] x{length}) {{ {body} }}'
    return with_weights(parser.parse_model(text))


def staying() -> onnx.ModelProto:
    """A normalization that stays, with a name that would be markup."""
    text = (
        '<ir_version: 8, opset_import: ["": 17]> g (float[1,2,4,4] x) => (float[1,2,4,4] y) '
        "{ r = Sigmoid (x) y = BatchNormalization (r, s, b, m, v) }"
    )
    model = with_weights(parser.parse_model(text))
    for node in model.graph.node:
        node.name = f"{node.op_type}{HOSTILE}"
    return model


def with_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    rng = np.random.default_rng(0)
    values = {"W": rng.normal(size=(2, 2, 1, 1)), "s": rng.uniform(1, 2, 2), "b": rng.normal(size=2)}
    values |= {"m": rng.normal(size=2), "v": rng.uniform(1, 2, 2)}
    read = {name for node in model.graph.node for name in node.input}
    used = {name: np.float32(value) for name, value in values.items() if name in read}
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in used.items())
    return model


def read(path: Path) -> Reader:
    reader = Reader()
    reader.feed(path.read_text("utf-8"))
    return reader


def inside(reader: Reader) -> list[str]:
    """What opens below the rows of a page."""
    rows = [attributes["data-inside"] for attributes in reader.all("tr") if attributes.get("data-inside")]
    return [gzip.decompress(base64.b64decode(str(row))).decode() for row in rows]


@pytest.mark.parametrize("name", COMMANDS)
def test_a_page_is_one_file_that_asks_for_nothing(name: str, pages: Callable[[str], Path]) -> None:
    page = read(pages(name))
    for tag, attributes in page.tags:
        for key in ("src", "href", "xlink:href", "action", "data", "poster"):
            assert (attributes.get(key) or "#").startswith("#"), (tag, attributes)
    assert "default-src 'none'" in str(page.all("meta"))
    assert not page.all("link")
    assert pages(name).stat().st_size < 3e6


@pytest.mark.parametrize("name", COMMANDS)
def test_a_page_has_its_parts_and_names_for_them(name: str, pages: Callable[[str], Path]) -> None:
    page = read(pages(name))
    assert [attributes["lang"] for attributes in page.all("html")] == ["en"]
    assert all(len(page.all(tag)) == 1 for tag in ("main", "header", "h1", "title", "footer", "nav"))
    tables = page.all("table")
    assert tables
    assert len(page.all("caption")) == len(tables)
    assert all(attributes.get("scope") in ("col", "row") for attributes in page.all("th"))
    pictures = [attributes for _, attributes in page.tags if attributes.get("role") == "img"]
    assert all(attributes.get("aria-label") for attributes in pictures)
    anchors = {attributes["id"] for attributes in page.all("section")}
    assert {f"#{anchor}" for anchor in anchors} <= {attributes["href"] for attributes in page.all("a")}


@pytest.mark.parametrize(
    ("name", "sections"),
    [
        ("optimize", "normalizations error accuracy ranges operators evidence"),
        ("in_place", "normalizations ranges operators evidence"),
        ("dry_run", "normalizations operators evidence"),
        ("stays", "normalizations stays evidence"),
        ("folder", "models normalizations evidence"),
        ("verify", "error evidence"),
        ("accuracy", "accuracy evidence"),
        ("bench", "latency operators evidence"),
        ("check", "findings evidence"),
    ],
)
def test_a_page_has_the_sections_of_its_command(name: str, sections: str, pages: Callable[[str], Path]) -> None:
    found = [attributes["id"] for attributes in read(pages(name)).all("section")]
    assert [section for section in found if section != "remarks"] == sections.split()


def test_a_page_says_how_it_was_made(pages: Callable[[str], Path]) -> None:
    page = pages("optimize")
    words = " ".join(read(page).words)
    assert f"--data {ROOT / 'models' / 'fashion_mnist_sample.npz'}" in words
    assert words.count(subprocess.check_output(["sha256sum", ROOT / "models" / "lenet.onnx"], text=True).split()[0]) == 1
    assert re.search(r"\bonnxruntime\b", words)


def test_every_fold_has_its_graph_before_and_after(pages: Callable[[str], Path]) -> None:
    contents = inside(read(pages("optimize")))
    assert len(contents) == 4
    for content in contents:
        before, after = re.findall(r'data-dot="([^"]*)"', content)
        assert "BatchNormalization" in before
        assert "class=&#34;removed&#34;" in before
        assert "BatchNormalization" not in after
        assert "<svg" in content  # the ranges of its channels


def test_a_dry_run_and_a_refusal_have_the_graph_as_it_stands(pages: Callable[[str], Path]) -> None:
    for name in ("dry_run", "stays"):
        for content in inside(read(pages(name))):
            assert len(re.findall("data-dot=", content)) == 1


def test_in_place_the_original_is_still_shown(pages: Callable[[str], Path]) -> None:
    page = read(pages("in_place"))
    assert all(len(re.findall("data-dot=", content)) == 2 for content in inside(page))
    assert "original" not in [word.strip() for word in page.words]  # its file is gone, and so is its hash


def test_a_verification_shows_where_it_went_wrong(pages: Callable[[str], Path]) -> None:
    page = read(pages("broken"))
    words = " ".join(page.words)
    assert "They do not compute the same" in words
    assert re.search(r"The first layer that went wrong: .*conv2.*channel 3 of 16", words)


def test_names_of_a_model_stay_words(pages: Callable[[str], Path]) -> None:
    page = pages("stays")
    assert HOSTILE not in page.read_text("utf-8")
    assert "img" not in {tag for tag, _ in read(page).tags}
    for content in inside(read(page)):
        assert "<script" not in content
        assert "<img" not in content


def test_the_same_run_makes_the_same_drawings(pages: Callable[[str], Path], tmp_path: Path) -> None:
    once = inside(read(pages("dry_run")))
    again = tmp_path / "again.html"
    words = COMMANDS["dry_run"].format(lenet=ROOT / "models" / "lenet.onnx", out=tmp_path).split()
    assert CliRunner().invoke(cli, [*words, "--report", str(again)]).exit_code == 0
    assert inside(read(again)) == once


def test_without_the_extra_it_says_so_before_it_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(package: str) -> Any:
        if package == "itables":
            raise PackageNotFoundError(package)
        return distribution(package)

    monkeypatch.setattr("bnfold.report.html.libraries.distribution", absent)
    page, folded = tmp_path / "page.html", tmp_path / "folded.onnx"
    result = CliRunner().invoke(cli, ["optimize", str(ROOT / "models" / "lenet.onnx"), "-o", str(folded), "--report", str(page)])
    assert result.exit_code == 3
    assert "pip install 'bnfold[html]'" in result.output
    assert not page.exists()
    assert not folded.exists()


def test_what_a_page_is_drawn_with_is_loaded_for_a_page_only() -> None:
    code = (
        "import sys\nfrom click.testing import CliRunner\nfrom bnfold.cli.main import cli\n"
        f"CliRunner().invoke(cli, ['check', {str(ROOT / 'models' / 'lenet.onnx')!r}])\n"
        "print([name for name in ('jinja2', 'vl_convert', 'IPython', 'anywidget', 'itables') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


# -- in a browser ---------------------------------------------------------------------------------------------------------

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)
ALL_PAGES = ("optimize", "stays", "folder", "verify", "accuracy", "bench", "check")


class Browser:
    """A Chromium without a network, and a few things to ask of a page."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, path: Path, width: int = 1400, scheme: str = "light") -> None:
        command = self.driver.execute_cdp_cmd
        command("Network.enable", {})
        offline = {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
        command("Network.emulateNetworkConditions", offline)
        command("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        command("Emulation.setDeviceMetricsOverride", size)
        self.driver.get_log("browser")
        self.driver.get(path.as_uri())
        self.wait("return 'ready' in document.documentElement.dataset")

    def ask(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def wait(self, script: str) -> None:
        for _ in range(600):
            if self.ask(script):
                return
            time.sleep(0.1)
        pytest.fail(f"not within a minute: {script}; {self.complaints()}")

    def complaints(self) -> list[str]:
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] not in ("INFO", "DEBUG")]


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    chromium = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
    chromedriver = shutil.which("chromedriver")
    if chromium is None or chromedriver is None:
        pytest.skip("no Chromium with chromedriver is installed (Debian: apt-get install chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(chromedriver))
    yield Browser(driver)
    driver.quit()


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL_PAGES)
@pytest.mark.parametrize(("width", "scheme"), [(1400, "light"), (400, "dark")])
def test_a_page_opens_without_a_complaint_and_fits(
    name: str, width: int, scheme: str, pages: Callable[[str], Path], browser: Browser
) -> None:
    browser.open(pages(name), width, scheme)
    assert browser.complaints() == []
    assert browser.ask("return document.documentElement.scrollWidth") <= width
    loaded = browser.ask("return performance.getEntriesByType('resource').map((one) => one.name)")
    assert [name for name in loaded if not name.startswith(("blob:", "data:"))] == []
    seen = browser.ask("return [...document.querySelectorAll('.chart .drawing')].filter((one) => one.offsetWidth).length")
    assert seen == browser.ask("return document.querySelectorAll('main > section > .chart, .inside .chart').length")


@pytest.mark.slow
def test_dark_and_light_differ_and_can_be_read(pages: Callable[[str], Path], browser: Browser) -> None:
    found = {}
    for scheme in ("light", "dark"):
        browser.open(pages("optimize"), scheme=scheme)
        style = "const style = getComputedStyle(arguments[0] ? document.querySelector(arguments[0]) : document.body);"
        found[scheme] = [browser.ask(f"{style} return [style.color, style.backgroundColor]", each) for each in ("", "section")]
    for light, dark in zip(found["light"], found["dark"], strict=True):
        assert light[0] != dark[0]
        assert light[1] != dark[1]


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL_PAGES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(name: str, scheme: str, pages: Callable[[str], Path], browser: Browser) -> None:
    """Roles, names, landmarks, contrast and keyboard, as https://github.com/dequelabs/axe-core sees them."""
    try:
        axe = Path(str(distribution("axe-core-python").locate_file("axe_core_python/axe.min.js"))).read_text("utf-8")
    except PackageNotFoundError:
        pytest.skip("axe-core-python is not installed")
    browser.open(pages(name), scheme=scheme)
    browser.wait("return [...document.querySelectorAll('[data-dot]')].every((one) => one.matches('.drawn'))")
    browser.ask(axe)
    found = browser.driver.execute_async_script("const done = arguments[0]; axe.run().then((found) => done(found.violations))")
    assert [(one["id"], [node["target"] for node in one["nodes"]][:3]) for one in found] == []


@pytest.mark.slow
def test_tables_sort_and_filter(pages: Callable[[str], Path], browser: Browser) -> None:
    browser.open(pages("large"))
    names = "return [...document.querySelectorAll('#normalizations tbody tr:has(> th) > th')].map((one) => one.innerText)"
    assert browser.ask(names)[:2] == ["n0", "n1"]
    assert len(browser.ask(names)) == 25
    for _ in range(2):
        browser.ask("document.querySelectorAll('#normalizations thead th')[1].querySelector('.dt-column-order').click()")
    browser.wait(f"return ({names[7:]})[0] === 'n99'")
    browser.ask(
        "const field = document.querySelector('#normalizations input[type=search]'); field.value = 'n123';"
        "field.dispatchEvent(new Event('input', { bubbles: true }));"
    )
    browser.wait(f"return ({names[7:]}).join() === 'n123'")


@pytest.mark.slow
def test_two_hundred_folds_open_one_by_one(pages: Callable[[str], Path], browser: Browser) -> None:
    browser.open(pages("large"))
    browser.wait("return document.querySelectorAll('[data-dot].drawn svg').length === 2")  # of the first row, and no others
    second = "document.querySelectorAll('#normalizations td.opener button')[1]"
    assert browser.ask(f"return {second}.getAttribute('aria-expanded')") == "false"
    browser.ask(f"{second}.scrollIntoView({{ block: 'center', behavior: 'instant' }}); {second}.focus()")
    browser.driver.switch_to.active_element.send_keys("\n")
    browser.wait("return document.querySelectorAll('[data-dot].drawn svg').length === 4")
    assert browser.ask(f"return {second}.getAttribute('aria-expanded')") == "true"
    words = "return [...document.querySelectorAll('[data-dot].drawn')].map((one) => one.innerText.replace(/\\s+/g, ' '))"
    before, after = browser.ask(words)[2:]
    assert "BatchNormalization n1" in before
    assert "BatchNormalization" not in after
    assert "Conv" in after
    browser.driver.switch_to.active_element.send_keys("\n")
    browser.wait("return document.querySelectorAll('[data-dot].drawn svg').length === 2")
    assert browser.complaints() == []


@pytest.mark.slow
def test_a_mark_of_a_chart_tells_its_figure(pages: Callable[[str], Path], browser: Browser) -> None:
    browser.open(pages("bench"))
    told = browser.ask(
        "const mark = [...document.querySelectorAll('.chart .wide [role=graphics-symbol][aria-roledescription=point]')][0];"
        "mark.dispatchEvent(new PointerEvent('pointermove', { bubbles: true, clientX: 10, clientY: 10 }));"
        "const tip = document.getElementById('tip'); return [tip.hidden, tip.textContent, mark.getAttribute('aria-label')]"
    )
    assert told[0] is False
    assert told[1] == told[2]
    assert re.search(r"\d ms", told[1])


@pytest.mark.slow
def test_hostile_names_run_nothing_in_a_browser(pages: Callable[[str], Path], browser: Browser) -> None:
    browser.open(pages("stays"))
    browser.wait("return document.querySelectorAll('[data-dot].drawn svg').length === 1")
    assert browser.ask("return document.title").startswith("bnfold optimize")
    assert browser.ask("return document.images.length") == 0
    assert browser.complaints() == []
