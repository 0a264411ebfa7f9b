"""Refusals at the start of a run, files that it leaves untouched, and its record of the data."""

import json
import os
import re
import shutil

import jax
import numpy as np
import pytest
from etils import epath

import inception_jax
from benchmarks.runs import Process, free_port
from inception_jax.checkpointing.checkpoints import Checkpoints
from inception_jax.cli import main
from inception_jax.data.source import DataError
from inception_jax.experiment import Run
from inception_jax.report import figures, page
from tests.folders import TRAIN, make_images

pytestmark = pytest.mark.slow


@pytest.fixture
def data(tmp_path):
    return make_images(tmp_path / "data")


@pytest.fixture
def train(command, data):
    """Trains three epochs of three steps on the folder of images."""
    return lambda *fields: command(
        "train", *TRAIN, "--data.directory", data, "--epochs", "3", *fields
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A finished run beside its data, to be copied."""
    root = tmp_path_factory.mktemp("made")
    make_images(root / "data")
    line = [
        *TRAIN,
        "--data.directory",
        str(root / "data"),
        "--epochs",
        "3",
        "--workdir",
        str(root / "run"),
    ]
    assert main(["train", *line]) == 0
    return root


@pytest.fixture
def finished(made, data, tmp_path):
    """Copies the finished run into the test's own folder."""
    shutil.copytree(made / "run", tmp_path / "run")
    return tmp_path / "run"


def compiled(monkeypatch):
    """Fails a test as soon as a training step would be compiled."""

    def never(run):
        raise AssertionError("it went on to compile")

    monkeypatch.setattr(Run, "train_step", property(never))


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda data: shutil.rmtree(data / "test"), r"data/test is no folder"),
        (
            lambda data: (data / "test" / "bee" / "03.png").write_bytes(b"no image"),
            r"test, example 8 \(.*test/bee/03.png\): 8 bytes",
        ),
        (
            lambda data: shutil.rmtree(data / "test" / "bee"),
            r"test has 1 classes and train 2; not in both: bee",
        ),
    ],
    ids=["no folder", "a broken image", "a class too few"],
)
def test_held_out_data_are_checked_before_anything_is_compiled_or_written(
    harm, message, train, command, data, tmp_path, monkeypatch
):
    compiled(monkeypatch)
    harm(data)
    done = train()
    assert done.returncode == 65
    assert re.search(message, done.stderr), done.stderr
    assert not (tmp_path / "run").exists()
    planned = command("plan", *TRAIN, "--data.directory", data)
    assert planned.returncode == 65
    assert re.search(message, planned.stderr)


def test_an_empty_held_out_split_is_refused_at_the_start(command, tmp_path, monkeypatch):
    compiled(monkeypatch)
    line = [
        *TRAIN,
        "--data.name",
        "synthetic",
        "--data.train-split",
        "train[:64]",
        "--data.test-split",
        "test[:0%]",
        "--steps",
        "3",
    ]
    for name in ("train", "plan"):
        done = command(name, *line)
        assert done.returncode == 65
        assert "synthetic has no held-out examples in 'test[:0%]'" in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_broken_held_out_image_is_left_out_where_such_are_to_be_skipped(train, data, tmp_path):
    (data / "test" / "bee" / "03.png").write_bytes(b"no image")
    assert train("--data.on-bad-example", "skip_and_count").returncode == 0
    rows = [
        json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    ]
    assert [row["val/skipped"] for row in rows if "val/skipped" in row][-1] == 1


def test_a_training_image_that_breaks_in_mid_run_loses_no_step(train, data, tmp_path, monkeypatch):
    """The run ends with 65 and the name of the image; mended, it goes on from the step before."""
    original = Run.training_pixels

    def breaking(run, example, position, into):
        if position == 8 * 7 + 2 and not (tmp_path / "mended").exists():
            raise DataError("no readable image")
        original(run, example, position, into)

    monkeypatch.setattr(Run, "training_pixels", breaking)
    done = train("--checkpoint-every-epochs", "0", "--evaluate-every-epochs", "0")
    assert done.returncode == 65
    assert re.search(r"example \d+ \(.*png\): no readable image", done.stderr)
    assert Checkpoints(tmp_path / "run" / "checkpoints", keep=1, is_primary=False).steps() == [7]
    (tmp_path / "mended").touch()
    done = train("--checkpoint-every-epochs", "0", "--evaluate-every-epochs", "0")
    assert done.returncode == 0, done.stderr
    assert "going on from step 7 of 9" in done.stderr


