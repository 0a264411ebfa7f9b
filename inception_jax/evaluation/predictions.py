"""Class probabilities of held-out examples, averaged over crops and networks, and their metrics."""

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from inception_jax.atomic_io import write_atomically
from inception_jax.data.batches import Batch
from inception_jax.data.source import DataError
from inception_jax.evaluation.confidence import wilson_half_width


class Predictions(NamedTuple):
    """The predictions for N examples.

    Attributes:
      probabilities: [N, K] float64.
      labels: [N] int.
      seen: [N] bool; False for images that could not be read.
      log_likelihood: [N] float64, the log-probability of the label, also where the probability is
        rounded to 0; None where only probabilities are known.
    """

    probabilities: np.ndarray
    labels: np.ndarray
    seen: np.ndarray
    log_likelihood: np.ndarray | None = None

    @property
    def losses(self) -> np.ndarray:
        """Returns [N] the negative log-likelihood in nats.

        It is infinite for a label of probability 0 if `log_likelihood` is not known.
        """
        if self.log_likelihood is not None:
            return -self.log_likelihood
        with np.errstate(divide="ignore"):
            return -np.log(self.probabilities[np.arange(len(self.labels)), self.labels])

    def select(self, kept: np.ndarray) -> "Predictions":
        """Returns the predictions of the examples where `kept` [N] is True."""
        columns: list[Any] = [None if column is None else column[kept] for column in self]
        return Predictions(*columns)


def predict_all(
    step: Callable[[Any, Any], Any],
    variables: Any,
    batches: Iterable[Batch],
    *,
    examples: int,
    crops: int = 1,
    gather: Callable[[Any], Any],
    may_skip: bool = False,
) -> Predictions:
    """Returns the predictions for all examples, each averaged over its crops.

    Args:
      step: (variables, batch) -> log-probabilities [B, K].
      examples: Number of examples.
      crops: Number of crops; those of example e are positions e * crops to (e + 1) * crops.
      gather: Returns sharded arrays to this process.

    Raises:
      AssertionError: A crop of an example is missing or repeated.
    """
    total, likelihood = np.zeros((examples, 0)), np.full(examples, -np.inf)
    counts, labels = np.zeros(examples, np.int64), np.zeros(examples, np.int64)
    for batch in batches:
        found, position, label, weight = map(
            np.asarray, gather((step(variables, batch), batch.position, batch.label, batch.weight))
        )
        real = weight > 0
        logs, label, example = (
            found[real].astype(np.float64),
            label[real],
            position[real].astype(np.int64) // crops,
        )
        if not total.shape[1]:
            total = np.zeros((examples, found.shape[-1]))
        np.add.at(total, example, np.exp(logs))
        with np.errstate(invalid="ignore"):  # of NaN
            np.logaddexp.at(likelihood, example, logs[np.arange(len(label)), label])
        np.add.at(counts, example, 1)
        labels[example] = label
    seen = counts == crops
    for i in np.flatnonzero(~seen):
        is_skipped = may_skip and counts[i] == 0
        message = f"example {i} came {counts[i]} times, not {crops}"
        assert is_skipped, f"{message}: the batches are wrong"
    return Predictions(total / crops, labels, seen, likelihood - np.log(crops))


def average_predictions(members: Sequence[Predictions], names: Sequence[str] = ()) -> Predictions:
    """Returns the arithmetic mean of the members' probabilities (arXiv:1502.03167, section 4.2.3).

    Args:
      names: Names of the members for messages.

    Raises:
      DataError: Members have different examples or classes.
    """
    first = members[0]
    for i, member in enumerate(members[1:], 1):
        if (
            member.probabilities.shape != first.probabilities.shape
            or (member.labels != first.labels).any()
        ):
            shapes = [
                " examples of ".join(map(str, one.probabilities.shape)) + " classes"
                for one in (first, member)
            ]
            called = [names[0], names[i]] if names else ["member 0", f"member {i}"]
            raise DataError(
                f"{called[0]} scored {shapes[0]}, {called[1]} {shapes[1]}, or other labels: give "
                "runs on the same held-out data"
            )
    mean = np.mean([member.probabilities for member in members], 0)
    with np.errstate(invalid="ignore"):
        likelihood = np.logaddexp.reduce([-member.losses for member in members], 0) - np.log(
            len(members)
        )
    return Predictions(
        mean, first.labels, np.all([member.seen for member in members], 0), likelihood
    )


