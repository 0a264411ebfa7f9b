import base64
import json
import time
from html.parser import HTMLParser

import numpy as np
from PIL import Image

from inception_jax.cli import main
from inception_jax.config import Experiment, Model, to_json


class Reader(HTMLParser):
    """Collects the addresses, the text and the open elements of a page."""

    def __init__(self):
        super().__init__()
        self.addresses, self.open, self.text = [], [], ""

    def handle_starttag(self, tag, attributes):
        self.addresses += [
            value
            for name, value in attributes
            if name in ("src", "href", "srcset", "action", "data")
        ]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_report_writes_one_self_contained_page_about_a_run(tmp_path, capsys):
    run = tmp_path / "<b>run"
    run.mkdir()
    rows = [
        {
            "step": step,
            "train/loss": 2 / step,
            "train/top1": 1 - 1 / step,
            "train/learning_rate": 0.1,
        }
        for step in range(1, 200)
    ]
    rows += [
        {"step": step, "val/loss": 0.3, "val/top1": top1, "val/top5": 1.0}
        for step, top1 in ((100, 0.95), (199, 0.9))
    ]
    (run / "metrics.jsonl").write_text(
        "".join(json.dumps(row) + "\n" for row in rows) + '{"step": 200, "val/lo'
    )
    (run / "experiment.json").write_text(
        json.dumps(to_json(Experiment(model=Model("inception_v3"), seed=7)))
    )
    (run / "run.json").write_text(
        json.dumps({"attempts": [{"jax": "0.10.2", "command": ["<script>alert(1)</script>"]}]})
    )
    images = np.random.default_rng(0).integers(0, 256, (10, 8, 8, 3), np.uint8)
    np.savez(
        run / "worst.npz",
        image=images,
        label=np.zeros(10, int),
        prediction=np.ones(10, int),
        probability=np.full(10, 0.6),
        loss=np.ones(10),
        class_names=np.array(["a", "b"]),
        example=images[4],
    )
    began = time.monotonic()
    assert main(["report", str(run)]) == 0
    assert time.monotonic() - began < 10
    assert capsys.readouterr().out.splitlines()[-1].endswith("report/index.html")
    page = (run / "report" / "index.html").read_text()
    reader = Reader()
    reader.feed(page)
    assert reader.open == []
    assert "//" not in page.replace("data:image/png;base64,", "").split("<body>")[0]
    assert len(reader.addresses) == 2
    for address in reader.addresses:
        kind, data = address.split(",", 1)
        assert kind == "data:image/png;base64"
        assert len(base64.b64decode(data)) > 1000
    assert "held-out top-1 90.00% at step 199; the best was 95.00% at step 100" in reader.text
    assert '"inception_v3"' in reader.text
    assert "<script" not in page
    assert Image.open(run / "report" / "curves.png").width > 800
