"""Pages of the viewer in a real browser: what is drawn, what changes it, and that nothing is requested.

Needs Chromium with its driver (Debian: `apt-get install chromium chromium-driver`) and selenium; WebGL is
rendered by software. The tests are skipped where one of them is missing.
"""

from __future__ import annotations

import io
import json
import shutil
import time
from importlib.resources import files

import numpy as np
import pytest

from faces.command_line import done
from phaseseg import Frame, predict, read_frames, view
from phaseseg.statistics import percentiles

webdriver = pytest.importorskip("selenium.webdriver", reason="no selenium")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="no Chromium with its driver"),
]
DEMO = files("phaseseg") / "demo"
WEBGL = ("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")


def browser(folder, *flags):
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    for flag in (
        "--headless=new",
        "--no-sandbox",
        "--window-size=760,620",
        "--disable-dev-shm-usage",
        *flags,
    ):
        options.add_argument(flag)
    options.add_argument(f"--user-data-dir={folder}")
    return webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    made = browser(tmp_path_factory.mktemp("profile"), *WEBGL)
    yield made
    made.quit()


def until(driver, condition, seconds=60):
    end = time.monotonic() + seconds
    while not driver.execute_script(f"return {condition}"):
        assert time.monotonic() < end, f"not within {seconds} s: {condition}; {driver.get_log('browser')}"
        time.sleep(0.05)


def forget(driver):
    """Drop what was said before, such as the requests of the browser's own first page."""
    driver.get("about:blank")
    driver.get_log("browser"), driver.get_log("performance")


def shown(driver, page, path):
    """Open a page and wait until it is drawn."""
    page.save(path)
    forget(driver)
    driver.get(path.as_uri())
    until(driver, "document.body.dataset.state !== 'loading'")
    assert driver.execute_script("return document.body.dataset.state") == "drawn", driver.get_log("browser")
    rest(driver)


def rest(driver):
    """Wait for a complete picture, not for the mean of many."""
    until(driver, "+document.body.dataset.averaged >= 1")


def picture(driver, side=20):
    """(height, width, 3) of the canvas as drawn, without head and panel."""
    from PIL import Image

    canvas = driver.find_element("id", "canvas")
    shot = Image.open(io.BytesIO(canvas.screenshot_as_png)).convert("RGB")
    return np.asarray(shot).astype(int)[70:-60, side : canvas.size["width"] - side]


def drawn(driver):
    """How much is drawn, 0 to 1. It is linear in the pixels, so it does not depend on the number of averaged
    pictures, as a count of pixels beyond a threshold does.
    """
    return float((255 - picture(driver).min(axis=2)).mean() / 255)


def click(driver, selector):
    driver.execute_script("document.querySelector(arguments[0]).click()", selector)
    rest(driver)


def choose(driver, name, value, kind="change"):
    driver.execute_script(
        "const one = document.getElementById(arguments[0]); one.value = arguments[1];"
        "one.dispatchEvent(new Event(arguments[2]))", name, str(value), kind,
    )  # fmt: skip
    rest(driver)


def quiet(driver):
    """Nothing went wrong, and nothing but the page itself was asked for."""
    errors = [one["message"] for one in driver.get_log("browser") if one["level"] in ("SEVERE", "WARNING")]
    assert not errors
    for entry in driver.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            assert message["params"]["request"]["url"].startswith(("file:", "data:", "blob:"))


@pytest.fixture(scope="module")
def melt():
    frames = list(read_frames(str(DEMO / "melt_small_3000K.dump.gz"), frames=slice(0, 3)))
    return view(frames, [predict(frame) for frame in frames], interface=True)


