"""Damaged files of a run end a report with exit code 65 and the name of the file."""

import json
import resource
import zipfile

import numpy as np
import pytest

from inception_jax.cli import main
from inception_jax.config import Experiment, Model, to_json
from inception_jax.report.artifacts import UnreadableError, load_run_artifacts

NAMES = np.array(["ant", "bee"])
WORST = {
    "image": np.zeros((3, 8, 8, 3), np.uint8),
    "label": np.zeros(3, int),
    "prediction": np.ones(3, int),
    "probability": np.full(3, 0.6),
    "loss": np.ones(3),
    "class_names": NAMES,
    "confusion": np.ones((2, 2), int),
    "example": np.zeros((8, 8, 3), np.uint8),
}


@pytest.fixture
def run(tmp_path):
    (tmp_path / "metrics.jsonl").write_text(
        '{"step": 1, "val/top1": 0.5, "val/top5": 0.9, "val/loss": 1.0, "val/count": 10}\n'
    )
    (tmp_path / "experiment.json").write_text(
        json.dumps(to_json(Experiment(model=Model("inception_v3"))))
    )
    np.savez(tmp_path / "worst.npz", **WORST)
    return tmp_path


def test_all_files_of_a_run_are_loaded(run):
    assert load_run_artifacts(run).worst["class_names"].tolist() == ["ant", "bee"]


@pytest.mark.parametrize(
    "change",
    [
        {"probability": np.full(3, 1.5)},
        {"probability": np.full(3, -1.0)},
        {"label": np.full(3, 7)},
        {"prediction": np.full(3, -1)},
        {"image": np.zeros((3, 8, 8, 3))},
        {"confusion": np.full((2, 2), -1)},
        {"confusion": np.ones((3, 3), int)},
        {"class_names": np.array([1, 2])},
        {"label": np.zeros(2, int)},
        {"example": np.zeros(3, np.uint8)},
    ],
    ids=str,
)
def test_inconsistent_worst_examples_are_refused(run, change, capsys):
    np.savez(run / "worst.npz", **{**WORST, **change})
    assert main(["report", str(run)]) == 65
    assert "worst.npz cannot be read" in capsys.readouterr().err


def test_compressed_worst_examples_are_refused_before_they_take_memory(run):
    with zipfile.ZipFile(run / "worst.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        fields = b"{'descr': '|u1', 'fortran_order': False, 'shape': (536870912,), }"
        header = b"\x93NUMPY\x01\x00v\x00" + fields
        archive.writestr("image.npy", header.ljust(127) + b"\n" + bytes(2**27))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(
        UnreadableError, match=r"worst\.npz cannot be read \(its parts say that they have"
    ):
        load_run_artifacts(run)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000


def test_unprintable_characters_in_class_names_are_escaped(run):
    np.savez(run / "worst.npz", **{**WORST, "class_names": np.array(["a\x1b[2J", "\udcff"])})
    assert load_run_artifacts(run).worst["class_names"].tolist() == ["a\\x1b[2J", "\\udcff"]
    assert main(["report", str(run)]) == 0


def test_the_page_of_five_classes_or_fewer_has_no_top_5(run):
    assert main(["report", str(run)]) == 0
    assert "top-5" not in (run / "report" / "index.html").read_text()
    (run / "worst.npz").unlink()
    assert main(["report", str(run)]) == 0
    assert "top-5" in (run / "report" / "index.html").read_text()


@pytest.mark.parametrize(
    "row",
    [
        '{"step": 1, "val/top1": 1.5}',
        '{"step": 1, "val/top5": -0.1}',
        '{"step": 1, "val/count": 1e-300}',
        '{"step": 1, "val/count": -3}',
        '{"step": 1, "train/top1": 90}',
        "[" * 50_000,
        '{"step": 1, "x": ' + "[" * 50_000,
    ],
    ids=lambda row: row[:30],
)
def test_invalid_metrics_are_refused_with_the_file_and_the_line(run, row, capsys):
    (run / "metrics.jsonl").write_text(
        f'{row}\n{{"step": 2, "val/top1": 0.5, "val/top5": 0.9, "val/loss": 1.0}}\n'
    )
    assert main(["report", str(run)]) == 65
    stderr = capsys.readouterr().err
    assert "metrics.jsonl, line 1 cannot be read" in stderr
    assert len(stderr) < 4200


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"layers": 3}',
        '{"layers": [3]}',
        "[" * 50_000,
        '{"layers": [], "running": "x", "population": 1}',
    ],
)
def test_a_damaged_health_file_is_refused(run, text, capsys):
    (run / "health.json").write_text(text)
    assert main(["report", str(run)]) == 65
    assert "health.json cannot be read" in capsys.readouterr().err
