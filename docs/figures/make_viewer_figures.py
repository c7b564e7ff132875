"""Pictures of the viewer with all families: `python docs/figures/make_viewer_figures.py`.

Needs Chromium with its driver and selenium. Writes docs/figures/viewer_FAMILY.png; names of families after
the command restrict it to these.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tempfile
import time
from importlib.resources import files
from pathlib import Path
from typing import Any

from PIL import Image
from selenium import webdriver

HERE = Path(__file__).parent
DEMO = files("phaseseg") / "demo"
CHANGE = "const e = document.querySelector('{0}'); e.value = '{1}'; e.dispatchEvent(new Event('{2}'));"
CLICK = "document.querySelector('{0}').click();"
LAST = CHANGE.format("#frame", 99, "input")
PAGES: dict[str, tuple[str, list[str], list[str]]] = {
    "segmentation": (
        "melt_large_3000K.dump.gz", ["-m", "gat-v1", "--interface"],
        [CLICK.format('[data-entry="phase:poor"] input')],
    ),
    "liquid_glass": (
        "glass_ka2d_s901.xyz.gz", ["-m", "liquid_glass/dmpnn-attention-v1", "--frames", "12::4"], [LAST],
    ),
    "mobility": (
        "liquid_ka3d_t064.xyz.gz", ["-m", "mobility/net-ka3d-t064-minimized-v1"],
        [
            CHANGE.format("#clip", "b", "change"), CLICK.format("#flip"),
            CHANGE.format("#place", 0.4, "input"),
        ],
    ),
    "environments": (
        "metals.xyz.gz", ["-m", "environments/mixture-v1", "--frames", "::10"],
        [CHANGE.format("#frame", 23, "input")],
    ),
}  # fmt: skip


def browser() -> Any:
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or shutil.which("google-chrome") or ""
    for flag in ("--headless=new", "--no-sandbox", "--window-size=1100,843", "--use-gl=angle",
                 "--use-angle=swiftshader", "--enable-unsafe-swiftshader"):  # fmt: skip
        options.add_argument(flag)
    return webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))


def wait(driver: Any) -> None:
    """Until the picture is at rest."""
    end = time.monotonic() + 120
    while driver.execute_script("return document.body.dataset.rest") != "1" and time.monotonic() < end:
        time.sleep(0.1)


def make() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for family in sys.argv[1:] or PAGES:
            name, options, steps = PAGES[family]
            page = Path(folder) / f"{family}.html"
            command = [
                sys.executable,
                "-m",
                "phaseseg.cli",
                "view",
                str(DEMO / name),
                *options,
                "-o",
                str(page),
            ]
            subprocess.run(command, check=True)
            driver = browser()
            driver.get(page.as_uri())
            wait(driver)
            for step in steps:
                driver.execute_script(step)
                time.sleep(0.5)
                wait(driver)
            # The mean of all pictures, however slow this computer is.
            driver.execute_async_script("phaseseg.average().then(arguments[0])")
            picture = Image.open(io.BytesIO(driver.get_screenshot_as_png())).convert("RGB")
            driver.quit()
            picture.save(HERE / f"viewer_{family}.png", optimize=True)


if __name__ == "__main__":
    make()
