"""The commands on a trained run.

A fixture trains it in seconds, on images with ImageNet's names of classes.
"""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from inception_jax.checkpointing.checkpoints import Checkpoints
from inception_jax.cli import main
from inception_jax.commands.train import make_state_loader
from inception_jax.data.source import DataError
from inception_jax.evaluation.imagenet import parse_image_numbers
from inception_jax.trainer.runs import follow_checkpoints, list_members, open_run

RECIPE = """
from inception_jax.config import Data, Experiment, Model, Norm, Optimizer
from inception_jax.models import register
from inception_jax.spec.vocabulary import Architecture, Linear, concat, global_avg, same, table

def tiny():
    mixed = concat(same(8, 1), (same(8, 1), same(8, 3)))
    rows = table(Stem=same(8, 3, 2), Mixed=mixed, Pool=global_avg(), Logits=Linear())
    return Architecture("tiny_{number}", "paper", rows, source="a test", input_size=32)

register("tiny_{number}", paper=tiny)
config = Experiment(
    Model("tiny_{number}"), Norm(examples_per_group=8),
    Data("folder", image_size=32, directory={data!r}, threads=0),
    Optimizer("momentum", learning_rate=0.02), batch_size=16, steps=6, checkpoint_every_epochs=0.5,
)
"""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Three classes of 32 training and 7 held-out images; the held-out ones are called as
    ImageNet's, 1 to 21.
    """
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    number = 0
    for split, count in (("train", 32), ("test", 7)):
        for label, name in enumerate(("ant", "bee", "cat")):
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                number += split == "test"
                image = np.clip(rng.normal(60 + 60 * label, 30, (32, 32, 3)), 0, 255).astype(
                    np.uint8
                )
                file = f"ILSVRC2012_val_{number:08d}.PNG" if split == "test" else f"{i}.png"
                Image.fromarray(image).save(folder / file)
    return root


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """Workdirs of three seeds, the members of an ensemble."""
    root = tmp_path_factory.mktemp("runs")
    (root / "recipe.py").write_text(RECIPE.format(data=str(data), number=0))
    (root / "three.py").write_text(
        "from dataclasses import replace\nfrom .recipe import config\nmembers = "
        "tuple(replace(config, seed=seed) for seed in (1, 2, 3))\n"
    )
    assert main(["train", str(root / "three.py"), "--workdir", str(root / "group")]) == 0
    return root / "group"


def evaluated(*arguments, capsys):
    capsys.readouterr()
    assert main(["evaluate", *map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_multi_crop_and_multi_size_evaluation_counts_every_image_once(trained, capsys):
    for options in (
        [],
        ["--crops", "6", "--sizes", "32", "40"],
        ["--crops", "10"],
        ["--sizes", "48"],
    ):
        assert evaluated(trained / "1", *options, capsys=capsys)["count"] == 21


def test_evaluate_prints_valid_json_with_null_for_what_is_not_a_number(trained, tmp_path, capsys):
    """Evaluates a network whose parameters are NaN; its likelihood is undefined."""
    shutil.copytree(trained / "1", tmp_path / "run")
    workdir, _, state = open_run(str(tmp_path / "run"), with_optimizer=True)
    checkpoints = Checkpoints(workdir / "checkpoints", keep=2)
    checkpoints.save(
        7, state.replace(params=jax.tree.map(lambda leaf: leaf * np.nan, state.params))
    )
    checkpoints.close()
    capsys.readouterr()
    assert main(["evaluate", str(tmp_path / "run"), "--json", "--health"]) == 0

    def refuse(token):
        raise AssertionError(f"{token} is no JSON")

    results = json.loads(capsys.readouterr().out.splitlines()[-1], parse_constant=refuse)
    assert (results["nll"], results["calibration_error"], results["top1"], results["count"]) == (
        None,
        None,
        0.0,
        21,
    )
    json.loads((tmp_path / "run" / "health.json").read_text(), parse_constant=refuse)
    assert main(["report", str(tmp_path / "run")]) == 0


def test_evaluate_treats_an_ensemble_folder_as_the_list_of_its_members(trained, tmp_path, capsys):
    assert [Path(path).name for path in list_members(str(trained))] == ["1", "2", "3"]
    assert [open_run(path).run.config.seed for path in list_members(str(trained))] == [1, 2, 3]
    table = tmp_path / "results.csv"
    together = evaluated(trained, "--csv", table, capsys=capsys)
    assert together == evaluated(trained / "1", trained / "2", trained / "3", capsys=capsys)
    assert evaluated(trained / "1", "--csv", table, capsys=capsys) != together
    rows = list(csv.DictReader(table.open()))
    assert [row["model"].count("+") for row in rows] == [2, 0]
    one = str(trained / "1")
    assert evaluated(f"{one}@6", f"{one}@3", capsys=capsys)["top1"] == pytest.approx(
        evaluated(one, capsys=capsys)["top1"], abs=0.5
    )
    assert main(["evaluate", str(trained), "--follow"]) == 78
    assert main(["evaluate", str(trained), "--health"]) == 78
    assert main(["train", str(trained.parent / "three.py"), "--seed", "4"]) == 78


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["RUN@4"], 78, "has no checkpoint of step 4; it has 3, 6"),
        (["RUN/metrics.jsonl"], 78, "is no workdir"),
        (["RUN", "--output", "no/where.npz"], 2, "there is no folder no"),
        (["RUN", "--csv", "no/where.csv"], 2, "there is no folder no"),
        (["RUN", "--batches", "0"], 2, "0 is below 1"),
        (["RUN", "--every", "-1"], 2, "-1 is below 1"),
    ],
)
def test_evaluate_refuses_bad_arguments_with_an_exit_code_and_a_message(
    trained, capsys, arguments, code, message
):
    line = [word.replace("RUN", str(trained / "1")) for word in arguments]
    try:
        found = main(["evaluate", *line])
    except SystemExit as exit_:
        found = exit_.code
    assert (found, message in capsys.readouterr().err) == (code, True)


def test_evaluate_names_the_missing_member_of_an_ensemble(trained, tmp_path, capsys):
    shutil.copytree(trained / "1", tmp_path / "group" / "1")
    shutil.copytree(trained / "1", tmp_path / "group" / "3")
    assert main(["evaluate", str(tmp_path / "group")]) == 78
    assert "has no member 2, and has 3" in capsys.readouterr().err


def test_evaluate_excludes_listed_images_and_scores_reassessed_labels(trained, tmp_path, capsys):
    listed, real = tmp_path / "blacklist.txt", tmp_path / "real.json"
    listed.write_text("2\n20\n40000\n")
    labels = [[] if number % 5 == 0 else [number % 3, 2] for number in range(1, 22)]
    real.write_text(json.dumps(labels))
    found = evaluated(
        trained / "1",
        "--exclude",
        listed,
        "--real",
        real,
        "--output",
        tmp_path / "all.npz",
        capsys=capsys,
    )
    assert found["count"] == 19
    whole = evaluated(trained / "1", "--output", tmp_path / "whole.npz", capsys=capsys)
    assert whole["count"] == 21
    with np.load(tmp_path / "whole.npz") as kept:
        top = kept["probabilities"].argmax(-1)
        assert found["top1"] == pytest.approx(np.mean(np.delete(top == kept["labels"], [1, 19])))
    hits = [top[number - 1] in labels[number - 1] for number in range(1, 22) if number % 5]
    assert found["real"] == pytest.approx(np.mean(hits))
    assert found["real_count"] == len(hits) == 17


@pytest.mark.parametrize(
    ("flag", "text", "message"),
    [
        ("--exclude", None, "No such file"),
        ("--exclude", "one\n", "one number on each line"),
        ("--exclude", "777\n", "none of its 1 numbers is one of these 21"),
        ("--real", None, "No such file"),
        ("--real", "[[1]", "a list of 50,000 lists"),
        ("--real", "[1, 2]", "no list of lists"),
        ("--real", "[[1], [2]]", "image 21 has no labels: the list ends with image 2"),
        ("--real", json.dumps([[]] * 21), "not one of 21 images has reassessed labels"),
    ],
)
def test_evaluate_refuses_invalid_exclusion_and_reassessed_label_files(
    trained, tmp_path, capsys, flag, text, message
):
    file = tmp_path / "list"
    if text:
        file.write_text(text)
    assert main(["evaluate", str(trained / "1"), flag, str(file)]) == 65
    assert message in capsys.readouterr().err


def test_image_numbers_come_from_imagenet_file_names_and_other_names_are_refused(data):
    from inception_jax.data.folder import FolderSource

    with pytest.raises(DataError, match="ILSVRC2012_val_00000001"):
        parse_image_numbers(FolderSource("train", str(data)))
    assert list(parse_image_numbers(FolderSource("test", str(data)))) == list(range(1, 22))


def test_following_a_run_yields_each_checkpoint_as_it_appears(trained, tmp_path):
    whole, copy = trained / "1", tmp_path / "run"
    steps = sorted(
        int(path.name) for path in (whole / "checkpoints").iterdir() if path.name.isdigit()
    )
    assert steps == [3, 6]
    shutil.copytree(whole, copy, ignore=shutil.ignore_patterns("checkpoints"))
    (copy / "checkpoints").mkdir()
    found = follow_checkpoints(str(copy), every=0.05)

    def arrives(step):
        shutil.copytree(whole / "checkpoints" / str(step), copy / "checkpoints" / str(step))
        shutil.copy(
            whole / "checkpoints" / f"{step}.sha256.json",
            copy / "checkpoints" / f"{step}.sha256.json",
        )

    arrives(3)
    assert int(next(found).state.step) == 3
    arrives(6)
    assert int(next(found).state.step) == 6
    with pytest.raises(StopIteration):
        next(found)


def test_following_a_run_retries_a_checkpoint_once_after_its_read_fails(
    trained, tmp_path, monkeypatch
):
    from inception_jax.checkpointing.checkpoints import CheckpointError, Checkpoints

    copy, restore, tried = tmp_path / "run", Checkpoints.restore, []
    shutil.copytree(trained / "1", copy)

    def going(self, step, target):
        tried.append(step)
        if len(tried) == 1:
            raise CheckpointError("a file is gone")
        return restore(self, step, target)

    monkeypatch.setattr(Checkpoints, "restore", going)
    assert [int(run.state.step) for run in follow_checkpoints(str(copy), every=0.01)] == [6]
    assert tried == [6, 6]

    def broken(self, step, target):
        raise CheckpointError("it is damaged")

    monkeypatch.setattr(Checkpoints, "restore", broken)
    with pytest.raises(CheckpointError):  # the second time it is no accident
        next(follow_checkpoints(str(copy), every=0.01))


def test_evaluate_with_follow_ends_when_the_run_is_complete(trained, capsys):
    capsys.readouterr()
    assert main(["evaluate", str(trained / "1"), "--follow", "--every", "1"]) == 0
    assert re.fullmatch(
        r"step 6: top-1 .*\(21 examples; 95 % intervals\)\n", capsys.readouterr().out
    )


def test_the_features_command_writes_pooled_features_and_end_points_of_the_network(
    trained, data, tmp_path, capsys
):
    file = tmp_path / "features.npz"
    assert main(["features", str(trained / "1"), str(data / "test"), "--output", str(file)]) == 0
    _, run, state = open_run(str(trained / "1"))
    pixels = np.stack([run.pixels(run.test_source[i]) for i in range(21)])
    images = run.prepare_evaluation(pixels)
    with np.load(file) as kept:
        assert [Path(name).name for name in kept["images"]] == [
            f"ILSVRC2012_val_{i:08d}.PNG" for i in range(1, 22)
        ]
        pooled = np.asarray(run.network.clone(num_classes=0).apply(state.variables, images).logits)
        np.testing.assert_allclose(kept["features"], pooled, rtol=1e-5, atol=1e-6)
    assert (
        main(
            [
                "features",
                str(trained / "1"),
                str(data / "test" / "ant"),
                "--end-point",
                "Mixed",
                "--output",
                str(file),
            ]
        )
        == 0
    )
    with np.load(file) as kept:
        outputs = run.network.apply(state.variables, images[:7], end_points=("Mixed",))
        wanted = np.asarray(outputs.end_points["Mixed"])
        assert np.abs(kept["features"] - wanted).max() < 1e-5 * np.abs(wanted).max()
    (tmp_path / "empty").mkdir()
    assert main(["features", str(trained / "1"), str(data), "--end-point", "Mixed_9"]) == 78
    assert main(["features", str(trained / "1"), str(tmp_path / "empty")]) == 65
    assert "no end point 'Mixed_9'" in capsys.readouterr().err


ALONE = """
import sys
class Refused:
    def find_spec(self, name, *rest):
        if name.split(".")[0] in ("inception_jax", "flax", "optax"):
            raise ImportError(name)