def test_a_start_that_fails_claims_nothing_and_the_corrected_line_runs(train, tmp_path):
    for fields, code in (
        (["--init-from", "nowhere"], 78),
        (["--data.test-split", "validation"], 65),
        (["--seed", str(2**63)], 78),
    ):
        done = train("--optimizer.learning-rate", "0.5", *fields)
        assert done.returncode == code, done.stderr
        assert not (tmp_path / "run" / "experiment.json").exists()
    assert train("--optimizer.learning-rate", "0.1").returncode == 0


def test_weights_that_cannot_be_read_are_refused_before_the_workdir_is_claimed(
    train, tmp_path, monkeypatch
):
    compiled(monkeypatch)
    (tmp_path / "w.safetensors").write_bytes(b"no weights")
    done = train("--init-from", "w.safetensors")
    assert done.returncode == 65
    assert "w.safetensors is no whole file of weights" in done.stderr
    assert not (tmp_path / "run" / "experiment.json").exists()


def test_a_second_start_of_a_live_run_leaves_its_experiment_untouched(tmp_path):
    first = Process(tmp_path, "--workdir", "run", "--import", "tests.faults.slow")
    first.until("compiled, and made the first step")
    before = (tmp_path / "run" / "experiment.json").read_bytes()
    second = Process(
        tmp_path, "--workdir", "run", "--log-every-steps", "3", "--keep-checkpoints", "7"
    )
    assert second.wait() == 75, second.text
    assert "another process is training in" in second.text
    assert (tmp_path / "run" / "experiment.json").read_bytes() == before
    assert first.wait() == 0, first.text


def test_a_run_records_its_classes_sizes_and_fingerprints(finished):
    facts = json.loads((finished / "data.json").read_text())
    assert facts["class_names"] == ["ant", "bee"]
    assert (facts["train"]["name"], facts["train"]["examples"], facts["test"]["examples"]) == (
        "train",
        24,
        10,
    )
    assert len(facts["train"]["fingerprint"]) == 16
    assert facts["train"]["fingerprint"] != facts["test"]["fingerprint"]


def test_inference_needs_no_data_and_names_the_recorded_classes(
    made, finished, data, command, tmp_path
):
    """The classes were renamed, such that their order is another, and then the data were moved
    away.
    """
    image = tmp_path / "image.png"
    shutil.copy(data / "test" / "bee" / "00.png", image)
    stored = json.loads((finished / "experiment.json").read_text())
    stored["data"]["directory"] = str(data)
    (finished / "experiment.json").write_text(json.dumps(stored))
    before = command("predict", "run", image, "--json")
    assert before.returncode == 0, before.stderr
    for split in ("train", "test"):
        (data / split / "ant").rename(data / split / "wasp")
    assert command("predict", "run", image, "--json").stdout == before.stdout
    scored = command("evaluate", "run", "--json")
    assert scored.returncode == 65
    assert "test has 2 classes and the run 2; not in both: ant, wasp" in scored.stderr
    shutil.rmtree(data)
    assert command("predict", "run", image, "--json").stdout == before.stdout
    assert command("features", "run", image, "--output", "f.npz").returncode == 0
    assert command("export", "run", "--to", "safetensors").returncode == 0
    assert np.load(tmp_path / "f.npz")["features"].shape == (1, 12)


def rename(data):
    for split in ("train", "test"):
        (data / split / "bee").rename(data / split / "wasp")


def add(data):
    shutil.copy(data / "train" / "bee" / "00.png", data / "train" / "bee" / "99.png")


def replace_file(data):
    (data / "train" / "bee" / "00.png").write_bytes(
        (data / "train" / "bee" / "01.png").read_bytes() + b"\0"
    )


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (rename, "classes: 2 -> 2; gone: bee; new: wasp"),
        (add, "train: 24 -> 25 examples"),
        (replace_file, "train: files of other names or sizes"),
    ],
)
def test_a_run_is_not_resumed_with_other_data_unless_that_is_accepted(
    harm, message, train, finished, data, tmp_path
):
    assert train().returncode == 0  # the same images elsewhere are the same data
    before = {file.name: file.read_bytes() for file in finished.iterdir() if file.is_file()}
    harm(data)
    done = train("--epochs", "4")
    assert done.returncode == 78
    assert message in done.stderr
    assert "--data.changed accept" in done.stderr
    assert {file.name: file.read_bytes() for file in finished.iterdir() if file.is_file()} == before
    done = train("--epochs", "4", "--data.changed", "accept")
    assert done.returncode == 0, done.stderr
    assert f"the data changed: {message}" in done.stderr
    assert train("--epochs", "4").returncode == 0  # they are what is recorded now


