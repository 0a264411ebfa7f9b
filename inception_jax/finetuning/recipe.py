"""The recipe of fine-tuning: its fields, the layout of a folder, and the run that they make."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import tyro

from inception_jax.config import (
    ConfigError,
    Experiment,
    Norm,
    Objective,
    Optimizer,
    Schedule,
)
from inception_jax.data.labelled import TRAINING_FOLDERS, is_split
from inception_jax.data.listing import list_folders
from inception_jax.data.source import DataError
from inception_jax.weights.cards import Card

SMALL_BATCH = 64
"""Images of a batch below which its statistics are too noisy to train with (arXiv:1702.03275,
section 1)."""
DEFAULT_EPOCHS, EVALUATIONS = 20.0, 20
MIN_STEPS = 600
"""Number of steps that a small folder gets. With 200 digits and a network of Fashion-MNIST, 0.82 of
the held-out digits after 300 steps at a rate of 0.02, 0.86 after 600, and 0.92 at a rate of 0.1.
"""


@dataclass(frozen=True)
class FineTuning:
    """The fields of fine-tuning."""

    weights: Annotated[str, tyro.conf.Positional]
    """Id of a release, weights file, or workdir of a run."""
    folder: Annotated[Path, tyro.conf.Positional]
    """Folder of images: <class>/<image>, or {train,test}/<class>/<image>."""
    output: Path | None = None
    """Weights file to write; <name of the folder>.safetensors where not given."""
    workdir: str | None = None
    """Folder of the run, with its report; runs/<name of the folder> where not given."""
    holdout: float = 0.2
    """Fraction of each class that is held out where the folder has no splits."""
    head_only: bool = False
    """Fit of the classifier alone, on features that are computed once."""
    head_l2: float = 0.01
    """Weight of L2 in the fit of the classifier, for features of deviation 1."""
    epochs: float | None = None
    """Passes over the training images, in which all layers are trained; where not given, 20, or for
    a small folder as many as 600 steps are.
    """
    learning_rate: float = 0.02
    """Learning rate of all layers for 32 images a batch, in proportion for others; a cosine takes
    it to 0. Images unlike those of the weights need more.
    """
    warmup: float = 0.05
    """Fraction of the training in which the learning rate rises from 0."""
    batch_size: int = 32
    """Number of images of a step, over all devices."""
    clip_norm: float | None = 1.0
    """Largest global norm of the gradient."""
    l2: float = 1e-4
    """Weight of L2 in the training of all layers, on kernels alone."""
    label_smoothing: float = 0.0
    """Share of the target that is spread evenly over all classes."""
    frozen_norms: bool | None = None
    """Training with the running statistics of the weights; where not given, for batches below
    64.
    """
    freeze: tuple[str, ...] = ()
    """Patterns of the layers that stay unchanged: Conv2d_*, Mixed_3*."""
    patience: int = 5
    """Number of evaluations without a higher held-out top-1 after which the training ends; 0 for
    none.
    """
    evaluate_every_epochs: float | None = None
    """Period of evaluation in epochs; where not given, a twentieth of all."""
    crop: Literal["auto", "none", "area", "height", "scale"] = "auto"
    """Crop of each training image; auto is scale, which keeps the aspect ratio, where the network
    is evaluated on crops, and none where it is evaluated on whole images.
    """
    flip: bool = True
    """Mirroring of half of the training images."""
    translate: float = 0.0
    """Largest distance in pixels by which a training image moves along each axis."""
    rotate: float = 0.0
    """Largest angle in degrees by which a training image rotates."""
    colour: Literal["none", "slim_fast", "jitter"] = "none"
    """Photometric distortion of training images."""
    on_bad_example: Literal["stop", "skip_and_count"] = "skip_and_count"
    """Reaction to an image that cannot be read, or a file that is none."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Dtype of the activations."""
    seed: int = 0
    """Random seed for the held-out images, the order and the augmentation."""

    def check(self) -> None:
        """Checks the fields that the run does not have itself.

        Raises:
          ConfigError: A field is out of range.
        """
        if not 0 < self.holdout < 1:
            raise ConfigError(f"--holdout {self.holdout}: give a fraction between 0 and 1")
        if not 0 <= self.warmup < 1:
            raise ConfigError(f"--warmup {self.warmup}: give a fraction from 0 to below 1")
        if not self.head_l2 > 0:
            raise ConfigError(f"--head-l2 {self.head_l2}: give a number above 0")
        if self.output and self.output.suffix != ".safetensors":
            raise ConfigError(f"--output {self.output}: weights are in files called .safetensors")
        if self.output and not self.output.parent.is_dir():
            raise ConfigError(f"--output {self.output}: {self.output.parent} is no folder: make it")

    @property
    def name(self) -> str:
        """Returns the name of the folder, for the names of results."""
        return self.folder.resolve().name


