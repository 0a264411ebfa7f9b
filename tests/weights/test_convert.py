"""From another project's file to ours, from there to names of classes, and back: in process, as a
user would.
"""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from PIL import Image
from safetensors.numpy import load_file, save_file

import inception_jax
from inception_jax import weights
from inception_jax.cli import main
from inception_jax.data.source import DataError
from inception_jax.models import register
from inception_jax.spec.vocabulary import (
    Architecture,
    Dropout,
    Linear,
    Softmax,
    concat,
    global_avg,
    max_,
    same,
    table,
)
from inception_jax.weights import files as file
from inception_jax.weights.classes import list_class_names, list_imagenet_names
from inception_jax.weights.convert.conversion import list_shapes, to_ours, to_theirs
from inception_jax.weights.convert.frameworks import TORCH
from inception_jax.weights.convert.names import Names
from inception_jax.weights.convert.source_spec import SourceSpec
from inception_jax.weights.convert.sources import SOURCES, torchvision
from inception_jax.weights.releases import RELEASES, find_release
from tests.conftest import ROOT
from tests.weights.references import weights as drawn


def small():
    mixed = concat(same(8, 1), (same(8, 1), same(8, 3)), (max_(3), same(4, 1)))
    rows = table(
        Stem=same(6, 3, 2),
        Mixed=mixed,
        Pool=global_avg(),
        Drop=Dropout(),
        Logits=Linear(),
        Predictions=Softmax(),
    )
    return Architecture("small_of_weights", "paper", rows, source="a test", input_size=32)


NAMES = Names(
    (("Stem", "stem", ""), ("Mixed", "mixed", "one three.0 three.1 pool"), ("Logits", "fc", "")),
    convolution="{}.conv",
    norm="{}.bn",
)


@pytest.fixture(scope="module")
def origin():
    from inception_jax.models import REGISTRY

    register("small_of_weights", paper=small)
    there = SourceSpec(
        "small_of_weights",
        "paper",
        TORCH,
        NAMES,
        replace(torchvision.IMAGENET, image_size=40),
        licence="ours",
    )
    torchvision.MODELS["small_of_weights"] = there
    yield there
    torchvision.MODELS.pop("small_of_weights")
    REGISTRY.pop("small_of_weights")


def arrays_of(origin, classes=1000):
    network = inception_jax.create(origin.model, variant=origin.variant, num_classes=classes)
    wanted = {array.theirs: array.layout.shape for array in origin.arrays(list_shapes(network))}
    return {name: value.astype(np.float32) for name, value in drawn("torchvision", wanted).items()}


@pytest.fixture(scope="module")
def converted(origin, tmp_path_factory):
    """A file of theirs, and what `convert` made of it."""
    folder = tmp_path_factory.mktemp("weights")
    extra = {"stem.bn.num_batches_tracked": np.array(7)}
    save_file(arrays_of(origin) | extra, folder / "theirs.safetensors")
    line = [
        "--from",
        "torchvision",
        "--model",
        "small_of_weights",
        "--no-check",
        "--output",
        folder / "ours.safetensors",
    ]
    assert main(["convert", str(folder / "theirs.safetensors"), *map(str, line)]) == 0
    return folder


def test_convert_writes_model_data_and_source_to_the_weights_card(converted):
    card = weights.card(converted / "ours.safetensors")
    assert (card.model.name, card.num_classes, card.class_offset, card.source) == (
        "small_of_weights",
        1000,
        0,
        "torchvision",
    )
    assert (card.data.image_size, card.data.scaling, card.data.test_crop) == (
        40,
        "imagenet",
        "square",
    )
    assert len(card.sha256) == 64
    assert card.names[0] == "tench"
    assert "it was not asked for" in card.parity["against"]


def test_loaded_variables_equal_the_arrays_of_the_converted_file(converted, origin):
    variables = inception_jax.load(converted / "ours.safetensors")
    network = inception_jax.create("small_of_weights")
    given = arrays_of(origin)
    np.testing.assert_array_equal(
        variables["params"]["Stem"]["conv_3x3"]["kernel"],
        given["stem.conv.weight"].transpose(2, 3, 1, 0),
    )
    np.testing.assert_array_equal(
        variables["batch_stats"]["Mixed"]["branch_1"]["conv_3x3"]["norm"]["mean"],
        given["mixed.three.1.bn.running_mean"],
    )
    assert network.apply(variables, np.zeros((1, 40, 40, 3), np.float32)).logits.shape == (1, 1000)


