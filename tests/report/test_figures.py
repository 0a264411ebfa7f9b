import json

import numpy as np
from PIL import Image

from inception_jax.report.figures import draw_report


def test_the_report_plots_the_curves_and_the_mistakes_of_a_run(tmp_path):
    rows = [
        {
            "step": step,
            "train/loss": 2 / step,
            "train/top1": 1 - 1 / step,
            "train/learning_rate": 0.1,
        }
        for step in range(1, 9)
    ]
    rows.append({"step": 8, "val/loss": 0.3, "val/top1": 0.9})
    (tmp_path / "metrics.jsonl").write_text(
        "".join(json.dumps(row) + "\n" for row in rows) + '{"step": 9, "train/lo'
    )
    images = np.random.default_rng(0).integers(0, 256, (10, 8, 8, 3), np.uint8)
    labels = np.arange(10) % 3
    np.savez(
        tmp_path / "worst.npz",
        image=images,
        label=labels,
        prediction=(labels + 1) % 3,
        probability=np.full(10, 0.6),
        loss=np.ones(10),
        class_names=np.array(["a", "b", "c"]),
        example=images[4],
    )
    files = draw_report(tmp_path)
    assert [file.name for file in files] == ["curves.png", "mistakes.png"]
    for file in files:
        pixels = np.asarray(Image.open(file).convert("L"))
        assert pixels.shape[1] > 800
        assert pixels.std() > 10
    np.testing.assert_array_equal(
        np.asarray(Image.open(tmp_path / "report" / "example.png")), images[4]
    )


def test_the_curves_of_a_run_without_a_score_are_drawn(tmp_path):
    (tmp_path / "metrics.jsonl").write_text(
        '{"step": 1, "train/loss": 2.0, "train/top1": 0.1, "train/learning_rate": 0.1}\n'
    )
    assert [file.name for file in draw_report(tmp_path)] == ["curves.png"]
