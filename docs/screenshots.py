"""Makes the pictures under docs/images: reports of the LeNet, as Chromium shows them.

    python docs/screenshots.py

Needs Chromium with chromedriver (Debian: apt-get install chromium chromium-driver), selenium, Pillow and bnfold[html].
"""

from __future__ import annotations

import base64
import io
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from selenium import webdriver

ROOT = Path(__file__).resolve().parents[1]
IMAGES = ROOT / "docs" / "images"
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--hide-scrollbars", "--disable-background-networking")
REPORTS = {
    "optimize.html": "optimize lenet.onnx --data fashion_mnist_sample.npz --report optimize.html -q",
    "bench.html": "bench lenet.onnx lenet.folded.onnx --report bench.html -q",
}

IS_DRAWN = """
return 'ready' in document.documentElement.dataset && [...document.querySelectorAll('[data-dot]')].every(
  (one) => one.matches('.drawn') || one.getBoundingClientRect().top > innerHeight
)"""


@dataclass(frozen=True)
class Shot:
    """One picture.

    Attributes:
        name: of the file under docs/images.
        page: the report.
        anchor: the section that it begins with; "" for the top of the page.
        width: of the window, in pixels.
        height: likewise.
        scheme: "light" or "dark".
    """

    name: str
    page: str
    anchor: str
    width: int
    height: int
    scheme: str


SHOTS = (
    Shot("report", "optimize.html", "", 1280, 860, "light"),
    Shot("report-dark", "optimize.html", "error", 1280, 860, "dark"),
    Shot("report-narrow", "optimize.html", "", 400, 860, "dark"),
    Shot("report-bench", "bench.html", "", 1280, 720, "light"),
)


def main() -> None:
    """Runs the commands, and takes every picture."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for name in ("lenet.onnx", "fashion_mnist_sample.npz"):
            shutil.copy(ROOT / "models" / name, folder)
        for command in REPORTS.values():
            subprocess.run(
                [sys.executable, "-m", "bnfold", *command.split()], cwd=folder, env={"PYTHONPATH": str(ROOT)}, check=True
            )
        driver = opened(folder / "profile")
        try:
            for shot in SHOTS:
                picture = taken(driver, folder, shot)
                path = IMAGES / f"{shot.name}.webp"
                picture.save(path, quality=80, method=6)
                print(f"{path.relative_to(ROOT)}   {path.stat().st_size / 1e3:.0f} kB")
        finally:
            driver.quit()


def opened(profile: Path) -> Any:
    """A Chromium with a profile of its own."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    return webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))


def taken(driver: Any, folder: Path, shot: Shot) -> Image.Image:
    """One picture, once the page has drawn everything that is in it."""
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": shot.scheme}]})
    size = {"width": shot.width, "height": shot.height, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    driver.get((folder / shot.page).as_uri())
    while not driver.execute_script(IS_DRAWN):
        time.sleep(0.1)
    if shot.anchor:
        driver.execute_script(f"document.getElementById('{shot.anchor}').scrollIntoView({{ behavior: 'instant' }})")
    time.sleep(0.5)
    png = driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})["data"]
    return Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")


if __name__ == "__main__":
    main()
