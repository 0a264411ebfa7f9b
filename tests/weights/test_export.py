"""Trained networks as files for others: they compute the same, for any batch, and need nothing of
ours.
"""

import subprocess
import sys

import jax
import numpy as np
import pytest

from benchmarks.random_variables import variables
from inception_jax.cli import main
from inception_jax.config import ConfigError, Data, Model
from inception_jax.nn.create import create
from inception_jax.spec.measure import min_image_size
from inception_jax.weights import files as file
from inception_jax.weights.cards import Card
from inception_jax.weights.export import onnx
from inception_jax.weights.export.folding import fold_norms, merge_sibling_kernels
from tests.tiers import sweep

FORMS = [
    ("googlenet", "paper"),  # LRN, ceil pools, biases without norms
    ("bn_inception", "tf_slim"),  # a separable stem
    ("bn_inception", "cadene"),  # biases under norms
    ("inception_v3", "torchvision"),  # padding counted
    ("inception_resnet_v2", "norm_on_sum"),
    ("inception_resnet_v1", "facenet_pytorch"),  # a norm after a matrix
    ("resnet50", "shortcut_a"),
    ("preact_resnet50", "keras"),  # zeros in a max pool
    ("bn_x5_sigmoid", "paper"),
    ("mnist_bn", "paper"),  # grey, and flattened
    ("mixed", "paper"),  # a concatenation and a residual, small
]


def relative(found, wanted):
    return float(
        np.abs(np.asarray(found) - np.asarray(wanted)).max() / np.abs(np.asarray(wanted)).max()
    )


def prepared(name, variant):
    network = create(name, variant=variant, num_classes=7)
    table = network.architecture
    size = max(min_image_size(table), 28 if table.channels == 1 else 64)
    return network, variables(network, image_size=size), size


@pytest.mark.parametrize(("name", "variant"), sweep(FORMS, FORMS[-2:]))
def test_a_network_computes_the_same_when_folded_merged_and_exported_to_onnx(name, variant):
    onnxruntime = pytest.importorskip("onnxruntime")
    network, tree, size = prepared(name, variant)
    session = onnxruntime.InferenceSession(
        onnx.to_onnx(network, tree, image_size=size), providers=["CPUExecutionProvider"]
    )
    bare, own = fold_norms(network, tree)
    joined, one = merge_sibling_kernels(bare, own)
    assert "mean" not in str(jax.tree_util.tree_structure(own["batch_stats"])) or variant in (
        "norm_on_sum",
        "keras",
    )
    images = (
        np.random.default_rng(0)
        .uniform(-1, 1, (7, size, size, network.architecture.channels))
        .astype(np.float32)
    )
    forms = ((network, tree), (bare, own), (joined, one))
    wanted, other, another = (jax.jit(of.apply)(leaves, images).logits for of, leaves in forms)
    assert relative(other, wanted) < 1e-5
    assert relative(another, wanted) < 1e-5
    assert ("merged" in str(jax.tree_util.tree_structure(one))) == (
        "inception" in name or name in ("googlenet", "bn_x5_sigmoid", "mixed")
    )
    assert relative(session.run(None, {"images": images})[0], wanted) < 1e-5
    assert relative(session.run(None, {"images": images[:1]})[0], wanted[:1]) < 1e-5


def test_the_onnx_export_names_a_layer_that_it_does_not_support():
    pytest.importorskip("onnx")
    from inception_jax.nn.network import Network
    from inception_jax.spec.vocabulary import Architecture, Linear, layer, table

    words = table(
        Mine=layer(
            "tests.nn.test_network:Doubled", times=1, output_shape=lambda shape, times: shape
        ),
        Logits=Linear(),
    )
    network = Network(Architecture("open", "paper", words, "a test", 8), num_classes=3)
    tree = jax.jit(network.init)(jax.random.key(0), np.zeros((1, 8, 8, 3), np.float32))
    with pytest.raises(ConfigError, match="Mine/layer: layer has no ONNX here"):
        onnx.to_onnx(network, tree, image_size=8)


@pytest.fixture(scope="module")
def weights_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "w.safetensors"
    network = create("mixed", num_classes=3)
    card = Card(Model("mixed"), Data(image_size=40, scaling="imagenet"), 3, ("ant", "bee", "cat"))
    file.save(path, card, jax.tree.map(np.asarray, variables(network, image_size=40)))
    return path