sys.meta_path.insert(0, Refused())
import numpy as np
from jax import export
call = export.deserialize(bytearray(open(sys.argv[1], "rb").read())).call
pixels = np.load(sys.argv[2])
np.savez(sys.argv[3], one=call(pixels[:1]), seven=call(pixels[:7]))
"""


def test_a_stablehlo_export_runs_without_inception_jax_flax_and_optax(trained, tmp_path, capsys):
    file = tmp_path / "network.stablehlo"
    assert main(["export", str(trained / "1"), "--pixels", "--output", str(file)]) == 0
    assert float(re.search(r"differs by (\S+) at most", capsys.readouterr().out)[1]) < 1e-6
    _, run, state = open_run(str(trained / "1"))
    pixels = np.stack([run.pixels(run.test_source[i]) for i in range(7)])
    np.save(tmp_path / "pixels.npy", pixels)
    line = [sys.executable, "-c", ALONE, file, tmp_path / "pixels.npy", tmp_path / "out.npz"]
    done = subprocess.run(
        line, cwd=tmp_path, env={**os.environ, "PYTHONPATH": ""}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    wanted = np.asarray(run.predict_step(state.variables, pixels))
    with np.load(tmp_path / "out.npz") as found:
        np.testing.assert_allclose(found["one"], wanted[:1], atol=1e-6)
        np.testing.assert_allclose(found["seven"], wanted, atol=1e-6)


def test_exported_weights_predict_as_their_run_does_and_initialise_another_run(
    trained, data, tmp_path, capsys
):
    file, images = tmp_path / "w.safetensors", str(data / "test" / "bee")
    assert main(["export", str(trained / "1"), "--to", "safetensors", "--output", str(file)]) == 0
    assert main(["verify", str(file)]) == 0
    capsys.readouterr()
    found = []
    for weights in (trained / "1", file):
        assert main(["predict", str(weights), images, "--json"]) == 0
        found.append(json.loads(capsys.readouterr().out))
    assert found[0] == found[1]
    assert {guess["class"] for guess in found[0][0]["classes"]} == {"ant", "bee", "cat"}
    _, run, state = open_run(str(trained / "1"))
    begun = make_state_loader(str(file), run)[0]()
    assert re.search(rf"from {file}: \d+ arrays taken over\n", capsys.readouterr().err)
    for one, other in zip(
        jax.tree.leaves(begun.params), jax.tree.leaves(state.variables["params"]), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_evaluate_saves_batch_norm_drift_and_report_plots_it(trained, capsys):
    found = evaluated(trained / "2", "--health", "--batches", "3", capsys=capsys)
    kept = json.loads((trained / "2" / "health.json").read_text())
    assert kept == found["health"]
    assert [one["name"].split("/")[0] for one in kept["layers"]].count("Mixed") == 3
    assert main(["report", str(trained / "2")]) == 0
    assert Image.open(trained / "2" / "report" / "health.png").width > 800


def test_report_groups_runs_that_differ_only_in_seed(trained, tmp_path, capsys):
    runs = [str(trained / seed) for seed in "123"]
    assert main(["report", *runs, "--output", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split()[:2] == ["group", "3"]  # one name, three seeds
    assert lines[-1].endswith("index.html")
    assert "group" in (tmp_path / "index.html").read_text()


def test_evaluate_refuses_ensemble_members_and_checkpoints_with_other_classes(
    trained, data, tmp_path, capsys
):
    fewer = tmp_path / "data"
    shutil.copytree(data, fewer, ignore=shutil.ignore_patterns("cat"))
    recipe = tmp_path / "recipe.py"
    recipe.write_text(RECIPE.format(data=str(fewer), number=1))
    assert main(["train", str(recipe), "--workdir", str(tmp_path / "run"), "--steps", "1"]) == 0
    assert main(["evaluate", str(trained / "1"), str(tmp_path / "run")]) == 65
    said = capsys.readouterr().err
    assert (
        f"{trained / '1'} scored 21 examples of 3 classes, {tmp_path / 'run'} 14 examples of 2 "
        "classes" in said
    )
    # And a checkpoint of other classes than the data has now.
    stored = json.loads((trained / "1" / "experiment.json").read_text())
    other = tmp_path / "other"
    shutil.copytree(trained / "1", other)
    stored["data"]["directory"] = str(fewer)
    (other / "experiment.json").write_text(json.dumps(stored))
    assert main(["evaluate", str(other)]) == 65
    assert "test has 2 classes and the run 3; not in both: cat" in capsys.readouterr().err
