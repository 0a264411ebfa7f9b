"""Our files of weights: no damage in them goes unseen, and the files of an earlier version are
read as they were.
"""

import contextlib
import json
import os
from dataclasses import replace

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import inception_jax
from benchmarks.random_variables import variables
from inception_jax import weights
from inception_jax.cli import main
from inception_jax.config import Data, Model
from inception_jax.data.source import DataError
from inception_jax.weights import files as file
from inception_jax.weights.cards import Card, hash_arrays
from tests.conftest import ROOT


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A file of weights of a small network, with references as `convert` keeps them."""
    path = tmp_path_factory.mktemp("own") / "w.safetensors"
    network = inception_jax.create("mnist_bn", num_classes=10)
    card = Card(Model("mnist_bn"), Data(image_size=28), 10, tuple("abcdefghij"))
    file.save(path, card, variables(network), {"logits": np.linspace(0, 1, 65)})
    return path


def test_no_flipped_bit_of_a_file_of_weights_goes_unseen(own, tmp_path):
    """600 of them, in the header, the card and the arrays: each is refused, or changes nothing."""
    data, rng = own.read_bytes(), np.random.default_rng(0)
    header = 8 + int.from_bytes(data[:8], "little")
    whole = file.read_file(own)
    for place in [*rng.integers(0, header, 400), *rng.integers(header, len(data), 200)]:
        damaged = bytearray(data)
        damaged[place] ^= 1 << int(rng.integers(8))
        (tmp_path / "w.safetensors").write_bytes(damaged)
        found = whole
        with contextlib.suppress(DataError):
            found = file.read_file(tmp_path / "w.safetensors")
        assert found.card == whole.card, place  # a letter of what nobody reads
        assert jax.tree.all(jax.tree.map(np.array_equal, found.variables, whole.variables))


def test_predict_refuses_damaged_weights_with_65(own, tmp_path, capsys):
    data = bytearray(own.read_bytes())
    data[-100] ^= 1
    (tmp_path / "w.safetensors").write_bytes(data)
    assert main(["predict", str(tmp_path / "w.safetensors"), "image.png"]) == 65
    assert "is damaged: its arrays are not those that were written" in capsys.readouterr().err


def test_a_changed_card_is_refused(own, tmp_path):
    from safetensors import safe_open

    with safe_open(own, "numpy") as opened:
        metadata = opened.metadata()
    card = json.loads(metadata["card"])
    card["data"]["scaling"] = "imagenet"
    save_file(load_file(own), tmp_path / "w.safetensors", {**metadata, "card": json.dumps(card)})
    with pytest.raises(DataError, match="its card is not that which was written"):
        weights.card(tmp_path / "w.safetensors")


def test_arrays_that_are_not_finite_or_no_floats_are_refused(own, tmp_path):
    for change, message in (
        (lambda value: np.full_like(value, np.nan), r"bias is NaN or infinite in \d+ places"),
        (lambda value: np.full_like(value, np.inf), r"bias is NaN or infinite"),
        (lambda value: value.astype(np.int32), "bias is int32; weights are floats"),
    ):
        opened = file.read_file(own)
        opened.variables["params"]["Logits"]["linear"]["bias"] = change(
            opened.variables["params"]["Logits"]["linear"]["bias"]
        )
        file.save(tmp_path / "w.safetensors", *opened)
        with pytest.raises(DataError, match=message):
            inception_jax.load(tmp_path / "w.safetensors")


def test_the_card_holds_the_digest_of_the_arrays_in_the_file(own):
    assert weights.card(own).digest == hash_arrays(load_file(own))
    assert weights.card(own).format_version == 2


def test_the_digest_tells_names_shapes_and_types_apart():
    one = {"a": np.zeros((2, 3), np.float32)}
    others = (
        {"b": one["a"]},
        {"a": one["a"].reshape(3, 2)},
        {"a": np.zeros((2, 3), np.float64)},
        {"a": one["a"] + 1},
        {},
    )
    assert len({hash_arrays(arrays) for arrays in (one, *others)}) == 6
    assert hash_arrays({"a": np.zeros(1), "b": np.ones(1)}) == hash_arrays(
        {"b": np.ones(1), "a": np.zeros(1)}
    )


def test_weights_of_an_earlier_version_are_read_as_they_were_and_said_so(capsys):
    old = ROOT / "tests" / "old_runs" / "format_1" / "weights.safetensors"
    card = weights.card(old)
    assert (card.format_version, card.data.orientation, card.digest) == (1, "ignore", "")
    inception_jax.Predictor(old)
    said = capsys.readouterr().err
    assert (
        said.count(
            "is of an earlier version: its images are not turned by their EXIF orientation, and it "
            "has no digest"
        )
        == 1
    )


@pytest.mark.parametrize(
    "field",
    ["class_names", "num_classes", "source", "published", "model", "format_version", "tuned_from"],
)
@pytest.mark.parametrize("value", [None, -1, "x", [[]], {"a": 1}, [1] * 10])
def test_a_card_with_fields_of_other_types_is_refused_with_the_files_name(
    own, tmp_path, field, value
):
    opened = file.read_file(own)
    text = json.loads(replace(opened.card, digest="").to_json()) | {field: value}
    if text == json.loads(replace(opened.card, digest="").to_json()) or (field, value) in (
        ("source", "x"),
        ("tuned_from", {"a": 1}),
        ("published", {"a": 1}),
    ):
        return
    arrays = load_file(own)
    text["digest"] = hash_arrays(arrays)
    body = json.dumps(text)
    save_file(arrays, tmp_path / "w.safetensors", {"card": body, "card_sha256": file._digest(body)})
    with pytest.raises(DataError, match=r"w\.safetensors has a card"):
        weights.card(tmp_path / "w.safetensors")


def test_a_file_is_not_written_through_a_link_that_somebody_has_put_there(own, tmp_path):
    """The unfinished file had a name that could be foreseen: what a link of that name led to was
    overwritten.
    """
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "w.safetensors.tmp").symlink_to(tmp_path / "precious")
    opened = file.read_file(own)
    file.save(tmp_path / "w.safetensors", *opened)
    assert (tmp_path / "precious").read_text() == "mine"
    assert sorted(os.listdir(tmp_path)) == ["precious", "w.safetensors", "w.safetensors.tmp"]
