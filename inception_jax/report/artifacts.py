"""The files of a run that a report needs, read and checked before anything is drawn."""

import json
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from etils import epath

from inception_jax.atomic_io import wrap_read_errors
from inception_jax.checkpointing.run_record import read_attempts
from inception_jax.config import read_experiment, to_json
from inception_jax.errors import ExitCode, UserError, escape_control_characters
from inception_jax.monitoring.metrics_log import read_metrics


class UnreadableError(UserError, ValueError):
    """A file of a run whose content is not what was written."""

    exit_code = ExitCode.DATA


class RunArtifacts(NamedTuple):
    """The files of a run.

    Attributes:
      rows: The rows of metrics.
      config: The configuration; empty if there is none.
      attempts: The attempts of the run.
      worst: The arrays of `worst.npz`, described in `evaluation.worst`; empty if there is none.
      health: The drift of batch norm statistics, from `health.json`; empty if there is none.
        `layers` has `name`, `mean` and `variance` of each layer; `running` and `population` are the
        top-1 under either kind of statistics.
    """

    rows: list[dict[str, float]]
    config: dict[str, Any]
    attempts: list[dict[str, Any]]
    worst: dict[str, np.ndarray]
    health: dict[str, Any]


def load_run_artifacts(workdir: Path) -> RunArtifacts:
    """Reads and checks the files of a run.

    Raises:
      ConfigError: The configuration or the run record cannot be read.
      MetricsError: The metrics cannot be read.
      UnreadableError: The worst examples or the batch norm drift cannot be read.
    """
    config = {}
    if (workdir / "experiment.json").exists():
        config = to_json(read_experiment(workdir))
    return RunArtifacts(
        read_metrics(workdir),
        config,
        read_attempts(epath.Path(workdir)),
        _read_worst(workdir / "worst.npz"),
        _read_health(workdir / "health.json"),
    )


def _read_worst(file: Path) -> dict[str, np.ndarray]:
    if not file.exists():
        return {}
    try:
        # The arrays are written uncompressed. A compressed file could expand to any size.
        with zipfile.ZipFile(file) as archive:
            declared = sum(part.file_size for part in archive.infolist())
        if declared > file.stat().st_size:
            raise ValueError(f"its parts say that they have {declared:,} bytes, more than the file")
        with np.load(file, allow_pickle=False) as arrays:
            worst = dict(arrays)
        if not _is_consistent(worst):
            raise ValueError("its arrays do not fit each other")
        names = np.array([escape_control_characters(name) for name in worst["class_names"]])
        return worst | {"class_names": names}
    except Exception as error:  # zipfile, zlib and NumPy raise a dozen classes between them
        raise UnreadableError(
            f"{file} cannot be read ({error}): remove it, and `inception-jax train` writes it again"
        ) from error


def _is_consistent(worst: dict[str, np.ndarray]) -> bool:
    """Returns whether the arrays of `worst.npz` have the right shapes, dtypes and ranges."""
    image, example, names = worst["image"], worst["example"], worst["class_names"]
    probability = worst["probability"]
    is_probability = (probability >= 0) & (probability <= 1) | np.isnan(probability)
    checks = [
        image.ndim == 4 and example.ndim == 3,
        image.dtype == example.dtype == np.uint8,
        names.dtype.kind == "U",
        probability.dtype.kind == "f" and is_probability.all(),
    ]
    for classes in (worst["label"], worst["prediction"]):
        is_class = (classes >= 0) & (classes < len(names))
        checks += [
            classes.shape == probability.shape == (len(image),),
            classes.dtype.kind == "i" and is_class.all(),
        ]
    if "confusion" in worst:
        confusion = worst["confusion"]
        checks += [
            confusion.shape == 2 * (len(names),),
            confusion.dtype.kind in "iu" and (confusion >= 0).all(),
        ]
    return all(checks)


def _read_health(file: Path) -> dict[str, Any]:
    if not file.exists():
        return {}
    remedy = "remove it, and `inception-jax evaluate --health` writes it again"
    with wrap_read_errors(file, UnreadableError, remedy):
        stored = json.loads(file.read_bytes())
        layers = [
            {
                "name": str(layer["name"]),
                "mean": _parse_number(layer["mean"]),
                "variance": _parse_number(layer["variance"]),
            }
            for layer in stored["layers"]
        ]
        scores = {name: _parse_number(stored[name]) for name in ("running", "population")}
        return {"layers": layers, **scores}


def _parse_number(value: Any) -> float:
    """Returns a number of a JSON file, with NaN for null."""
    return float("nan") if value is None else float(value)
