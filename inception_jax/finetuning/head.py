"""The new classifier of a trained network, fitted on the features of a folder's images."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from inception_jax.atomic_io import format_json, write_atomically
from inception_jax.config import ConfigError
from inception_jax.data.source import Source
from inception_jax.evaluation.features import make_features_step
from inception_jax.evaluation.predictions import Predictions
from inception_jax.experiment import Run
from inception_jax.finetuning.classifier import LinearClassifier
from inception_jax.monitoring.progress import log_line, show_progress
from inception_jax.weights.cards import UNKNOWN
from inception_jax.weights.trained_network import TrainedNetwork, format_tuned_licence

FEATURES_FILE = "head_features.npz"


class LabelledFeatures(NamedTuple):
    """The pooled features of labelled images.

    Attributes:
      features: [N, D] float32.
      labels: [N] int.
    """

    features: np.ndarray
    labels: np.ndarray


def compute_features(
    run: Run, variables: Mapping[str, Any], source: Source, label: str
) -> LabelledFeatures:
    """Returns the pooled features of all images of a source, as evaluation sees them.

    Args:
      label: The name of the work, for the progress bar.
    """
    looking = replace(run, given_source=source)
    step, gather = make_features_step(looking), run.placement.gather
    steps = -(-len(source) // run.config.batch_size)
    rows = []
    for _, batch in zip(show_progress(range(steps), label), looking.test_batches(), strict=True):
        found = step(variables, batch.image)
        rows.append(tuple(np.asarray(gather(x)) for x in (found, batch.label, batch.weight)))
    features, labels, weights = (np.concatenate(column) for column in zip(*rows, strict=True))
    flat = features.reshape(len(features), -1)[weights > 0]
    return LabelledFeatures(flat.astype(np.float32), labels[weights > 0])


def collect_head_facts(run: Run, trained: TrainedNetwork) -> dict[str, Any]:
    """Returns what the features depend on: the weights, the images, their classes and the dtype."""
    sources = (run.train_source, run.test_source)
    return {
        "weights": trained.card.digest or trained.name,
        "images": [getattr(source, "fingerprint", lambda: None)() for source in sources],
        "classes": list(run.class_names),
        "dtype": run.config.model.dtype,
    }


def load_or_compute_features(
    run: Run, trained: TrainedNetwork, workdir: Path
) -> tuple[LabelledFeatures, LabelledFeatures]:
    """Returns the features of the training and the held-out images.

    They are kept in the workdir, and computed again if what they depend on has changed.
    """
    key, file = format_json(collect_head_facts(run, trained)), workdir / FEATURES_FILE
    if kept := _load_features(file, key):
        return kept
    train, test = (
        compute_features(run, trained.variables, source, f"features of the {name} images")
        for source, name in ((run.train_source, "training"), (run.test_source, "held-out"))
    )
    archive = io.BytesIO()
    np.savez(
        archive, key=np.array(key), train_features=train.features, train_labels=train.labels,
        test_features=test.features, test_labels=test.labels,
    )  # fmt: skip
    if run.placement.is_primary:
        write_atomically(file, archive.getvalue())
    return train, test


def _load_features(file: Path, key: str) -> tuple[LabelledFeatures, LabelledFeatures] | None:
    """Returns the features in a file; None if there are none, of other images, or damaged ones."""
    if not file.exists():
        return None
    try:
        with np.load(file) as kept:
            if str(kept["key"]) != key:
                return None
            train, test = (
                LabelledFeatures(kept[f"{name}_features"], kept[f"{name}_labels"])
                for name in ("train", "test")
            )
            return train, test
    except Exception as error:  # a damaged archive raises errors of many classes
        log_line(f"{file} cannot be read ({error!r:.100}): the features are computed again")
        return None


def predict_with_head(head: LinearClassifier, images: LabelledFeatures) -> Predictions:
    """Returns the classifier's predictions for images by their features."""
    logits = (images.features @ head.kernel + head.bias).astype(np.float64)
    log_probabilities = logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)
    everything = np.arange(len(images.labels))
    return Predictions(
        np.exp(log_probabilities), images.labels, np.ones(len(everything), bool),
        log_probabilities[everything, images.labels],
    )  # fmt: skip


def attach_head(
    run: Run, trained: TrainedNetwork, head: LinearClassifier, class_names: Sequence[str]
) -> TrainedNetwork:
    """Returns the trained network with another classifier and its card.

    Raises:
      ConfigError: The network's classifier does not read pooled features.
    """
    network = run.network
    size, channels = run.config.data.image_size, network.architecture.channels
    image = jax.ShapeDtypeStruct((1, size, size, channels), np.float32)
    wanted = flatten_dict(jax.eval_shape(network.init, jax.random.key(0), image), sep="/")
    arrays = {
        name: leaf
        for name, leaf in flatten_dict(dict(trained.variables), sep="/").items()
        if name in wanted
    }
    start = f"params/{network.architecture.logits_row}/"
    for name in (name for name in wanted if name.startswith(start)):
        own = head.kernel if name.endswith("kernel") else head.bias
        if own.size != wanted[name].size:
            raise ConfigError(
                f"{trained.card.model.name}'s classifier is {wanted[name].shape} for {own.shape} "
                "pooled features: only all layers can be trained, with inception-jax train"
            )
        arrays[name] = own.reshape(wanted[name].shape)
    variables = {"params": {}, "batch_stats": {}} | unflatten_dict(
        {name: arrays[name] for name in wanted}, sep="/"
    )
    card = replace(
        trained.card, model=run.config.model, num_classes=len(class_names),
        class_names=tuple(class_names), class_offset=0, source=f"inception_jax: {trained.name}",
        file="", sha256="", release=UNKNOWN, published={}, parity={},
        licence=format_tuned_licence(trained.card.licence), tuned_from=trained.card.lineage,
    )  # fmt: skip
    return TrainedNetwork(run, variables, card, f"{trained.name} with a new classifier")