@pytest.mark.nightly
def test_a_process_whose_data_differ_is_named_before_the_first_step(tmp_path):
    roots = [make_images(tmp_path / str(number) / "data") for number in (0, 1)]
    (roots[1] / "train" / "bee" / "03.png").unlink()
    place = {"JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{free_port()}", "JAX_NUM_PROCESSES": "2"}
    processes = [
        Process(
            tmp_path, *TRAIN[1:], "--data.directory", str(root), **place, JAX_PROCESS_ID=str(number)
        )
        for number, root in enumerate(roots)
    ]
    assert [process.wait(60) for process in processes] == [78, 78]
    for process in processes:
        assert re.search(
            r"the processes of this run are not alike: data train is .* but on process [01] on ",
            process.text,
        )


def test_a_stray_file_in_a_checkpoint_is_no_damage(train, finished):
    newest = max(
        (path for path in (finished / "checkpoints").iterdir() if path.name.isdigit()),
        key=lambda path: int(path.name),
    )
    (newest / ".DS_Store").write_bytes(b"\0" * 6148)
    (newest / ".ipynb_checkpoints").mkdir()
    (newest / ".ipynb_checkpoints" / "notes").write_text("")
    (newest / "state" / "Thumbs.db").write_bytes(b"thumbs")
    done = train("--epochs", "4")
    assert done.returncode == 0, done.stderr
    assert "going on from step 9 of 12" in done.stderr
    assert "damaged" not in done.stderr


def test_a_run_without_an_intact_checkpoint_begins_anew_only_on_request(train, finished):
    for manifest in (finished / "checkpoints").glob("*.sha256.json"):
        largest = max(
            (
                file
                for file in (finished / "checkpoints" / manifest.name.partition(".")[0]).rglob("*")
                if file.is_file()
            ),
            key=lambda file: file.stat().st_size,
        )
        largest.write_bytes(largest.read_bytes()[:-1])
    before = sorted(str(path) for path in finished.rglob("*"))
    metrics = (finished / "metrics.jsonl").read_bytes()
    for _ in range(2):
        done = train("--epochs", "4")
        assert done.returncode == 65
        assert "no checkpoint is left to go on from" in done.stderr
        assert "--from-scratch" in done.stderr
    assert (finished / "metrics.jsonl").read_bytes() == metrics
    assert {path for path in before if "checkpoints" in path} <= {
        str(path) for path in finished.rglob("*")
    }
    done = train("--epochs", "4", "--from-scratch")
    assert done.returncode == 0, done.stderr
    assert "it is kept as 9.damaged" in done.stderr
    assert "step 12/12" in done.stderr


@pytest.mark.parametrize(
    ("setting", "value", "noted"),
    [
        ("jax_enable_x64", True, "x64"),
        ("jax_default_prng_impl", "rbg", "prng_impl"),
        ("jax_default_matmul_precision", "highest", "matmul_precision"),
    ],
)
def test_a_run_is_not_resumed_under_other_settings_of_jax(setting, value, noted, train, finished):
    before = getattr(jax.config, setting)
    jax.config.update(setting, value)
    try:
        done = train("--epochs", "4")
    finally:
        jax.config.update(setting, before)
    assert done.returncode == 78
    assert f"begun under other settings of JAX ({noted}: " in done.stderr
    assert train("--epochs", "4").returncode == 0


@pytest.mark.parametrize("name", ["$\\frac{$", "a_b$5 to $10", "<h1><b>"])
def test_a_class_of_any_name_is_drawn_as_it_is_called(name, command, tmp_path):
    make_images(tmp_path / "data", ("ant", name))
    done = command("train", *TRAIN, "--data.directory", "data", "--epochs", "2")
    assert done.returncode == 0, done.stderr
    assert {"curves.png", "mistakes.png", "index.html"} <= {
        file.name for file in (tmp_path / "run" / "report").iterdir()
    }
    assert command("report", "run").returncode == 0
    assert command("data", "show", *TRAIN[:-2], "--data.directory", "data").returncode == 0