ALONE = """
import sys
import numpy as np
class Forbidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("inception_jax", "flax"):
            raise ImportError(name)
sys.meta_path.insert(0, Forbidden())
images, results = np.load(sys.argv[2]), []
for batch in (images[:1], images):
    kind = sys.argv[1].rpartition(".")[2]
    if kind == "onnx":
        import onnxruntime
        results.append(onnxruntime.InferenceSession(sys.argv[1]).run(None, {"images": batch})[0])
    elif kind == "stablehlo":
        from jax import export
        results.append(export.deserialize(bytearray(open(sys.argv[1], "rb").read())).call(batch))
    else:
        import tensorflow as tf
        serve = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]
        results.append(next(iter(serve(images=batch).values())))
np.save(sys.argv[3], np.concatenate(results))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("form", "pixels"),
    [
        ("stablehlo", False),  # with pixels, of a run: tests/commands/test_trained.py
        ("onnx", False),
        ("onnx", True),
        pytest.param("savedmodel", False, marks=pytest.mark.parity),
        pytest.param("savedmodel", True, marks=pytest.mark.parity),
    ],
)
def test_an_exported_network_runs_without_inception_jax_and_flax(
    weights_file, tmp_path, form, pixels, capsys
):
    if form == "onnx":
        pytest.importorskip("onnxruntime")
    output = tmp_path / f"network.{form}"
    line = [
        "export",
        str(weights_file),
        "--to",
        form,
        "--output",
        str(output),
        *(["--pixels"] if pixels else []),
    ]
    assert main(line) == 0
    assert "read back, it differs by" in capsys.readouterr().out
    rng = np.random.default_rng(0)
    images = (
        rng.integers(0, 256, (7, 40, 40, 3), np.uint8)
        if pixels
        else rng.uniform(-1, 1, (7, 40, 40, 3)).astype(np.float32)
    )
    np.save(tmp_path / "images.npy", images)
    arguments = [
        sys.executable,
        "-c",
        ALONE,
        str(output),
        str(tmp_path / "images.npy"),
        str(tmp_path / "found.npy"),
    ]
    subprocess.run(arguments, check=True, cwd=tmp_path, capture_output=True, timeout=300)
    from inception_jax.weights.trained_network import load_trained

    run, own, *_ = load_trained(str(weights_file))
    wanted = run.predict_step(own, images) if pixels else run.network.apply(own, images).logits
    found = np.load(tmp_path / "found.npy")
    assert found.shape == (8, 3)
    assert relative(found[1:], wanted) < 1e-5
    assert relative(found[:1], wanted[:1]) < 1e-5
    assert list(tmp_path.glob("*.unfinished")) == []


@pytest.mark.slow
def test_export_to_torchvision_refuses_models_and_variants_that_it_does_not_have(
    weights_file, tmp_path, capsys
):
    assert (
        main(
            [
                "export",
                str(weights_file),
                "--to",
                "torchvision",
                "--output",
                str(tmp_path / "a.safetensors"),
            ]
        )
        == 78
    )
    assert "torchvision has no 'mixed'" in capsys.readouterr().err
    network = create("inception_v3", num_classes=3)
    card = Card(Model("inception_v3"), Data(image_size=75), 3, ("ant", "bee", "cat"))
    file.save(
        tmp_path / "w.safetensors",
        card,
        jax.tree.map(np.asarray, variables(network, image_size=75)),
    )
    assert (
        main(
            [
                "export",
                str(tmp_path / "w.safetensors"),
                "--to",
                "torchvision",
                "--output",
                str(tmp_path / "a.safetensors"),
            ]
        )
        == 78
    )
    assert (
        "torchvision's is our variant torchvision: it computes another function"
        in capsys.readouterr().err
    )
    assert not (tmp_path / "a.safetensors").exists()


@pytest.mark.slow
def test_exports_carry_class_names_and_preprocessing(weights_file, tmp_path):
    import json

    for form in ("onnx", "stablehlo"):
        if form == "onnx":
            onnxruntime = pytest.importorskip("onnxruntime")
        assert (
            main(
                ["export", str(weights_file), "--to", form, "--output", str(tmp_path / f"n.{form}")]
            )
            == 0
        )
        if form == "onnx":
            found = (
                onnxruntime.InferenceSession(str(tmp_path / "n.onnx"))
                .get_modelmeta()
                .custom_metadata_map
            )
            found = {
                name: json.loads(text) if text[:1] in ("[", "{") else text
                for name, text in found.items()
            }
        else:
            from inception_jax.weights.export.program import read_metadata

            found = read_metadata((tmp_path / "n.stablehlo").read_bytes())
        assert found["class_names"] == ["ant", "bee", "cat"]
        fed = found["preprocessing"]
        assert (fed["image_size"], fed["orientation"], fed["layout"], fed["channels"]) == (
            40,
            "apply",
            "NHWC",
            "RGB",
        )
        np.testing.assert_allclose(fed["mean"], [0.485, 0.456, 0.406])
        np.testing.assert_allclose(fed["std"], [0.229, 0.224, 0.225])
        assert found["licence"] == "unknown"


def test_an_export_of_numbers_that_are_not_finite_is_not_kept(weights_file, tmp_path):
    """NaN is larger than no bound: `export` called such weights equal."""
    from inception_jax.data.source import DataError
    from inception_jax.weights.export.exporter import ExportFormat, export_and_verify
    from inception_jax.weights.trained_network import load_trained

    opened = load_trained(str(weights_file))
    broken = opened._replace(variables=jax.tree.map(lambda leaf: leaf * np.nan, opened.variables))
    form = ExportFormat(
        lambda opened, path, pixels: None,
        lambda path: lambda images: np.full((len(images), 3), np.nan),
    )
    for one in (opened, broken):
        with pytest.raises(DataError, match="differs by nan of the largest value"):
            export_and_verify(form, one, tmp_path / "x", pixels=False)
