"""Checks of the data before training: faults are named, and samples are what the step receives."""

import io
import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from inception_jax.data.batches import Batch
from inception_jax.data.source import ArraySource, DataError
from inception_jax.data.stage_timer import count_cores, format_input_bound
from inception_jax.data.tfds import read_wordnet_ids
from inception_jax.debugging import inspect_data
from inception_jax.debugging.inspect_data import benchmark_pipeline, check_data, sample_prepared
from inception_jax.distributed.mesh import all_devices_placement
from inception_jax.experiment import Run
from inception_jax.recipes import load_recipe


def make_run(**data):
    config = load_recipe("digits").config
    return Run(
        replace(config, batch_size=8, data=replace(config.data, **data)), all_devices_placement()
    )


def make_run_with(images, labels, names):
    run = make_run()
    run.__dict__["train_source"] = run.__dict__["test_source"] = ArraySource(images, labels, names)
    return run


GREY = np.zeros((6, 8, 8), np.uint8)


def test_data_check_counts_the_examples_of_each_split():
    lines = list(check_data(make_run_with(GREY, np.array([0, 0, 0, 2, 1, 1]), ("a", "b", "c"))))
    assert lines == [
        f"{split}: 6 examples of 3 classes, 1 to 3 of each" for split in ("train", "test")
    ]


@pytest.mark.parametrize(
    ("labels", "names", "message"),
    [
        ([0, 0, 0, 0, 0, 0], ("a", "b"), "train: no example of b"),
        ([0, 1, 0, 1, 0, 5], ("a", "b"), r"train: labels \[5\], but there are 2 classes"),
        (
            [0, 1, 0, 1, 0, 1],
            ("n02000000", "n01000000"),
            "class 0 is n02000000 where ImageNet has n01000000",
        ),
    ],
)
def test_data_check_names_missing_unknown_and_misordered_classes(labels, names, message):
    with pytest.raises(DataError, match=message):
        list(check_data(make_run_with(GREY, np.array(labels), names)))


def test_data_check_names_an_image_that_cannot_be_read(tmp_path):
    file = io.BytesIO()
    Image.fromarray(GREY[0]).save(file, "PNG")
    for split in ("train", "test"):
        for name in ("a", "b"):
            (tmp_path / split / name).mkdir(parents=True)
            (tmp_path / split / name / "x.png").write_bytes(file.getvalue())
    (tmp_path / "train" / "b" / "x.png").write_bytes(b"broken")
    with pytest.raises(
        DataError,
        match=r"1 fault\(s\):\ntrain, example 1 \(.*b/x.png\): 6 bytes that begin with b'broken'",
    ):
        list(check_data(make_run(name="folder", directory=str(tmp_path))))


@pytest.mark.slow
def test_data_show_returns_the_images_that_the_training_step_receives():
    run = make_run(name="synthetic", crop="area", colour="tpu")
    shown = sample_prepared(run, 12)
    assert shown.before.shape == shown.after.shape == (12, 32, 32, 3)
    batches = run.train_batches(0)
    first, second = next(batches), next(batches)
    np.testing.assert_array_equal(shown.before[:8], first.image)
    examples, _ = jax.random.split(jax.random.key(run.config.seed))
    keys = jnp.stack([jax.random.fold_in(examples, position) for position in range(8, 12)])
    entered, _ = run.prepare_training(Batch(*(rows[:4] for rows in second)), keys)
    entered = (entered + 1) * 127.5
    assert np.abs(shown.after[8:] - np.clip(entered, 0, 255)).max() <= 1
    assert (shown.after != shown.before).any()


def test_data_check_compares_imagenet_classes_with_the_wordnet_ids_of_tfds():
    imagenet = read_wordnet_ids()
    assert (len(imagenet), imagenet[:2], imagenet == sorted(imagenet)) == (
        1000,
        ["n01440764", "n01443537"],
        True,
    )

    def faults(names):
        images, labels = np.zeros((len(names), 8, 8), np.uint8), np.arange(len(names))
        try:
            list(check_data(make_run_with(images, labels, tuple(names))))
        except DataError as error:
            return str(error)
        return ""

    assert faults(imagenet) == ""
    assert faults(imagenet[:100]) == ""  # a subset of few classes is a data set of its own
    assert "999 of ImageNet's 1,000 classes; missing are n01440764: extract" in faults(imagenet[1:])
    assert "n99999999: 1 of these WordNet ids are none of ImageNet's" in faults(
        [*imagenet[:5], "n99999999"]
    )


def test_data_benchmark_times_the_input_pipeline_by_stage(monkeypatch, tmp_path):
    monkeypatch.setattr(inspect_data, "BENCHMARK_SECONDS", 0.2)
    run = make_run(name="synthetic", crop="area")
    run = Run(replace(run.config, workdir=str(tmp_path)), run.placement)
    lines = list(benchmark_pipeline(run))
    stages = {line[:24].strip() for line in lines[1:-4]}
    assert {"read", "decode", "resize", "batch", "transfer"} <= stages
    assert f"2 threads, {count_cores()} cores" in lines[-3]
    assert "an accelerator that trains 1,000 images/s needs" in lines[-2]
    assert lines[-1].startswith("(train ")
    for rate, verdict in ((1.0, "the host keeps up"), (1e9, "input-bound: wanted is")):
        row = {"step": 20, "perf/images_per_second": rate, "perf/data_wait_fraction": 0.5}
        (tmp_path / "metrics.jsonl").write_text(json.dumps(row))
        line = list(benchmark_pipeline(run))[-1]
        assert f"train {2 * rate:,.0f} images/s and need" in line
        assert verdict in line


def test_the_input_bound_message_names_the_slowest_stage_and_a_remedy():
    text = format_input_bound(0.43, {"decode": 6.1, "resize": 2.0, "read": 1.9}, threads=0)
    assert "43% of the time" in text
    assert "61% of the host's work on it is decode" in text
    assert f"of {count_cores()} cores raise data.threads from 0" in text
    assert "they are all at work" in format_input_bound(0.43, {"decode": 1.0}, threads=4096)