def test_a_drawing_that_fails_is_a_warning_and_the_run_is_complete(
    train, monkeypatch, tmp_path, caplog
):
    def fails(*_):
        raise RuntimeError("no font")

    monkeypatch.setattr(figures, "draw_mistakes", fails)
    done = train()
    assert done.returncode == 0, done.stderr
    assert "mistakes.png cannot be drawn (RuntimeError: no font)" in caplog.text
    assert (tmp_path / "run" / "report" / "curves.png").exists()
    monkeypatch.setattr(page, "write_page", fails)
    (tmp_path / "run" / "report" / "index.html").unlink()
    done = train()
    assert done.returncode == 0
    assert "its report cannot be drawn (RuntimeError: no font)" in done.stderr
    assert "this run is complete at step 9" in done.stderr


def test_old_checkpoints_that_cannot_be_deleted_are_reported_and_deleted_later(
    train, tmp_path, monkeypatch, caplog
):
    refused, original = [], epath.gpath._GPath.rmtree

    def refuse(path, *rest, **options):
        if path.name == "3" and len(refused) < 2:
            refused.append(path)
            raise PermissionError(13, "Permission denied")
        return original(path, *rest, **options)

    monkeypatch.setattr(epath.gpath._GPath, "rmtree", refuse)
    done = train("--keep-checkpoints", "1", "--epochs", "4", "--checkpoint-every-epochs", "1")
    assert done.returncode == 0, done.stderr
    assert len(refused) == 2
    assert re.search(
        r"checkpoint 3 in .* cannot be deleted: .*Permission denied; it is tried again after the "
        r"next save",
        caplog.text,
    )
    assert sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir()) == [
        "12",
        "12.sha256.json",
    ]


def test_one_image_of_each_class_is_decoded_at_the_start(train, data, monkeypatch):
    """The 64 at equal distances are of the large class but for its neighbours: of 300 images the
    first of the small one is broken.
    """
    compiled(monkeypatch)
    for i in range(300):
        shutil.copy(data / "test" / "ant" / "00.png", data / "test" / "ant" / f"more{i}.png")
    for i in range(1, 4):
        shutil.copy(data / "test" / "bee" / "00.png", data / "test" / "bee" / f"a{i}.png")
    (data / "test" / "bee" / "00.png").write_bytes(b"no image")
    done = train()
    assert done.returncode == 65
    assert "test/bee/00.png" in done.stderr


def test_an_evaluation_on_other_held_out_data_says_so(finished, data, command):
    stored = json.loads((finished / "experiment.json").read_text())
    stored["data"]["directory"] = str(data)
    (finished / "experiment.json").write_text(json.dumps(stored))
    assert "changed" not in command("evaluate", "run", "--json").stderr
    shutil.copy(data / "test" / "bee" / "00.png", data / "test" / "bee" / "new.png")
    done = command("evaluate", "run", "--json")
    assert done.returncode == 0
    assert "the data changed since the run was begun: test: 10 -> 11 examples" in done.stderr
    assert json.loads(done.stdout)["count"] == 11


def test_names_that_are_not_utf_8_pass_through_training_report_prediction_and_preparation(
    command, tmp_path
):
    """They ended a finished training, `predict` and `data prepare` in tracebacks."""
    root = os.fsencode(make_images(tmp_path / "data"))
    for split in (b"train", b"test"):
        os.rename(root + b"/" + split + b"/bee", root + b"/" + split + b"/b\xe9e\x1b[31m")
        os.rename(root + b"/" + split + b"/ant/00.png", root + b"/" + split + b"/ant/\xff.png")
    line = [*TRAIN, "--data.directory", "data", "--epochs", "2"]
    done = command("train", *line)
    assert done.returncode == 0, done.stderr
    assert "cannot be drawn" not in done.stderr
    assert command("train", *line).returncode == 0  # it is complete
    page = (tmp_path / "run" / "report" / "index.html").read_text()
    assert "b\\udce9e\\x1b[31m" in page
    for form in ([], ["--json"], ["--csv"]):
        done = command("predict", "run", "data/test", *form)
        assert done.returncode == 0, done.stderr
        assert "\x1b" not in done.stdout
        assert "udcff.png" in done.stdout
    assert "b\\udce9e\\x1b[31m" in command("evaluate", "run", "--per-class").stdout
    for arguments in (
        ["export", "run", "--to", "safetensors", "--output", "w.safetensors"],
        ["predict", "w.safetensors", "data/test"],
        ["features", "run", "data/test"],
        ["data", "check", *TRAIN[:-2], "--data.directory", "data"],
        ["data", "prepare", "data", "records"],
        ["report", "run"],
        ["compare", "run", "run"],
    ):
        done = command(*arguments)
        assert done.returncode == 0, (arguments, done.stderr)