class FolderLayout(NamedTuple):
    """The splits of a folder of images.

    Attributes:
      train: Name of the training split; empty where the folder has no splits.
      test: Name of the held-out split.
    """

    train: str = ""
    test: str = ""


def find_layout(folder: Path) -> FolderLayout:
    """Returns the splits of a folder of images.

    Raises:
      DataError: It is no folder, has no folders, or a training split without a held-out one.
    """
    if not folder.is_dir():
        raise DataError(
            f"{folder} is no folder: give one of <class>/<image>, or of "
            "{train,test}/<class>/<image>"
        )
    names, _ = list_folders(folder)
    splits = [name for name in names if is_split(folder, name)]
    training = [name for name in splits if name.lower() in TRAINING_FOLDERS]
    if not training:
        if len(names) < 2:
            raise DataError(
                f"{folder} has {len(names)} folders, and a classifier needs a folder of images "
                "for each of two classes or more"
            )
        return FolderLayout()
    held_out = sorted((name for name in splits if name not in training), key=_rank_split)
    if not held_out:
        raise DataError(
            f"{folder} has a folder {training[0]} and none called test or val: add one with "
            f"held-out images, or give {folder / training[0]}, of which a part is held out"
        )
    return FolderLayout(training[0], held_out[0])


def _rank_split(name: str) -> bool:
    """Returns whether a split is less fit to be held out than the test images."""
    return not name.lower().startswith("test")


def make_experiment(fields: FineTuning, card: Card, layout: FolderLayout) -> Experiment:
    """Returns the run that trains all layers: the card's network and input, on the folder.

    Raises:
      ConfigError: A field is out of range.
    """
    crop = fields.crop
    if crop == "auto":
        crop = "none" if card.data.test_crop == "none" else "scale"
    data = replace(
        card.data, name="folder", directory=str(fields.folder), orientation="apply", crop=crop,
        on_bad_example=fields.on_bad_example, flip=fields.flip,
        translate=fields.translate, rotate=fields.rotate, colour=fields.colour,
    )  # fmt: skip
    if layout.train:
        data = replace(data, train_split=layout.train, test_split=layout.test)
    else:
        data = replace(data, holdout=fields.holdout, holdout_seed=fields.seed)
    is_frozen = fields.frozen_norms
    if is_frozen is None:
        is_frozen = fields.batch_size < SMALL_BATCH
    experiment = Experiment(
        model=replace(card.model, aux=False, dtype=fields.dtype, recompute=(), rewrites=None),
        norm=Norm(frozen=is_frozen),
        data=data,
        optimizer=Optimizer(
            "momentum", learning_rate=fields.learning_rate * fields.batch_size / 32, l2=fields.l2,
            clip_norm=fields.clip_norm, freeze=fields.freeze,
        ),
        objective=Objective(label_smoothing=fields.label_smoothing),
        batch_size=fields.batch_size, seed=fields.seed, keep_checkpoints=1, keep_best=1,
        patience=fields.patience,
    )  # fmt: skip
    experiment.check()
    return experiment


def set_length(experiment: Experiment, fields: FineTuning, images: int) -> Experiment:
    """Returns the run with its epochs and periods, for a number of training images.

    Raises:
      ConfigError: A field is out of range.
    """
    epochs = fields.epochs
    if epochs is None:
        epochs = max(DEFAULT_EPOCHS, MIN_STEPS * experiment.batch_size / images)
    period = fields.evaluate_every_epochs
    if period is None:
        period = epochs / EVALUATIONS
    experiment = replace(
        experiment, epochs=epochs, evaluate_every_epochs=period, checkpoint_every_epochs=period,
        schedule=Schedule("cosine", warmup_epochs=fields.warmup * epochs),
    )  # fmt: skip
    experiment.check()
    return experiment
