"""Bad input: a one-screen error, the documented exit code, no traceback, nothing lost."""

import io
import json
import os
import re
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from benchmarks.small_networks import LINE
from inception_jax.checkpointing.workdir import claim_workdir, make_absolute
from inception_jax.cli import main
from inception_jax.config import ConfigError
from inception_jax.models import REGISTRY
from inception_jax.recipes import load_recipe
from tests.conftest import ROOT


def refused(arguments, capsys):
    """Runs a line that must fail: (exit code, what it says)."""
    try:
        code = main([str(argument) for argument in arguments])
    except SystemExit as exit_:
        code = exit_.code
    said = capsys.readouterr()
    text = said.err + said.out
    assert "Traceback" not in text
    assert len(text.splitlines()) < 30
    return code, text


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["train", "digits", "--optimizer.learning-rat", "0.1"], 2, "--optimizer.learning-rate"),
        (["train", "digits", "--batch-size", "many"], 2, "batch-size"),
        (["train", "digits", "--model.dtype", "float8"], 2, "dtype"),
        (["train", "digit"], 78, "did you mean 'digits'"),
        (["train", "no/such/recipe.py"], 78, "no recipe"),
        (["train", "digits", "--model.name", "bn_incption"], 78, "did you mean bn_inception"),
        (["train", "digits", "--model.variant", "cadene"], 78, "no variant 'cadene'"),
        (
            ["train", "digits", "--model.rewrites", "faster"],
            78,
            "no rewrite faster; there are pool_by_shifts, project_before_pool, merge_sibling_convs",
        ),
        (
            ["train", "digits", "--norm.examples-per-group", "48"],
            78,
            "not a multiple of norm.examples_per_group 48",
        ),
        (
            [
                "train",
                "digits",
                "--data.image-size",
                "4",
                "--data.margin",
                "0",
                "--model.name",
                "bn_inception",
                "--model.variant",
                "cadene",
            ],
            78,
            "does not fit",
        ),
        (["train", "digits", "--model.dtype", "float64"], 78, "JAX_ENABLE_X64=1"),
        (["train", "digits", "--data.name", "digitz"], 65, "no dataset is called 'digitz'"),
        (["train", "digits", "--import", "no_such_package"], 78, "--import no_such_package"),
        (["evaluate", "nowhere"], 78, "no experiment.json"),
        (["report", "nowhere"], 78, "no metrics.jsonl"),
        (["models", "bn_incption"], 78, "did you mean bn_inception"),
        (["models", "bn_inception", "--image-size", "0x8"], 2, "image-size"),
        (
            ["models", "inception_v3", "--image-size", "74"],
            78,
            "smallest image that inception_v3 takes is 75x75",
        ),
        (
            ["models", "inception_v3", "--variant", "caffe"],
            78,
            "no variant 'caffe'; there are released",
        ),
        (["models", "--image-size", "0"], 78, "--image-size 0: give 1 or more"),
        (["data"], 78, "say data prepare"),
        (["data", "prepare"], 2, "source"),
        (["data", "prepare", "digitz"], 65, "no dataset is called 'digitz'"),
        (
            ["data", "prepare", "no/where", "records"],
            65,
            "no/where is no folder: give one of <split>/<class>/<image> or of TFRecords",
        ),
        (["data", "prepare", "."], 78, "say also where to put the records"),
        (
            ["data", "check", "--data.name", "records", "--data.directory", "."],
            65,
            "holds no records.json: run",
        ),
        (["train", "digits", "--data.on-bad-example", "ignore"], 2, "skip_and_count"),
        (
            ["train", "digits", "--data.name", "synthetic", "--data.train-split", "train[a:b]"],
            65,
            "say train, train[:1000] or train[90%:]",
        ),
        (["data", "check", "--data.name", "folder"], 65, "set data.directory"),
        (["train", "digits", "--data.margin", "16"], 78, "leaves nothing of data.image_size 32"),
        (["train", "digits", "--data.test-crop-fraction", "0"], 78, "data.test_crop_fraction is 0"),
        (["models", "*vgg*"], 78, "no model and variant match '*vgg*'"),
        (["plan", "bn_x31"], 78, "did you mean 'bn_x30'"),
        (["evaluate", "nowhere", "--crops", "144"], 78, "is no workdir"),
        (["train", "digits", "--data.shuffle-block", "0"], 78, "data.shuffle_block is 0"),
        (
            ["train", "digits", "--schedule.name", "piecewise", "--schedule.decay-epochs", "2.0"],
            78,
            "schedule.at_epochs is empty",
        ),
        (
            ["train", "digits", "--processes", "2"],
            78,
            "does not set JAX_COORDINATOR_ADDRESS, JAX_PROCESS_ID",
        ),
        (["train", "digits", "--coordinator"], 78, "--coordinator has no value"),
        (["trian"], 2, "did you mean 'train'"),
    ],
)
def test_invalid_commands_end_with_the_documented_code_and_write_nothing(
    arguments, code, message, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    found, text = refused(arguments, capsys)
    assert (found, message in " ".join(text.split())) == (code, True), text
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_train_refuses_a_batch_that_the_devices_do_not_divide(process, tmp_path):
    done = process(
        "train",
        "digits",
        "--batch-size",
        "60",
        "--norm.examples-per-group",
        "0",
        JAX_NUM_CPU_DEVICES="8",
    )
    assert (done.returncode, "Traceback" in done.stderr) == (78, False)
    assert "batch_size 60 cannot be split over 8 devices: take 56 or 64" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_train_refuses_a_workdir_that_cannot_be_written(capsys, tmp_path):
    (tmp_path / "file").write_text("mine")
    code, text = refused(["train", "digits", "--workdir", tmp_path / "file" / "run"], capsys)
    assert code == 74
    assert "cannot be written" in text
    assert (tmp_path / "file").read_text() == "mine"


def test_train_refuses_a_workdir_of_another_configuration_and_leaves_it_unchanged(capsys, tmp_path):
    config = load_recipe("digits").config
    claim_workdir(make_absolute(str(tmp_path)), config)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    code, text = refused(
        [
            "train",
            "digits",
            "--workdir",
            tmp_path,
            "--optimizer.learning-rate",
            "0.7",
            "--seed",
            "3",
        ],
        capsys,
    )
    assert code == 78
    assert "seed: 0 -> 3" in text
    assert f"optimizer.learning_rate: {config.optimizer.learning_rate} -> 0.7" in text
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_evaluate_refuses_a_workdir_without_a_checkpoint(capsys, tmp_path):
    claim_workdir(make_absolute(str(tmp_path)), load_recipe("digits").config)
    code, text = refused(["evaluate", tmp_path], capsys)
    assert (code, "no finished checkpoint" in text) == (78, True)


def test_a_recipe_file_may_import_other_files_of_its_folder(tmp_path):
    (tmp_path / "shared.py").write_text(
        "from inception_jax.config import Optimizer\nGENTLE = Optimizer(learning_rate=0.01)\n"
    )
    (tmp_path / "mine.py").write_text(
        '"""Mine."""\nfrom inception_jax.config import Experiment\nfrom .shared import GENTLE\n'
        "config = Experiment(optimizer=GENTLE)\n"
    )
    found = load_recipe(str(tmp_path / "mine.py"))
    assert (found.name, found.description, found.config.optimizer.learning_rate) == (
        "mine",
        "Mine.",
        0.01,
    )
    (tmp_path / "empty.py").write_text("")
    with pytest.raises(ConfigError, match="sets `config`"):
        load_recipe(str(tmp_path / "empty.py"))


def test_train_help_shows_each_field_with_its_meaning_and_its_value_in_the_recipe(capsys):
    with pytest.raises(SystemExit) as exit_:
        main(["train", "digits", "--help"])
    assert exit_.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "BN-Inception on real handwritten digits" in text
    assert "Share of the target that is spread evenly over all classes. (default: 0.1)" in text


def test_the_models_command_needs_no_jax(tmp_path):
    code = (
        "import sys; from inception_jax.cli import main; main(['models']); main(['models', "
        "'bn_inception'])\n"
        "main(['models', 'bn_inception', '--json'])\n"
        "assert not {'jax', 'flax', 'tensorflow', 'matplotlib'} & set(sys.modules), "
        "sorted(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=os.environ, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "Mixed_5c/branch_3/conv_1x1" in done.stdout


def test_the_models_command_prints_one_json_object_for_each_name_and_variant(capsys):
    assert main(["models", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [(entry["name"], entry["variant"]) for entry in found] == [
        (n, v) for n, variants in REGISTRY.items() for v in variants
    ]
    assert main(["models", "wide_resnet*", "--json"]) == 0
    assert [entry["parameters"] for entry in json.loads(capsys.readouterr().out)] == 2 * [
        68_883_240
    ] + 2 * [126_886_696]
    assert main(["models", "resnet_v1_*", "--variant", "keras", "--json"]) == 0
    assert [entry["name"] for entry in json.loads(capsys.readouterr().out)] == [
        "resnet50",
        "resnet101",
        "resnet152",
    ]
    assert main(["models", "inception_v4", "--json", "--variant", "timm"]) == 0
    assert [entry["aux_parameters"] for entry in json.loads(capsys.readouterr().out)] == [0]


def test_the_models_command_exits_cleanly_when_its_output_pipe_is_closed():
    line = f"{sys.executable} -m inception_jax.cli models | head -n 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", line], cwd=ROOT, env=os.environ, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_data_prepare_and_data_check_count_the_examples_of_each_split(capsys, tmp_path):
    for split in ("train", "test"):
        for name in ("a", "b"):
            (tmp_path / "tree" / split / name).mkdir(parents=True)
            Image.fromarray(np.zeros((8, 8), np.uint8)).save(
                tmp_path / "tree" / split / name / "0.png"
            )
    assert main(["data", "prepare", str(tmp_path / "tree"), str(tmp_path / "records")]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "test: 2 examples", "train: 2 examples",
        f"train with --data.name records --data.directory {tmp_path / 'records'}",
    ]  # fmt: skip
    assert (
        main(
            [
                "data",
                "check",
                "digits",
                "--data.name",
                "records",
                "--data.directory",
                str(tmp_path / "records"),
            ]
        )
        == 0
    )
    assert capsys.readouterr().out.splitlines() == [
        f"{split}: 2 examples of 2 classes, 1 to 1 of each" for split in ("train", "test")
    ]


SHORT = [
    "train",
    *LINE,
    "--steps",
    "1",
    "--batch-size",
    "8",
    "--data.test-split",
    "test[:20]",
    "--workdir",
]
"""The shortest run that there is."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Its workdir, and the result of the process that made it."""
    folder = tmp_path_factory.mktemp("trained")
    done = subprocess.run(
        [sys.executable, "-m", "inception_jax.cli", *SHORT, "run"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return folder / "run", done


@pytest.mark.slow
def test_train_prints_its_progress_and_writes_its_files(trained):
    workdir, done = trained
    assert "compiling the training step for 1 device(s): about" in done.stderr
    (result,) = done.stdout.splitlines()
    assert result.startswith("held-out top-1 ")
    assert result.endswith("pictures in run/report")
    assert {file.name for file in workdir.iterdir()} >= {
        "experiment.json", "run.json", "metrics.jsonl", "tensorboard", "checkpoints", "report",
    }  # fmt: skip
    assert {file.name for file in (workdir / "report").iterdir()} == {
        "curves.png",
        "mistakes.png",
        "example.png",
        "index.html",
    }
    (attempt,) = json.loads((workdir / "run.json").read_text())["attempts"]
    assert (attempt["backend"], attempt["outcome"]) == ("cpu", "complete")


SLOW = """
import time
from inception_jax.data.registry import open_source, register_dataset

class Slow:
    def __init__(self, split, directory):
        self.digits = open_source("digits", split)
        self.class_names = self.digits.class_names
    def __len__(self): return len(self.digits)
    def __getitem__(self, index):
        time.sleep(0.05)
        return self.digits[index]

register_dataset("slow", Slow)
"""


@pytest.mark.slow
def test_train_reports_an_input_bound_run_and_stops_at_or_counts_bad_examples(
    command, process, tmp_path
):
    """Three of the images are no images; the source is slow."""
    (tmp_path / "slow.py").write_text(SLOW)
    small = ["--model.name", "mnist", "--data.image-size", "28", "--schedule.warmup-epochs", "0"]
    short = [
        *small,
        "--steps",
        "12",
        "--batch-size",
        "8",
        "--log-every-steps",
        "2",
        "--evaluate-every-epochs",
        "0",
    ]
    waits = command(
        "train",
        "digits",
        *short,
        "--import",
        "slow",
        "--data.name",
        "slow",
        "--data.test-split",
        "test[:8]",
        "--workdir",
        "slow",
    )
    assert waits.returncode == 0, waits.stderr
    assert re.search(
        r"input-bound: \d+% of the time went into waiting for data, and \d+% of the host's work on "
        r"it is read",
        waits.stderr,
    )

    png = io.BytesIO()
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(png, "PNG")
    for split, count in (("train", 20), ("test", 5)):
        for name in ("a", "b"):
            (tmp_path / "tree" / split / name).mkdir(parents=True)
            for i in range(count):
                (tmp_path / "tree" / split / name / f"{i:02d}.png").write_bytes(png.getvalue())
    for broken in ("train/a/03.png", "train/b/07.png", "test/b/01.png"):
        (tmp_path / "tree" / broken).write_bytes(b"broken")
    line = [
        "train",
        "digits",
        *short,
        "--data.name",
        "folder",
        "--data.directory",
        tmp_path / "tree",
        "--workdir",
        "bad",
    ]
    stops = command(*line)
    assert stops.returncode == 65
    assert re.search(r"example \d+ \(.*\.png\): 6 bytes that begin with b'broken'", stops.stderr)
    skips = process(*line, "--data.on-bad-example", "skip_and_count")
    assert skips.returncode == 0, skips.stderr
    assert "train/a/03.png" in skips.stderr
    assert "test/b/01.png" in skips.stderr
    rows = [
        json.loads(row) for row in (tmp_path / "bad" / "metrics.jsonl").read_text().splitlines()
    ]
    assert (
        sum(row.get("train/skipped", 0) for row in rows) >= 4
    )  # twelve steps of eight are more than two epochs of forty
    assert rows[-1]["val/skipped"] == 1
    assert "(9 examples, 1 could not be read; 95 % intervals)" in command("evaluate", "bad").stdout


@pytest.mark.slow
def test_train_initialises_a_run_from_another_run(trained, command, tmp_path):
    workdir, _ = trained
    line = [*SHORT, "tuned"]
    done = command(*line, "--init-from", workdir)
    assert done.returncode == 0, done.stderr
    assert re.search(r"from .*run, step 1: \d+ arrays taken over\n", done.stderr)
    again = command(*line, "--init-from", workdir)
    assert "this run is complete at step 1" in again.stderr
    missing = command(*line[:-1], "other", "--init-from", "nowhere")
    assert (missing.returncode, "is no workdir" in missing.stderr) == (78, True)


@pytest.mark.slow
def test_evaluate_scores_a_run_by_several_protocols(trained, capsys, tmp_path):
    workdir, _ = trained
    assert main(["evaluate", str(workdir), "--json"]) == 0
    alone = json.loads(capsys.readouterr().out)
    assert (alone["count"], alone["skipped"]) == (20, 0)
    line = [
        "evaluate",
        str(workdir),
        str(workdir),
        "--csv",
        str(tmp_path / "r.csv"),
        "--output",
        str(tmp_path / "p.npz"),
        "--json",
    ]
    assert main(line) == 0
    assert (
        json.loads(capsys.readouterr().out) == alone
    )  # an ensemble of one network twice is that network
    with np.load(tmp_path / "p.npz") as saved:
        assert saved["probabilities"].shape == (20, 10)
        assert alone["top1"] == pytest.approx(
            (saved["probabilities"].argmax(-1) == saved["labels"]).mean()
        )
    assert (tmp_path / "r.csv").read_text().splitlines()[1].startswith("mixed+mixed,16,")
    assert (
        main(
            [
                "evaluate",
                str(workdir),
                "--statistics",
                "population",
                "--batches",
                "2",
                "--per-class",
                "--health",
            ]
        )
        == 0
    )
    text = capsys.readouterr().out
    assert "95 % intervals" in text
    assert text.count("means off by") == 8
    assert refused(["evaluate", workdir, "--crops", "144"], capsys)[0] == 78
    assert refused(["evaluate", workdir, "--crops", "7"], capsys)[0] == 78


@pytest.mark.slow
def test_predict_prints_class_probabilities_and_refuses_unreadable_images(
    trained, capsys, tmp_path
):
    workdir, _ = trained
    main(["predict", str(workdir), str(workdir / "report" / "example.png"), "--json"])
    found = json.loads(capsys.readouterr().out)
    assert [entry["class"] in "0123456789" for entry in found[0]["classes"]] == [True] * 3
    assert found[0]["classes"][0]["probability"] >= found[0]["classes"][1]["probability"]
    file = io.BytesIO()
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(file, "PNG")
    (tmp_path / "broken.png").write_bytes(file.getvalue()[:30])
    code, text = refused(["predict", workdir, tmp_path / "broken.png"], capsys)
    assert (code, "broken.png: 30 bytes that begin with" in text) == (65, True)
    code, text = refused(["predict", workdir, tmp_path / "missing.png"], capsys)
    assert (code, "missing.png" in text) == (65, True)


@pytest.mark.slow
def test_evaluate_repeats_the_score_that_training_printed(trained, capsys):
    workdir, done = trained
    said = done.stdout
    main(["evaluate", str(workdir), "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["count"] == 20
    assert f"held-out top-1 {found['top1']:.2%}" in said


def test_the_help_fits_80_columns_and_names_every_command(capsys):
    from inception_jax.cli import COMMANDS

    assert main(["--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert [line.split()[0] for line in lines if re.match(r"  \w", line)] == list(COMMANDS)


@pytest.mark.slow
def test_the_version_and_the_module_are_there(capsys):
    from inception_jax import __version__

    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"inception-jax {__version__}\n"
    done = subprocess.run(
        [sys.executable, "-m", "inception_jax", "--version"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (0, f"inception-jax {__version__}\n")


def test_data_help_is_help(capsys):
    assert main(["data", "--help"]) == 0
    assert "benchmark  time the input pipeline" in capsys.readouterr().out


def test_the_recipes_command_lists_every_recipe(capsys):
    from inception_jax.recipes import list_recipes

    assert main(["recipes"]) == 0
    header, *lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list_recipes()
    assert header.split()[:3] == ["recipe", "network", "data"]
    line = next(line for line in lines if line.startswith("inception_v3 "))
    assert re.split(" {2,}", line) == [
        "inception_v3", "inception_v3", "imagenet2012", "21.2 %", "5.6 %",
        "arXiv:1512.00567, table 3",
    ]  # fmt: skip
    assert main(["recipes", "--json"]) == 0
    found = {one["name"]: one for one in json.loads(capsys.readouterr().out)}
    assert found["inception_v3"]["model"] == "inception_v3"
    assert found["inception_v3"]["published"]["top5_error"] == 5.6
    assert found["photos"]["published"] is None
    assert found["inception_v3_ensemble"]["members"] == 4


@pytest.mark.slow
@pytest.mark.parametrize("platform", ["cuda", "gpu", "tpu,cuda"])
def test_a_platform_that_is_not_there_is_a_configuration_error(process, tmp_path, platform):
    done = process("train", "digits", JAX_PLATFORMS=platform)
    assert done.returncode == 78
    assert f"JAX finds no device for JAX_PLATFORMS={platform}" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("word", ["this", "antigravity", "os", "json.tool"])
def test_a_word_that_is_no_recipe_imports_nothing(word, capsys):
    had = {*sys.modules}
    code, text = refused(["plan", word], capsys)
    assert code == 78
    assert "Beautiful" not in text
    if "." not in word:
        assert f"no recipe '{word}'" in text or "sets `config`" in text
        assert word in had or word not in sys.modules


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\nraise RuntimeError('no luck')\n", "line 2: RuntimeError: no luck"),
        ("x = 1 +\n", "line 1: SyntaxError"),
        ("import no_such_thing\n", "imports what is not there"),
        ("def f():\n    return 1 / 0\n\nf()\n", "line 2: ZeroDivisionError"),
        ("import sys\nsys.exit(3)\n", "SystemExit"),
    ],
)
def test_a_recipe_that_cannot_be_run_is_a_configuration_error_with_its_line(
    text, message, tmp_path, capsys
):
    (tmp_path / "mine.py").write_text(text)
    code, said = refused(["plan", tmp_path / "mine.py"], capsys)
    assert (code, message in said, "mine.py" in said) == (78, True, True), said


def test_recipes_of_two_folders_do_not_share_their_neighbours(tmp_path):
    for name, rate in (("a", 0.1), ("b", 0.2)):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "shared.py").write_text(f"RATE = {rate}\n")
        (folder / "mine.py").write_text(
            "from inception_jax.config import Experiment, Optimizer\nfrom .shared import RATE\n"
            "config = Experiment(optimizer=Optimizer(learning_rate=RATE))\n"
        )
    assert [
        load_recipe(str(tmp_path / name / "mine.py")).config.optimizer.learning_rate
        for name in "ab"
    ] == [0.1, 0.2]


def test_auxiliary_heads_that_a_variant_does_not_have_are_named_with_the_way_out(
    capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    code, text = refused(["plan", "inception_v3", "--model.variant", "keras"], capsys)
    assert code == 78
    text = " ".join(text.split())
    assert (
        "model.aux is set, but inception_v3's variant keras has no auxiliary heads: give "
        "--model.no-aux, or one of the variants" in text
    )


@pytest.mark.slow
def test_progress_of_minutes_goes_to_stderr_and_json_stays_json(trained, capsys, monkeypatch):
    workdir, _ = trained
    import inception_jax.monitoring.progress as module

    clock = iter(range(0, 10_000_000, 11))
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    image = workdir / "report" / "example.png"
    assert main(["predict", str(workdir), *[str(image)] * 3, "--json"]) == 0
    said = capsys.readouterr()
    assert len(json.loads(said.out)) == 3
    assert "predicting: 1 of 3" in said.err


@pytest.mark.slow
def test_evaluate_scores_a_file_of_weights_and_a_run_on_a_folder_alike(trained, tmp_path, capsys):
    """The folder has three of the ten classes, in another order than the network's."""
    from inception_jax.data.registry import open_source

    workdir, _ = trained
    assert (
        main(
            [
                "export",
                str(workdir),
                "--to",
                "safetensors",
                "--output",
                str(tmp_path / "w.safetensors"),
            ]
        )
        == 0
    )
    source, written = open_source("digits", "test"), dict.fromkeys(("7", "0", "3"), 0)
    for i in range(len(source)):
        name = source.class_names[source[i].label]
        if written.get(name, 9) < 6:
            (tmp_path / "images" / "held" / name).mkdir(parents=True, exist_ok=True)
            (tmp_path / "images" / "held" / name / f"{written[name]}.png").write_bytes(
                source[i].image
            )
            written[name] += 1
    capsys.readouterr()
    found = []
    for path in (workdir, tmp_path / "w.safetensors"):
        assert (
            main(
                [
                    "evaluate",
                    str(path),
                    "--data",
                    str(tmp_path / "images"),
                    "--data-split",
                    "held",
                    "--json",
                ]
            )
            == 0
        )
        found.append(json.loads(capsys.readouterr().out))
    assert found[0]["count"] == found[1]["count"] == 18
    assert found[0]["nll"] == pytest.approx(found[1]["nll"], rel=1e-5)
    assert (
        main(["predict", str(workdir), str(tmp_path / "images" / "held"), "--json", "--top", "1"])
        == 0
    )
    predictions = json.loads(capsys.readouterr().out)
    right = sum(one["classes"][0]["class"] == one["image"].split("/")[-2] for one in predictions)
    assert found[0]["top1"] == pytest.approx(right / 18)
    line = [
        "evaluate",
        str(workdir),
        str(tmp_path / "w.safetensors"),
        "--data",
        str(tmp_path / "images"),
        "--data-split",
        "held",
        "--json",
    ]
    assert main(line) == 0  # an ensemble of a run and of weights
    assert json.loads(capsys.readouterr().out)["top1"] == found[0]["top1"]
    assert main(["evaluate", str(tmp_path / "w.safetensors")]) == 78
    assert "has no data of its own: give --data FOLDER" in capsys.readouterr().err
    assert (
        main(["evaluate", str(tmp_path / "w.safetensors"), "--data", str(tmp_path / "images")])
        == 65
    )
    message = capsys.readouterr().err
    assert "1 folders are taken as classes; --data-split names another split" in message
    assert "class called held (1 of 1)" in message
    (tmp_path / "images" / "held" / "7").rename(tmp_path / "images" / "held" / "seven")
    assert (
        main(
            [
                "evaluate",
                str(tmp_path / "w.safetensors"),
                "--data",
                str(tmp_path / "images"),
                "--data-split",
                "held",
            ]
        )
        == 65
    )
    assert "the network has no class called seven (1 of 3)" in capsys.readouterr().err


@pytest.mark.slow
def test_a_tuned_network_keeps_what_it_was_tuned_from(trained, command, tmp_path):
    workdir, _ = trained
    assert (
        command("export", workdir, "--to", "safetensors", "--output", "base.safetensors").returncode
        == 0
    )
    done = command(*SHORT, "tuned", "--init-from", "base.safetensors")
    assert done.returncode == 0, done.stderr
    assert (
        command(
            "export", "tuned", "--to", "safetensors", "--output", "tuned.safetensors"
        ).returncode
        == 0
    )
    from inception_jax import weights

    base, card = (
        weights.card(tmp_path / "base.safetensors"),
        weights.card(tmp_path / "tuned.safetensors"),
    )
    assert card.tuned_from == base.lineage
    assert card.tuned_from["digest"] == base.digest != card.digest
    assert card.licence == "unknown; tuned from weights under: unknown"
    (tmp_path / "tuned" / "initial.json").write_text("[]")
    assert (
        "initial.json cannot be read"
        in command("export", "tuned", "--to", "safetensors", "--output", "x.safetensors").stderr
    )