def test_weights_that_are_converted_and_exported_again_keep_every_bit(converted, origin):
    """Through files: theirs to ours to theirs to ours."""
    assert (
        main(
            [
                "export",
                str(converted / "ours.safetensors"),
                "--to",
                "torchvision",
                "--output",
                str(converted / "back.safetensors"),
            ]
        )
        == 0
    )
    given, back = arrays_of(origin), load_file(converted / "back.safetensors")
    assert given.keys() == back.keys()
    for name, value in given.items():
        np.testing.assert_array_equal(back[name], value)
    again = flatten_dict(to_ours(origin, back).variables, sep="/")
    for name, value in flatten_dict(
        inception_jax.load(converted / "ours.safetensors"), sep="/"
    ).items():
        np.testing.assert_array_equal(again[name], value)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "model"),
    [
        ("torchvision", "googlenet"),
        ("tf_slim", "bn_inception"),
        ("keras", "resnet50"),
        ("caffe", "googlenet"),
    ],
)
def test_whole_networks_convert_to_other_projects_and_back_without_change(source, model):
    """Flattened maps, separable kernels, matrices kept as convolutions, and kernels that read blue
    first.
    """
    there = SOURCES[source][model]
    network = inception_jax.create(
        there.model, variant=there.variant, num_classes=1000, aux=bool(there.architecture.aux)
    )
    rng = np.random.default_rng(0)
    variables = {
        path: rng.normal(size=shape).astype(np.float32)
        for path, shape in list_shapes(network).items()
    }
    from flax.traverse_util import unflatten_dict

    back = flatten_dict(
        to_ours(
            there,
            to_theirs(
                there,
                network,
                {"params": {}, "batch_stats": {}} | unflatten_dict(variables, sep="/"),
            ),
        ).variables,
        sep="/",
    )
    assert back.keys() == variables.keys()
    assert all(np.array_equal(back[path], value) for path, value in variables.items())


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for i in range(5):
        Image.fromarray(rng.integers(0, 256, (50, 60 + i, 3), np.uint8)).save(folder / f"{i}.png")
    return folder


