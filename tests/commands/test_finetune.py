"""Fine-tuning on a folder: its layouts, the classifier alone, all layers, and what is refused."""

import csv
import json
import shutil

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from PIL import Image

import inception_jax
from inception_jax import weights
from inception_jax.config import Data, Model
from inception_jax.data.labelled import recognise_images
from inception_jax.data.registry import open_source
from inception_jax.data.source import DataError
from inception_jax.finetuning.classifier import fit_classifier
from inception_jax.finetuning.recipe import find_layout
from inception_jax.nn.create import create
from inception_jax.weights import files
from inception_jax.weights.cards import Card
from tests.folders import make_images

CLASSES = ("ant", "bee", "cat")
QUICK = ("--batch-size", 6, "--epochs", 4, "--learning-rate", 0.001, "--no-flip")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A weights file of a small network of ten classes."""
    file = tmp_path_factory.mktemp("base") / "base.safetensors"
    network = create("mixed", num_classes=10)
    variables = jax.jit(network.init)(jax.random.key(0), np.zeros((1, 16, 16, 3), np.float32))
    card = Card(
        Model("mixed"), Data(image_size=16), 10, tuple("0123456789"), licence="ours",
        source="a test",
    )  # fmt: skip
    files.save(file, card, jax.tree.map(np.asarray, variables))
    return file


@pytest.fixture
def flat(tmp_path):
    """A folder of three classes without splits."""
    (make_images(tmp_path / "made", CLASSES, {"all": 10}) / "all").rename(tmp_path / "pets")
    return "pets"


def read_tree(path):
    return flatten_dict(inception_jax.load(path), sep="/")


@pytest.mark.slow
def test_a_folder_without_splits_is_fine_tuned_and_its_result_is_a_weights_file(
    base, flat, command, tmp_path
):
    done = command("finetune", base, flat, *QUICK, "--evaluate-every-epochs", 2)
    assert done.returncode == 0, done.stderr
    assert "3 classes, 24 training images, 6 held out (20% of each class, seed 0)" in done.stderr
    assert "norms frozen" in done.stderr
    assert done.stdout.startswith("pets.safetensors: held-out top-1 ")
    card = weights.card(tmp_path / "pets.safetensors")
    assert card.class_names == CLASSES
    assert card.tuned_from["tuned_from"]["licence"] == "ours"
    assert card.licence == "unknown; tuned from weights under: ours"
    trained, before = read_tree(tmp_path / "pets.safetensors"), read_tree(base)
    assert not np.array_equal(
        trained["params/Mixed/branch_1/conv_3x3/kernel"],
        before["params/Mixed/branch_1/conv_3x3/kernel"],
    )
    statistics = [name for name in before if name.startswith("batch_stats/")]
    assert statistics
    assert all(np.array_equal(trained[name], before[name]) for name in statistics)
    assert (tmp_path / "runs/pets/report/index.html").exists()
    image = next((tmp_path / "pets/cat").iterdir())
    assert command("predict", "pets.safetensors", image).returncode == 0
    assert command("features", "pets.safetensors", image).returncode == 0
    assert command("export", "pets.safetensors", "--output", "p.stablehlo").returncode == 0
    told = command(
        "evaluate", "pets.safetensors", "--data", flat, "--json", "--confusion", "c.csv", "c.png"
    )
    assert told.returncode == 0, told.stderr
    assert "its 3 folders are taken as classes" in told.stderr
    results = json.loads(told.stdout)
    assert results["count"] == 30
    table = list(csv.reader((tmp_path / "c.csv").open()))
    assert table[0] == ["class", *CLASSES]
    counts = np.array([[int(cell) for cell in row[1:]] for row in table[1:]])
    assert counts.sum() == 30
    assert np.trace(counts) / 30 == pytest.approx(results["top1"])
    with Image.open(tmp_path / "c.png") as picture:
        assert min(picture.size) > 200


@pytest.mark.slow
def test_the_classifier_alone_is_that_of_another_implementation(base, command, tmp_path):
    linear_model = pytest.importorskip("sklearn.linear_model")
    make_images(tmp_path / "pets", CLASSES, {"train": 12, "test": 5})
    line = ("finetune", base, "pets", "--head-only", "--head-l2", "0.1")
    done = command(*line)
    assert done.returncode == 0, done.stderr
    assert "15 held out (those in test)" in done.stderr
    assert not (tmp_path / "runs/pets/checkpoints").exists()
    predictor = inception_jax.Predictor(tmp_path / "pets.safetensors")
    images = sorted((tmp_path / "pets/test").rglob("*.png"))
    labels = np.repeat([0, 1, 2], 5)
    found = predictor.probabilities(images)
    assert f"top-1 {(found.argmax(-1) == labels).mean():.2%}" in done.stdout
    features = [
        inception_jax.Predictor(base).features(sorted((tmp_path / "pets" / split).rglob("*.png")))
        for split in ("train", "test")
    ]
    mean, deviation = features[0].mean(0), np.sqrt(features[0].var(0).mean())
    scaled = [(one - mean) / deviation for one in features]
    theirs = linear_model.LogisticRegression(C=1 / (36 * 0.1), max_iter=5000, tol=1e-10)
    theirs.fit(scaled[0], np.repeat([0, 1, 2], 12))
    np.testing.assert_allclose(found, theirs.predict_proba(scaled[1]), atol=2e-3)
    before = read_tree(base)
    for name, value in read_tree(tmp_path / "pets.safetensors").items():
        if not name.startswith("params/Logits"):
            assert np.array_equal(value, before[name]), name


def test_the_fitted_classifier_has_the_gradient_zero():
    rng = np.random.default_rng(0)
    features, labels = rng.normal(3, 2, (60, 7)).astype(np.float32), rng.integers(0, 4, 60)
    found = fit_classifier(features, labels, 4, l2=0.05)
    mean, deviation = features.mean(0), np.sqrt(features.var(0).mean())
    scaled, kernel = (features - mean) / deviation, found.kernel * deviation
    logits = scaled @ kernel + found.bias + mean @ found.kernel
    probabilities = np.exp(logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True))
    gradient = scaled.T @ (probabilities - np.eye(4)[labels]) / 60 + 0.05 * kernel
    assert np.abs(gradient).max() < 1e-4


@pytest.mark.slow
def test_the_same_line_goes_on_and_another_classifier_does_not(base, flat, command, tmp_path):
    line = ("finetune", base, flat, *QUICK)
    assert command(*line).returncode == 0
    first = read_tree(tmp_path / "pets.safetensors")
    done = command(*line)
    assert (done.returncode, "is there already" in done.stderr) == (78, True)
    (tmp_path / "pets.safetensors").unlink()
    done = command(*line)
    assert done.returncode == 0, done.stderr
    assert "this run is complete" in done.stderr
    again = read_tree(tmp_path / "pets.safetensors")
    assert all(np.array_equal(first[name], again[name]) for name in first)
    (tmp_path / "pets.safetensors").unlink()
    done = command(*line, "--head-l2", 1)
    assert (done.returncode, "began with other head_l2" in done.stderr) == (78, True)


@pytest.mark.slow
def test_training_that_ends_below_the_classifier_alone_is_not_kept(base, flat, command, tmp_path):
    ruinous = ("--learning-rate", 50, "--clip-norm", 100, "--evaluate-every-epochs", 4)
    done = command("finetune", base, flat, *QUICK[:4], *ruinous)
    if done.returncode == 0:
        assert "the weights are those of the classifier alone" in done.stderr
        head, kept = (read_tree(tmp_path / name) for name in ("runs/pets/head.safetensors",
                                                              "pets.safetensors"))  # fmt: skip
        assert all(np.array_equal(head[name], kept[name]) for name in head)
    else:
        assert done.returncode == 70  # the loss is not finite


@pytest.mark.slow
def test_training_ends_early_where_the_score_does_not_rise(base, flat, command, tmp_path):
    line = ("finetune", base, flat, "--epochs", 30, "--learning-rate", 1e-9, "--patience", 2)
    done = command(*line)
    assert done.returncode == 0, done.stderr
    assert "no higher top-1 in 2 evaluations: the run ends" in done.stderr
    rows = [json.loads(line) for line in (tmp_path / "runs/pets/metrics.jsonl").open()]
    assert len([row for row in rows if "val/top1" in row]) == 3
    (tmp_path / "pets.safetensors").unlink()
    done = command(*line)  # a run that ended early is complete
    assert "this run is complete" in done.stderr
    assert (tmp_path / "pets.safetensors").exists()


@pytest.mark.parametrize(
    ("change", "said", "code"),
    [
        ("one class", "1 folders", 65),
        ("one image", "cat: 1 classes have one image", 65),
        ("no images", "holds no images of cat", 65),
        ("no folder", "is no folder", 65),
        ("train alone", "none called test or val", 65),
        ("files alone", "0 folders", 65),
    ],
)
def test_a_folder_that_cannot_be_learned_from_is_refused(
    base, flat, command, tmp_path, change, said, code
):
    pets = tmp_path / "pets"
    if change == "one class":
        shutil.rmtree(pets / "ant")
        shutil.rmtree(pets / "bee")
    elif change == "one image":
        for image in sorted((pets / "cat").iterdir())[1:]:
            image.unlink()
    elif change == "no images":
        for image in (pets / "cat").iterdir():
            image.unlink()
    elif change == "no folder":
        shutil.rmtree(pets)
    elif change == "train alone":
        pets.rename(tmp_path / "train")
        pets.mkdir()
        (tmp_path / "train").rename(pets / "train")
    else:
        for name in CLASSES:
            shutil.rmtree(pets / name)
    done = command("finetune", base, flat, *QUICK)
    assert (done.returncode, said in done.stderr) == (code, True), done.stderr
    assert not (tmp_path / "pets.safetensors").exists()


def test_fields_out_of_range_and_unknown_weights_are_refused(base, flat, command):
    for flags, said in (
        (("--holdout", 1), "a fraction between 0 and 1"),
        (("--head-l2", 0), "a number above 0"),
        (("--output", "x.npz"), "files called .safetensors"),
        (("--output", "nowhere/x.safetensors"), "nowhere is no folder"),
        (("--workdir", "pets/run"), "give a --workdir outside"),
    ):
        done = command("finetune", base, flat, *flags)
        assert (done.returncode, said in done.stderr) == (78, True), done.stderr
    done = command("finetune", "timm/unknown", flat)
    assert (done.returncode, "no release is called" in done.stderr) == (78, True)


@pytest.mark.slow
def test_a_new_class_gets_a_new_head_and_a_begun_run_is_not_continued_with_it(
    base, flat, command, tmp_path
):
    line = ("finetune", base, flat, "--head-only")
    assert command(*line).returncode == 0
    (tmp_path / "runs/pets/head_features.npz").write_bytes(b"damaged")
    make_images(tmp_path / "more", ("dog",), {"all": 10})
    (tmp_path / "more/all/dog").rename(tmp_path / "pets/dog")
    (tmp_path / "pets/dog/notes.txt").write_text("no image")
    (tmp_path / "pets.safetensors").unlink()
    done = command(*line)
    assert done.returncode == 0, done.stderr
    assert "the features are computed again" in done.stderr
    found = weights.card(tmp_path / "pets.safetensors")
    assert found.class_names == (*sorted((*CLASSES, "dog")),)
    (tmp_path / "pets.safetensors").unlink()
    assert command(*line[:-1], *QUICK).returncode == 0
    (tmp_path / "pets.safetensors").unlink()
    shutil.rmtree(tmp_path / "pets/dog")
    done = command(*line[:-1], *QUICK)
    assert (done.returncode, "began with other images, classes" in done.stderr) == (78, True)


def test_splits_are_known_by_their_names_in_any_case_and_by_what_they_hold(tmp_path):
    make_images(tmp_path / "a", CLASSES, {"Train": 2, "Testing": 2})
    assert find_layout(tmp_path / "a") == ("Train", "Testing")
    make_images(tmp_path, ("bus", "train", "test"), {"b": 2})  # classes with the names of splits
    assert find_layout(tmp_path / "b") == ("", "")
    assert recognise_images(str(tmp_path / "b"), "test").split == "."


def test_the_held_out_part_is_stratified_seeded_and_disjoint(tmp_path):
    make_images(tmp_path, CLASSES, {"all": 10})
    folder = str(tmp_path / "all")

    def names(split, **options):
        source = open_source("folder", split, folder, holdout=0.3, **options)
        return [source[i].name for i in range(len(source))], source

    (train, source), (test, _) = names("train"), names("test")
    assert (len(train), len(test)) == (21, 9)
    assert not {*train} & {*test}
    assert np.bincount(source.labels).tolist() == [7, 7, 7]
    assert names("test")[0] == test
    assert names("test", holdout_seed=1)[0] != test
    (tmp_path / "all/cat").rename(tmp_path / "cat")  # other classes keep their images
    assert [name for name in test if "cat" not in name] == names("test")[0]
    with pytest.raises(DataError, match=r"data\.holdout is for"):
        open_source("folder", "val", folder, holdout=0.3)
    with pytest.raises(DataError, match=r"data\.holdout is for"):
        open_source("digits", "test", None, holdout=0.3)
