"""The page in a real browser: it shows its pictures, asks no other address for anything, and its console stays empty."""

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
QUIET = [
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-default-apps",
]


def seen(page, folder):
    """(picture [H, W, 3] of the page, addresses that were asked for, lines of the console)."""
    shot, log = folder / "shot.png", folder / "net.json"
    done = subprocess.run(
        [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", *QUIET, f"--user-data-dir={folder / 'profile'}", "--window-size=1100,1600",
         "--enable-logging=stderr", f"--log-net-log={log}", f"--screenshot={shot}", page.as_uri()],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    events = json.loads(log.read_text())["events"]
    # What the browser asks for by itself, the time of day among it, has no page for its origin.
    of_the_page = [
        event["params"]
        for event in events
        if event.get("params", {}).get("initiator", "not an origin") != "not an origin"
    ]
    asked = {params["url"] for params in of_the_page if "url" in params}
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return np.asarray(Image.open(shot).convert("RGB")).astype(int), asked, console


def of_the_curve(picture):
    """Pixels in the colour of the training curve, which no text of the page has."""
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
    picture, asked, console = seen(page, tmp_path)
    assert console == []
    assert {address for address in asked if not address.startswith(("file://", "data:"))} == set()
    without = tmp_path / "without.html"
    without.write_text(page.read_text().replace("<img", "<span"))
    blank, _, _ = seen(without, tmp_path)
    assert of_the_curve(blank) == 0
    assert of_the_curve(picture) > 50


@pytest.mark.slow
def test_the_browser_check_detects_requests_and_console_messages(tmp_path):
    page = tmp_path / "bad.html"
    page.write_text(
        '<img src="http://127.0.0.1:9/picture.png"><script>console.error("oh")</script>'
    )
    _, asked, console = seen(page, tmp_path)
    assert "http://127.0.0.1:9/picture.png" in asked
    assert any("oh" in line for line in console)