def compute_metrics(found: Predictions) -> dict[str, float]:
    """Returns accuracies with half their 95 % interval, mean NLL, calibration error, and counts.

    Likelihood and calibration error are NaN where a probability is NaN.
    """
    probabilities, labels = found.probabilities[found.seen], found.labels[found.seen]
    count = len(labels)
    if not count:
        raise DataError("not one of these examples could be read")
    rank = compute_ranks(probabilities, labels)
    result: dict[str, float] = {}
    for name, limit in (("top1", 1), ("top5", 5)):
        result[name] = float((rank < limit).mean())
        result[f"{name}_interval"] = wilson_half_width(result[name], count)
    result["nll"] = float(found.losses[found.seen].mean())
    result["calibration_error"] = compute_calibration_error(probabilities, rank == 0)
    return {**result, "count": count, "skipped": len(found.labels) - count}


def compute_ranks(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns [N] the number of classes with a larger probability than the label.

    Of equal probabilities the lower class counts as larger, and NaN as the largest.
    """
    own = probabilities[np.arange(len(labels)), labels][:, None]
    earlier = np.arange(probabilities.shape[1]) < labels[:, None]
    return (
        (probabilities > own) | ((probabilities == own) & earlier) | ~np.isfinite(probabilities)
    ).sum(-1)


def compute_calibration_error(
    probabilities: np.ndarray, right: np.ndarray, bins: int = 15
) -> float:
    """Returns the expected calibration error over `bins` equal bins of confidence.

    Source: Guo et al. 2017, arXiv:1706.04599. NaN if a confidence is NaN.
    """
    confidence = probabilities.max(-1)
    if not np.isfinite(confidence).all():
        return float("nan")
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [abs(confidence[place == i].sum() - right[place == i].sum()) for i in range(bins)]
    return float(sum(gaps) / len(right))


def count_confusions(found: Predictions) -> np.ndarray:
    """Returns [K, K]: the number of examples of the row's class predicted as the column's."""
    classes = found.probabilities.shape[1]
    table = np.zeros((classes, classes), np.int64)
    np.add.at(table, (found.labels[found.seen], found.probabilities[found.seen].argmax(-1)), 1)
    return table


def format_confusions(table: np.ndarray, class_names: Sequence[str]) -> str:
    """Returns a confusion matrix [K, K] as CSV: a row for each class, a column for each guess."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(("class", *class_names))
    lines.writerows((name, *row) for name, row in zip(class_names, table.tolist(), strict=True))
    return text.getvalue()


def score_classes(found: Predictions, class_names: Sequence[str]) -> list[dict[str, Any]]:
    """Returns the accuracy of each class with examples, and its most frequent mistake.

    The lowest accuracy is first.
    """
    table = count_confusions(found)
    rows = []
    for i, name in enumerate(class_names):
        if not table[i].sum():  # a folder may hold a few of a network's classes
            continue
        others = np.where(np.arange(len(class_names)) == i, 0, table[i])
        count, mistaken = int(table[i].sum()), int(others.argmax())
        rows.append({
            "class": name, "count": count, "top1": table[i, i] / count,
            "taken_for": class_names[mistaken] if others[mistaken] else "",
            "times": int(others[mistaken]),
        })  # fmt: skip
    return sorted(rows, key=lambda row: (row["top1"], row["class"]))


RESULT_COLUMNS = (
    "model",
    "img_size",
    "top1",
    "top1_err",
    "top5",
    "top5_err",
    "param_count",
    "crop_pct",
    "interpolation",
)


def append_result(file: Path, row: dict[str, Any]) -> None:
    """Appends a row to a table of results, timm's columns first; writes the file atomically.

    Raises:
      DataError: The table lacks some of these columns.
      StorageError: The file cannot be written; it is unchanged.
    """
    names, before = [*RESULT_COLUMNS, *(name for name in row if name not in RESULT_COLUMNS)], ""
    if file.exists():
        before = file.read_bytes().decode()  # with the line ends that it has
        names = next(csv.reader(io.StringIO(before, newline="")), [])
        if unknown := [name for name in row if name not in names]:
            raise DataError(
                f"{file} has no column {', '.join(unknown)}: it has {', '.join(names)}; give "
                "another file"
            )
    table = io.StringIO(newline="")
    writer = csv.DictWriter(table, names)
    if not before:
        writer.writeheader()
    writer.writerow(row)
    write_atomically(file, before + table.getvalue())