def test_classes_species_colors_clip_and_time(driver, melt, tmp_path):
    shown(driver, melt, tmp_path / "view.html")
    everything, first = drawn(driver), picture(driver)
    assert 0.15 < everything < 0.9
    blue = (first[..., 2] - first[..., 0] > 40).mean()
    orange = (first[..., 0] - first[..., 2] > 60).mean()
    assert blue > 0.03 and orange > 0.02
    click(driver, "[data-entry='phase:poor'] input")
    without = picture(driver)
    assert (without[..., 2] - without[..., 0] > 40).mean() < 0.1 * blue
    click(driver, "[data-entry='phase:poor'] input")
    assert np.abs(picture(driver) - first).mean() < 2
    click(driver, "[data-entry='species:O'] input")
    assert drawn(driver) < everything
    click(driver, "[data-entry='species:O'] input")
    choose(driver, "color", "species")
    assert np.abs(picture(driver) - first).mean() > 5
    choose(driver, "color", "interface_distance")
    scalar = picture(driver)
    choose(driver, "map", "gray")
    gray = picture(driver)
    solid = np.abs(gray - 255).max(axis=2) > 60
    assert np.ptp(gray[solid], axis=1).mean() < 0.5 * np.ptp(scalar[solid], axis=1).mean()
    choose(driver, "color", "phase")
    choose(driver, "clip", "a")
    assert drawn(driver) < everything
    choose(driver, "place", 0, "input")
    assert drawn(driver) < 0.3 * everything
    choose(driver, "clip", "none")
    choose(driver, "frame", 2, "input")
    until(driver, "document.body.dataset.frame === '2'")
    rest(driver)
    assert np.abs(picture(driver) - first).mean() > 3
    assert "frame 2" in driver.find_element("id", "label").text
    quiet(driver)


def test_a_click_tells_id_species_and_fields(driver, tmp_path):
    """One atom is drawn in the middle of the picture, and nothing else."""
    frame = Frame(
        [[5.0, 5, 5]], [10.0, 10, 10], True, ["Fe"], ids=[2**33 + 7], fields={"charge": np.array([1.25])}
    )
    shown(driver, view(frame), tmp_path / "view.html")
    canvas = driver.find_element("id", "canvas")
    webdriver.ActionChains(driver).move_to_element(canvas).click().perform()
    until(driver, "!document.getElementById('picked').hidden")
    text = driver.find_element("id", "picked").text
    rest(driver)
    yellow = picture(driver)
    assert ((yellow[..., 0] > 200) & (yellow[..., 1] > 180) & (yellow[..., 2] < 90)).sum() > 50
    assert "Fe, id 8589934599" in text and "1.25" in text and "5.00, 5.00, 5.00" in text
    webdriver.ActionChains(driver).move_to_element_with_offset(canvas, -200, 150).click().perform()
    until(driver, "document.getElementById('picked').hidden")
    quiet(driver)


def test_percentiles_within_the_species(driver, tmp_path):
    rng = np.random.default_rng(5)
    n = 60
    frame = Frame(rng.random((n, 3)) * 8, [8.0] * 3, True, rng.integers(0, 3, n), ("A", "B", "C"), units="lj")
    moves = rng.normal(size=n).round(1) + frame.species
    moves[3] = np.nan
    shown(driver, view(frame, {"propensity": moves}), tmp_path / "view.html")
    found = np.array(driver.execute_script("return phaseseg.values()"))
    expected = percentiles(moves, frame.species)
    known = np.isfinite(expected)
    assert found[known] == pytest.approx(expected[known], abs=1e-3) and (found[~known] < -1e38).all()
    before = picture(driver)
    click(driver, "#ranked")
    assert np.abs(picture(driver) - before).mean() > 1
    assert np.array(driver.execute_script("return phaseseg.values()"))[known] == pytest.approx(
        moves[known], abs=1e-3
    )
    quiet(driver)


def test_mouse_and_keys_turn_the_atoms(driver, melt, tmp_path):
    shown(driver, melt, tmp_path / "view.html")
    before, canvas = picture(driver), driver.find_element("id", "canvas")
    actions = webdriver.ActionChains(driver)
    actions.move_to_element(canvas).click_and_hold().move_by_offset(80, 20).release().perform()
    rest(driver)
    turned = picture(driver)
    assert np.abs(turned - before).mean() > 3
    canvas.send_keys("+++")
    time.sleep(0.4)
    rest(driver)
    assert np.abs(picture(driver) - turned).mean() > 3
    click(driver, "#reset")
    assert np.abs(picture(driver) - before).mean() < 2
    quiet(driver)


