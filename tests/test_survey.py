"""Data looked at before training: faults are named, and what is shown is what the step sees."""

import io
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from inception_jax.data.batches import Batch
from inception_jax.data.source import ArraySource, DataError
from inception_jax.experiment import Run
from inception_jax.mesh import everything
from inception_jax.recipes import recipe
from inception_jax.survey import check, seen


def run_on(**data):
    config = recipe("digits").config
    return Run(replace(config, batch_size=8, data=replace(config.data, **data)), everything())


def holding(images, labels, names):
    run = run_on()
    run.__dict__["train_source"] = run.__dict__["test_source"] = ArraySource(images, labels, names)
    return run


GREY = np.zeros((6, 8, 8), np.uint8)


def test_each_split_is_counted():
    lines = list(check(holding(GREY, np.array([0, 0, 0, 2, 1, 1]), ("a", "b", "c"))))
    assert lines == [f"{split}: 6 examples of 3 classes, 1 to 3 of each" for split in ("train", "test")]


@pytest.mark.parametrize(
    ("labels", "names", "message"),
    [
        ([0, 0, 0, 0, 0, 0], ("a", "b"), "train: no example of b"),
        ([0, 1, 0, 1, 0, 5], ("a", "b"), r"train: labels \[5\], but there are 2 classes"),
        ([0, 1, 0, 1, 0, 1], ("n02000000", "n01000000"), "class 0 is n02000000 where ImageNet has n01000000"),
    ],
)
def test_faults_are_named(labels, names, message):
    with pytest.raises(DataError, match=message):
        list(check(holding(GREY, np.array(labels), names)))


def test_an_image_that_cannot_be_read_is_named(tmp_path):
    file = io.BytesIO()
    Image.fromarray(GREY[0]).save(file, "PNG")
    for split in ("train", "test"):
        for name in ("a", "b"):
            (tmp_path / split / name).mkdir(parents=True)
            (tmp_path / split / name / "x.png").write_bytes(file.getvalue())
    (tmp_path / "train" / "b" / "x.png").write_bytes(b"broken")
    with pytest.raises(DataError, match=r"1 fault\(s\):\ntrain, example 1 \(.*b/x.png\): 6 bytes that begin with b'broken'"):
        list(check(run_on(name="folder", directory=str(tmp_path))))


@pytest.mark.slow
def test_what_is_shown_is_what_the_step_sees():
    run = run_on(name="synthetic", crop="area", colour="tpu")
    shown = seen(run, 12)
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
