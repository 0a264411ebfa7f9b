"""The page in a browser: it shows its pictures, requests nothing, and logs nothing."""

import json
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

from inception_jax.cli import main
from inception_jax.config import Experiment, to_json

BROWSER = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
pytestmark = pytest.mark.skipif(
    not BROWSER, reason="no Chromium on this machine (Debian: apt-get install chromium)"
)
FLAGS = [
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-default-apps",
]


def open_page(page, folder):
    """Returns the picture [H, W, 3] of a page, its requested addresses, and its console lines."""
    shot, log = folder / "shot.png", folder / "net.json"
    arguments = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={folder / 'profile'}",
        "--window-size=1100,1600",
        "--enable-logging=stderr",
        f"--log-net-log={log}",
        f"--screenshot={shot}",
    ]
    done = subprocess.run(
        [BROWSER, *arguments, *FLAGS, page.as_uri()], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    events = json.loads(log.read_text())["events"]
    # Requests of the browser itself, such as for the time of day, have no page for their origin.
    requests = [event.get("params", {}) for event in events]
    addresses = {
        params["url"]
        for params in requests
        if params.get("initiator", "not an origin") != "not an origin" and "url" in params
    }
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return np.asarray(Image.open(shot).convert("RGB")).astype(int), addresses, console


def count_curve_pixels(picture):
    """Returns the number of pixels in the colour of the training curve, which no text has."""
    return int((np.abs(picture - np.array([0x8D, 0xA0, 0xB3])).max(-1) < 12).sum())


@pytest.mark.slow
def test_the_report_page_shows_its_curves_and_requests_no_other_address(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    rows = [
        {"step": 10 * i, "train/loss": 2 / i, "train/top1": 1 - 1 / i, "train/learning_rate": 0.1}
        for i in range(1, 40)
    ]
    rows += [
        {
            "step": 100 * i,
            "val/loss": 1 / i,
            "val/top1": 1 - 0.5 / i,
            "val/top5": 1.0,
            "val/count": 450,
        }
        for i in (1, 2, 3)
    ]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (run / "experiment.json").write_text(json.dumps(to_json(Experiment())))
    assert main(["report", str(run)]) == 0
    page = run / "report" / "index.html"
    picture, addresses, console = open_page(page, tmp_path)
    assert console == []
    assert {
        address for address in addresses if not address.startswith(("file://", "data:"))
    } == set()
    without = tmp_path / "without.html"
    without.write_text(page.read_text().replace("<img", "<span"))
    blank, _, _ = open_page(without, tmp_path)
    assert count_curve_pixels(blank) == 0
    assert count_curve_pixels(picture) > 50


@pytest.mark.slow
def test_the_browser_check_detects_requests_and_console_messages(tmp_path):
    page = tmp_path / "bad.html"
    page.write_text(
        '<img src="http://127.0.0.1:9/picture.png"><script>console.error("oh")</script>'
    )
    _, addresses, console = open_page(page, tmp_path)
    assert "http://127.0.0.1:9/picture.png" in addresses
    assert any("oh" in line for line in console)
