"""The map of `phaseseg mine` opens in a browser: chemiscope's own page, without a network."""

from __future__ import annotations

import json
import shutil
import subprocess
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from phaseseg.families.environments.dataset import read_data_set
from phaseseg.families.environments.map import write_map
from phaseseg.families.environments.mining import mine

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PAGE = """<!DOCTYPE html>
<html><head><meta charset="utf-8"><style>#map, #structure {{ width: 600px; height: 600px; }}</style></head>
<body><div id="meta"></div><div id="map"></div><div id="structure"></div><div id="info"></div>
<pre id="status"></pre>
<script src="chemiscope.min.js"></script>
<script>
const say = (text) => {{ document.getElementById("status").textContent += text + ";"; }};
Chemiscope.DefaultVisualizer.load(
  {{ meta: "meta", map: "map", structure: "structure", info: "info" }}, {data}
).then(() => say("shown")).catch((error) => say("failed: " + error));
</script></body></html>
"""


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no Chromium")
def test_the_map_opens_in_a_browser(tmp_path: Path) -> None:
    chemiscope = pytest.importorskip("chemiscope")
    script = Path(chemiscope.__file__).parent / "sphinx" / "static" / "chemiscope.min.js"
    if not script.is_file():
        pytest.skip("this chemiscope comes without its page")
    data = read_data_set(str(files("phaseseg") / "demo" / "metals.xyz.gz"))
    some = data.subset(np.flatnonzero(np.arange(len(data)) % 12 == 0))
    found = mine(some, method="kmeans", options={"n_clusters": 4}, budget=0.2, outliers=True)
    write_map(tmp_path / "map.json", found)
    shutil.copy(script, tmp_path)
    content = json.dumps(json.loads((tmp_path / "map.json").read_text())).replace("</", "<\\/")
    (tmp_path / "page.html").write_text(PAGE.format(data=content), encoding="utf-8")
    command = [
        str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--enable-unsafe-swiftshader",
        f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=20000", "--dump-dom",
        (tmp_path / "page.html").as_uri(),
    ]  # fmt: skip
    shown = subprocess.run(command, capture_output=True, text=True, timeout=240, check=True).stdout
    assert '<pre id="status">shown;</pre>' in shown
    assert "PC 1" in shown and "outlier score" in shown and some.names[0] in shown