def test_a_million_atoms_open_and_turn(driver, tmp_path):
    """Also where software draws them: coarsely while the mouse moves, completely when it rests."""
    rng = np.random.default_rng(0)
    n, edge = 1_000_000, 211.0
    frame = Frame(rng.random((n, 3)) * edge, [edge] * 3, True, rng.integers(0, 2, n), ("Fe", "O"))
    shown(driver, view(frame), tmp_path / "view.html")
    before = picture(driver)
    assert drawn(driver) > 0.15
    canvas = driver.find_element("id", "canvas")
    webdriver.ActionChains(driver).move_to_element(canvas).click_and_hold().move_by_offset(40, 10).perform()
    for _ in range(10):
        webdriver.ActionChains(driver, duration=20).move_by_offset(8, 0).perform()
        driver.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(arguments[0]))")
    webdriver.ActionChains(driver).release().perform()
    rest(driver)
    assert np.abs(picture(driver) - before).mean() > 3
    quiet(driver)


def test_bonds_and_a_layer(driver, tmp_path):
    frame = next(iter(read_frames(str(DEMO / "glass_ka2d_s901.xyz.gz"))))
    fields = predict(frame, "liquid_glass/dmpnn-attention-v1", attention=True)
    shown(driver, view(frame, fields), tmp_path / "view.html")
    before = drawn(driver)
    choose(driver, "bonds0", "all")
    assert drawn(driver) > 1.03 * before
    choose(driver, "bonds0", "none")
    assert drawn(driver) < before
    quiet(driver)


TILTED = [[12.0, 0, 0], [6.0, 10, 0], [-5.0, 3.0, 11]]


def test_a_tilted_cell_contains_its_atoms(driver, tmp_path):
    """Seen along c, the atoms of a tilted cell fill it."""
    rng = np.random.default_rng(0)
    frame = Frame(rng.random((400, 3)) @ np.array(TILTED) * 3, TILTED, True, ["Fe"] * 400)
    shown(driver, view(frame), tmp_path / "view.html")
    with_cell = drawn(driver)
    click(driver, "#cell")
    assert 0 < with_cell - drawn(driver) < 0.1
    quiet(driver)


def test_a_wide_layer_fits(driver, tmp_path):
    rng = np.random.default_rng(0)
    cell = np.array([[20.0, 0, 0], [40, 20, 0], [0, 0, 1]])
    frame = Frame((rng.random((200, 3)) * [1, 1, 0]) @ cell, cell, True, ["A", "B"] * 100, units="lj")
    shown(driver, view(frame), tmp_path / "view.html")
    columns = (np.abs(picture(driver, 0) - 255).max(axis=2) > 30).any(axis=0)
    assert columns.mean() > 0.9 and not columns[:3].any() and not columns[-3:].any()


def test_names_are_text(driver, tmp_path):
    hostile = "</script><img src=x onerror=alert(1)>"
    frame = Frame(np.eye(3), [4.0, 4, 4], True, ["Fe", "Fe", hostile], fields={hostile: np.arange(3.0)})
    shown(driver, view(frame, title=hostile), tmp_path / "view.html")
    assert hostile in driver.find_element("id", "panel").text
    quiet(driver)


def test_without_webgl(melt, tmp_path):
    driver = browser(tmp_path / "profile", "--disable-3d-apis", "--disable-gpu")
    try:
        melt.save(tmp_path / "view.html")
        driver.get((tmp_path / "view.html").as_uri())
        until(driver, "document.body.dataset.state === 'still'")
        assert "no WebGL 2, so this is a still picture" in driver.find_element("id", "reason").text
        still = driver.find_element("id", "still")
        assert still.is_displayed() and driver.execute_script("return arguments[0].naturalWidth", still) > 100
    finally:
        driver.quit()


def draws_in_a_frame(driver, path):
    """Open a page that has the viewer in a frame, and wait for its picture."""
    forget(driver)
    driver.get(path.as_uri())
    driver.switch_to.frame(driver.find_element("tag name", "iframe"))
    until(driver, "document.body.dataset.state === 'drawn'")
    driver.switch_to.default_content()
    quiet(driver)


def test_in_a_report(driver, tmp_path):
    done("label", DEMO / "melt_small_3000K.dump.gz", "--frames", "0", "--report", tmp_path, "--view")
    draws_in_a_frame(driver, tmp_path / "report.html")


def test_in_a_notebook_cell(driver, melt, tmp_path):
    """As notebooks embed it: the page in a frame of another page."""
    (tmp_path / "notebook.html").write_text(f"<html><body>{melt._repr_html_()}</body></html>", "utf-8")
    draws_in_a_frame(driver, tmp_path / "notebook.html")