def test_the_length_that_a_finished_run_was_given_is_what_it_asks_for_more_of(
    command, data, tmp_path
):
    line = ["train", *TRAIN, "--data.directory", str(data), "--steps", "2"]
    assert command(*line).returncode == 0
    assert (
        "this run is complete at step 2; for a longer one, ask for more --steps (it has 2)"
        in command(*line).stderr
    )


@pytest.mark.parametrize("name", ["model.h5", "w.pth", "model.keras"])
def test_a_file_of_another_project_as_initial_weights_is_referred_to_convert(train, tmp_path, name):
    (tmp_path / name).write_bytes(b"\x89HDF\r\n\x1a\n")
    done = train("--init-from", name)
    assert done.returncode == 65
    assert (
        f"convert it first: inception-jax convert {name} --from PROJECT --model NAME" in done.stderr
    )


def test_weights_of_another_network_are_refused_before_compiling_with_both_names(
    train, tmp_path, monkeypatch
):
    from benchmarks.random_variables import variables
    from inception_jax.config import Data, Model
    from inception_jax.weights import files as file
    from inception_jax.weights.cards import Card

    network = inception_jax.create("mnist_bn", num_classes=10)
    file.save(
        tmp_path / "w.safetensors",
        Card(Model("mnist_bn"), Data(image_size=28), 10, tuple("abcdefghij")),
        variables(network),
    )
    compiled(monkeypatch)
    done = train("--init-from", "w.safetensors")
    assert done.returncode == 78
    text = " ".join(done.stderr.split())
    assert (
        "arrays of w.safetensors, mnist_bn (paper) of 10 classes has a name and a shape of one "
        "(paper) of 2 classes" in text
    )


@pytest.mark.parametrize("nested", [True, False])
def test_a_run_of_an_earlier_version_is_not_resumed_with_files_that_it_did_not_read(
    train, data, tmp_path, nested
):
    """Checks a run without recorded data; with them the number of examples would differ."""
    assert train("--epochs", "2").returncode == 0
    config = json.loads((tmp_path / "run" / "experiment.json").read_text())
    del config["data"]["orientation"]
    (tmp_path / "run" / "experiment.json").write_text(json.dumps({**config, "format": 2}))
    (tmp_path / "run" / "data.json").unlink()
    if nested:
        (data / "train" / "ant" / "more").mkdir()
        (data / "train" / "ant" / "00.png").rename(data / "train" / "ant" / "more" / "00.png")
    done = train("--epochs", "4")
    assert done.returncode == (78 if nested else 0), done.stderr
    if nested:
        assert (
            "did not read folders within the folder of a class; 1 of the training files are in such"
            in done.stderr
        )
    else:
        assert (
            done.stderr.count(
                "its fields keep their meaning (format 2): images are not turned by EXIF"
            )
            == 1
        )
        assert (
            json.loads((tmp_path / "run" / "experiment.json").read_text())["data"]["orientation"]
            == "ignore"
        )


def test_data_check_counts_the_images_that_have_an_orientation(command, data):
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = 6
    for i in range(3):
        path = data / "train" / "ant" / f"{i:02d}.png"
        Image.open(path).save(path, exif=exif)
    line = ["data", "check", *TRAIN[:-2], "--data.directory", str(data)]
    assert (
        "train: 24 examples of 2 classes, 12 to 12 of each; 3 with an EXIF orientation: they are "
        "turned upright" in command(*line).stdout
    )
    said = command(*line, "--data.orientation", "ignore").stdout
    assert "3 with an EXIF orientation: they are used as stored (data.orientation ignore)" in said