def test_predict_agrees_with_the_predictor_and_reads_folders_and_lists(
    converted, pictures, capsys, monkeypatch
):
    weights_file = str(converted / "ours.safetensors")
    capsys.readouterr()
    assert (
        main(["predict", weights_file, str(pictures), "--json", "--top", "2", "--batch-size", "2"])
        == 0
    )
    found = json.loads(capsys.readouterr().out)
    assert [len(entry["classes"]) for entry in found] == [2] * 5
    predictor = inception_jax.Predictor(weights_file)
    files = sorted(pictures.iterdir())
    for entry, guesses in zip(found, predictor.top(files, 2), strict=True):
        assert [shown["class"] for shown in entry["classes"]] == [guess.name for guess in guesses]
        assert [shown["probability"] for shown in entry["classes"]] == pytest.approx(
            [guess.probability for guess in guesses], abs=1e-5
        )
    monkeypatch.setattr("sys.stdin", __import__("io").StringIO("\n".join(map(str, files))))
    assert main(["predict", weights_file, "-", "--csv", "--top", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "image,rank,class,probability"
    assert [line.split(",")[0] for line in lines[1:]] == list(map(str, files))
    assert predictor.probabilities(
        [files[0].read_bytes(), np.asarray(Image.open(files[1]))]
    ).shape == (2, 1000)
    assert predictor.features(files[:3]).shape == (3, 20)
    assert predictor.features(files[:3], "Mixed").shape == (3, 20, 20, 20)


def test_predict_reports_unreadable_images_at_the_end_and_classifies_the_rest(
    converted, pictures, tmp_path, capsys
):
    (tmp_path / "1.png").write_bytes(b"nonsense")
    given = [
        str(pictures / "0.png"),
        str(tmp_path / "1.png"),
        str(tmp_path / "none.png"),
        str(pictures / "2.png"),
    ]
    capsys.readouterr()
    assert main(["predict", str(converted / "ours.safetensors"), *given, "--json"]) == 65
    told = capsys.readouterr()
    assert [entry["image"] for entry in json.loads(told.out)] == [given[0], given[3]]
    assert "2 of 4 images could not be read" in told.err
    assert "none.png cannot be read" in told.err
    with pytest.raises(DataError, match=r"1\.png"):
        inception_jax.Predictor(converted / "ours.safetensors").top(given)


def test_verify_accepts_intact_weights_and_refuses_changed_or_bare_ones(
    converted, tmp_path, capsys
):
    whole = str(converted / "ours.safetensors")
    capsys.readouterr()
    assert main(["verify", whole, "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)["errors"]) == {"Stem", "Mixed", "logits"}
    opened = file.read_file(whole)
    opened.variables["params"]["Logits"]["linear"]["kernel"] *= 1.01
    file.save(tmp_path / "changed.safetensors", *opened)
    assert main(["verify", str(tmp_path / "changed.safetensors")]) == 65
    assert "logits differs from itself alone" in capsys.readouterr().err
    file.save(tmp_path / "bare.safetensors", opened.card, opened.variables)
    assert main(["verify", str(tmp_path / "bare.safetensors")]) == 65


def test_weights_of_a_one_channel_network_can_be_saved_and_verified(tmp_path):
    from benchmarks.random_variables import variables
    from inception_jax.config import Data, Model
    from inception_jax.data.images import FileSource
    from inception_jax.distributed.mesh import all_devices_placement
    from inception_jax.experiment import Run
    from inception_jax.weights.cards import Card
    from inception_jax.weights.export.exporter import export_weights
    from inception_jax.weights.trained_network import TrainedNetwork

    card = Card(Model("mnist_bn"), Data(image_size=28, binarize=True), 10, tuple("0123456789"))
    run = Run(card.experiment, all_devices_placement(), given_source=FileSource((), card.names))
    export_weights(
        TrainedNetwork(run, variables(run.network), card, "invented"), tmp_path / "w.safetensors"
    )
    assert main(["verify", str(tmp_path / "w.safetensors")]) == 0
    picture = np.zeros((28, 28), np.uint8)
    assert inception_jax.Predictor(tmp_path / "w.safetensors").probabilities([picture]).shape == (
        1,
        10,
    )


def changed(given, change):
    arrays = dict(given)
    change(arrays)
    return arrays


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.pop("stem.bn.weight"), "1 missing: stem.bn.weight"),
        (lambda a: a.update(surplus=np.zeros(3, np.float32)), "1 left over: surplus"),
        (
            lambda a: a.update({"stem.bn.bias": np.zeros(7, np.float32)}),
            r"1 of another shape: stem.bn.bias is \[7\], wanted is \[6\]",
        ),
        (
            lambda a: a.update({"stem.bn.bias": np.zeros(6, np.int32)}),
            "stem.bn.bias is int32; weights are floats",
        ),
        (lambda a: a.pop("fc.weight"), "there is no array fc.weight, the classifier"),
    ],
)
def test_convert_names_arrays_of_another_network_and_writes_nothing(
    origin, tmp_path, capsys, change, message
):
    save_file(changed(arrays_of(origin), change), tmp_path / "w.safetensors")
    line = [
        "--from",
        "torchvision",
        "--model",
        "small_of_weights",
        "--output",
        str(tmp_path / "out.safetensors"),
    ]
    assert main(["convert", str(tmp_path / "w.safetensors"), *line]) == 65
    assert __import__("re").search(message, capsys.readouterr().err)
    assert not (tmp_path / "out.safetensors").exists()


def test_convert_requires_an_offset_or_class_names_for_an_unknown_head(origin, tmp_path, capsys):
    save_file(arrays_of(origin, 1003), tmp_path / "w.safetensors")
    line = [
        "convert",
        str(tmp_path / "w.safetensors"),
        "--from",
        "torchvision",
        "--model",
        "small_of_weights",
        "--no-check",
    ]
    line += ["--output", str(tmp_path / "out.safetensors")]
    assert main(line) == 65
    assert "it is not known which class is which" in capsys.readouterr().err
    assert main([*line, "--class-offset", "2"]) == 0
    assert weights.card(tmp_path / "out.safetensors").names[:3] == (
        "background",
        "background",
        "tench",
    )
    (tmp_path / "names.txt").write_text("\n".join(f"kind {i}" for i in range(1003)))
    assert main([*line, "--class-names", str(tmp_path / "names.txt")]) == 0
    assert weights.card(tmp_path / "out.safetensors").names[1002] == "kind 1002"
    (tmp_path / "names.txt").write_text("one\ntwo\n")
    assert main([*line, "--class-names", str(tmp_path / "names.txt")]) == 65
    assert main([*line, "--class-names", str(tmp_path / "none.txt")]) == 78


def test_a_class_offset_adds_background_names_before_imagenets_classes():
    assert list_class_names(1001, 1)[:2] == ("background", "tench")
    assert list_class_names(1008, 1)[1000:1003] == ("toilet tissue", "unused 1001", "unused 1002")
    assert len(set(list_imagenet_names())) == 1000
    assert dict(SOURCES["tf_slim"]["inception_v3"].offsets)[1001] == 1
    assert dict(SOURCES["tf_slim"]["resnet50"].offsets)[1000] == 0


@pytest.mark.parametrize(
    ("line", "code", "message"),
    [
        (
            ["convert", "w.pth", "--from", "torchvision", "--model", "inception_v4"],
            78,
            "torchvision has no 'inception_v4'",
        ),
        (
            ["convert", "w.safetensors", "--from", "torchvision", "--model", "resnet18"],
            65,
            "is no file",
        ),
        (
            [
                "convert",
                "w.safetensors",
                "--from",
                "torchvision",
                "--model",
                "resnet18",
                "--output",
                "a.npz",
            ],
            78,
            "called .safetensors",
        ),
        (["predict", "w.safetensors", "image.png"], 65, "is no file"),
        (["verify", "w.safetensors"], 65, "is no file"),
        (["export", "w.safetensors"], 65, "is no file"),
        (
            ["export", "w.safetensors", "--to", "onnx", "--output", "."],
            78,
            "is a folder, which stays as it is",
        ),
    ],
)
def test_weights_commands_refuse_unknown_models_missing_files_and_bad_outputs(
    tmp_path, monkeypatch, capsys, line, code, message
):
    monkeypatch.chdir(tmp_path)
    assert main(line) == code
    assert message in capsys.readouterr().err


def test_predict_refuses_damaged_and_foreign_weights_files(converted, tmp_path, capsys):
    whole = (converted / "ours.safetensors").read_bytes()
    path = tmp_path / "w.safetensors"
    for data, message in (
        (whole[:-10], "no whole file"),
        (b"", "no whole file"),
        (whole.replace(b"format_version", b"format_versiox"), "card"),
    ):
        path.write_bytes(data)
        assert main(["predict", str(path), "image.png"]) == 65
        assert message in capsys.readouterr().err
    assert main(["predict", str(converted / "theirs.safetensors"), "image.png"]) == 65
    assert "has no card: it is another project's" in capsys.readouterr().err
    opened = file.read_file(converted / "ours.safetensors")
    file.save(
        path,
        replace(opened.card, num_classes=10, class_names=tuple("abcdefghij")),
        opened.variables,
    )
    assert main(["predict", str(path), "image.png"]) == 65
    assert "arrays are not as small_of_weights has them here" in capsys.readouterr().err


def test_releases_are_recognised_by_their_hash_or_their_file_name():
    assert {(release.source, release.model) for release in RELEASES} <= {
        (source, model) for source in SOURCES for model in SOURCES[source]
    }
    found = find_release("torchvision", "resnet50", "renamed.pth", "11ad3fa6" + "0" * 56).release
    assert found is not None
    assert (found.top1, dict(found.data)) == (80.858, {"test_crop_fraction": 224 / 232})
    assert find_release("torchvision", "resnet50", "resnet50-11ad3fa6.pth", "f" * 64) is None
    assert find_release("tf_slim", "inception_v3", "inception_v3.ckpt", "").release.top1 == 78.0


def line_for(tmp_path, arrays, *options):
    save_file(arrays, tmp_path / "w.safetensors")
    line = [
        "convert",
        str(tmp_path / "w.safetensors"),
        "--from",
        "torchvision",
        "--model",
        "small_of_weights",
        "--no-check",
    ]
    return [*line, "--output", str(tmp_path / "out.safetensors"), *options]


def test_a_file_that_merely_fits_is_no_release_and_has_no_licence_but_a_given_one(
    origin, tmp_path, capsys
):
    assert main(line_for(tmp_path, arrays_of(origin))) == 0
    said = capsys.readouterr().out
    assert "release not known: assumed what torchvision feeds such networks" in said
    assert "licence: unknown" in said
    card = weights.card(tmp_path / "out.safetensors")
    assert (card.licence, card.release, card.published) == ("unknown", "unknown", {})
    assert main(line_for(tmp_path, arrays_of(origin), "--licence", "CC0", "--source", "me")) == 0
    card = weights.card(tmp_path / "out.safetensors")
    assert (card.licence, card.source) == ("CC0", "me")


def test_a_known_release_has_its_licence_its_scores_and_its_preprocessing(
    origin, tmp_path, monkeypatch
):
    from inception_jax.weights import releases
    from inception_jax.weights.cards import hash_arrays

    own = hash_arrays(flatten_dict(to_ours(origin, arrays_of(origin)).variables, sep="/"))
    row = releases.Release(
        "torchvision/ours",
        "small_of_weights",
        arrays=own,
        licence="ours",
        top1=70,
        top5=90,
        data={"scaling": "vgg"},
    )
    monkeypatch.setattr(releases, "RELEASES", (row,))
    assert (
        main(
            line_for(
                tmp_path, {f"module.{name}": value for name, value in arrays_of(origin).items()}
            )
        )
        == 0
    )
    card = weights.card(tmp_path / "out.safetensors")
    assert (card.release, card.licence, card.data.scaling) == ("torchvision/ours", "ours", "vgg")
    assert card.published == {"top1": 0.7, "top5": 0.9, "known_by": "its arrays"}


def test_convert_records_what_the_line_says_is_fed(origin, tmp_path, capsys):
    options = [
        "--scaling",
        "inception",
        "--resize",
        "bicubic_antialias",
        "--crop-fraction",
        "0.9",
        "--image-size",
        "48",
    ]
    assert main(line_for(tmp_path, arrays_of(origin), *options)) == 0
    data = weights.card(tmp_path / "out.safetensors").data
    assert (data.scaling, data.resize, data.test_crop_fraction, data.image_size) == (
        "inception",
        "bicubic_antialias",
        0.9,
        48,
    )
    assert (
        "fed: 48 x 48 pixels, of the middle square of 90.0% of the shorter side, by "
        "bicubic_antialias" in capsys.readouterr().out
    )


def test_a_network_without_a_classifier_gives_features_and_names_nothing(
    origin, tmp_path, pictures, capsys, monkeypatch
):
    headless = {
        name: value for name, value in arrays_of(origin).items() if not name.startswith("fc.")
    }
    assert main(line_for(tmp_path, headless)) == 0
    assert "it has no classifier: it gives features alone" in capsys.readouterr().out
    file_ = str(tmp_path / "out.safetensors")
    assert weights.card(file_).num_classes == 0
    assert main(["predict", file_, str(pictures)]) == 65
    assert "has no classifier: `inception-jax features`" in capsys.readouterr().err
    monkeypatch.chdir(tmp_path)
    assert main(["features", file_, str(pictures)]) == 0
    assert main(line_for(tmp_path, arrays_of(origin))) == 0
    wanted = inception_jax.Predictor(file_).features(sorted(pictures.iterdir()))
    np.testing.assert_allclose(np.load("features.npz")["features"], wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["head", "fc.1", "classifier.last", "model_head"])
def test_a_classifier_of_another_name_is_found_by_its_shape(origin, tmp_path, capsys, name):
    given = arrays_of(origin, 7)
    renamed = {key.replace("fc.", f"{name}."): value for key, value in given.items()}
    (tmp_path / "names.txt").write_bytes(b"\xef\xbb\xbfa\r\nb\r\nc\r\nd\r\ne\r\nf\r\n\xffg\r\n\r\n")
    assert main(line_for(tmp_path, renamed, "--class-names", str(tmp_path / "names.txt"))) == 0
    assert f"its classifier is called {name}" in capsys.readouterr().out
    found = inception_jax.load(tmp_path / "out.safetensors")["params"]["Logits"]["linear"]
    np.testing.assert_array_equal(found["kernel"], given["fc.weight"].T)
    np.testing.assert_array_equal(found["bias"], given["fc.bias"])
    assert weights.card(tmp_path / "out.safetensors").names == (*"abcdef", "\udcffg")


def test_convert_refuses_weights_that_are_not_finite(origin, tmp_path, capsys):
    given = arrays_of(origin)
    given["stem.bn.bias"][3] = np.nan
    assert main(line_for(tmp_path, given)) == 65
    assert "stem.bn.bias is NaN or infinite" in capsys.readouterr().err


def test_state_dicts_are_imported_in_the_order_that_the_readme_gives(origin):
    given = arrays_of(origin)
    found = inception_jax.weights.from_torchvision(given, "small_of_weights")
    np.testing.assert_array_equal(
        found.variables["params"]["Logits"]["linear"]["kernel"], given["fc.weight"].T
    )
    wrapped = weights.from_torchvision(
        {"epoch": 1, "state_dict": {f"module.{name}": value for name, value in given.items()}},
        "small_of_weights",
    )
    assert wrapped.notes == ("the network's arrays are state_dict module.*",)


def test_weights_need_no_import_of_their_own():
    code = (
        "import inception_jax; print(inception_jax.weights.card, "
        "inception_jax.weights.from_torchvision)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_an_origin_that_the_project_itself_does_not_have_is_compared_with_itself(
    origin, monkeypatch, tmp_path, capsys
):
    """A user's own network under `keras` ended in KeyError where Keras is installed."""
    from inception_jax.weights.reference import reference_models as projects

    def missing(*arguments):
        raise KeyError("small_of_weights")

    monkeypatch.setitem(projects.TORCH_NETWORKS, "torchvision", missing)
    assert (
        main([word for word in line_for(tmp_path, arrays_of(origin)) if word != "--no-check"]) == 0
    )
    assert "torchvision itself has no small_of_weights that can be built" in capsys.readouterr().out


def test_class_names_with_control_characters_are_escaped_where_they_are_printed(
    origin, tmp_path, pictures, capsys
):
    (tmp_path / "names.txt").write_bytes(b"\x1b[2Jred\n\xffpale\n\xe2\x80\xaeevil\nplain\n")
    assert (
        main(line_for(tmp_path, arrays_of(origin, 4), "--class-names", str(tmp_path / "names.txt")))
        == 0
    )
    for form in ([], ["--csv"], ["--json"]):
        assert (
            main(["predict", str(tmp_path / "out.safetensors"), str(pictures), "--top", "4", *form])
            == 0
        )
        said = capsys.readouterr().out
        assert not {"\x1b", "\u202e", "\udcff"} & set(said)
        assert "pale" in said
    assert json.loads(said)[0]["classes"]


def test_photographs_are_turned_unless_the_line_or_an_old_card_says_otherwise(
    converted, tmp_path, capsys
):
    rng = np.random.default_rng(0)
    picture = Image.fromarray(
        np.kron(rng.integers(0, 256, (6, 5, 3), np.uint8), np.ones((8, 8, 1), np.uint8))
    )
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.save(tmp_path / "upright.png")
    picture.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    path = str(converted / "ours.safetensors")
    assert weights.card(path).data.orientation == "apply"
    predictor = inception_jax.Predictor(path)
    upright, turned = predictor.probabilities([tmp_path / "upright.png", tmp_path / "turned.png"])
    np.testing.assert_array_equal(upright, turned)
    ignoring = inception_jax.Predictor(path, orientation="ignore")
    assert not np.array_equal(
        *ignoring.probabilities([tmp_path / "upright.png", tmp_path / "turned.png"])
    )
    capsys.readouterr()
    assert main(["predict", path, str(tmp_path / "turned.png"), "--orientation", "ignore"]) == 0
    assert "1 of 1 images have an EXIF orientation, which was ignored" in capsys.readouterr().err
    assert main(["predict", path, str(tmp_path / "turned.png")]) == 0
    assert "EXIF" not in capsys.readouterr().err


@pytest.mark.slow
def test_a_classifier_of_another_name_is_distinguished_from_auxiliary_ones():
    """GoogLeNet's auxiliary classifiers read 1,024 features, as its own does."""
    there = SOURCES["torchvision"]["googlenet"]
    network = inception_jax.create(there.model, variant=there.variant, num_classes=1000, aux=True)
    given = {
        array.theirs: np.ones(array.layout.shape, np.float32)
        for array in there.arrays(list_shapes(network))
    }
    renamed = {
        name.replace("fc.", "head.") if name.startswith("fc.") else name: value
        for name, value in given.items()
    }
    found = to_ours(there, renamed)
    assert found.notes == ("its classifier is called head",)
    assert (found.network.num_classes, found.network.aux) == (1000, True)
