"""What the folder of a run holds for a reader, read whole and checked, before anything is drawn of it."""

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
    """A file of a run that is not what was written there."""

    exit_code = ExitCode.DATA


class RunArtifacts(NamedTuple):
    """Of a run.

    Attributes:
      rows: its figures.
      config: empty where there is none.
      attempts: to make it.
      worst: the arrays of `worst.npz`, which `evaluation.worst` describes; empty where there is none.
      health: `layers` with `name`, `mean` and `variance`, and top-1 `running` and `population`; empty where there is none.
    """

    rows: list[dict[str, float]]
    config: dict[str, Any]
    attempts: list[dict[str, Any]]
    worst: dict[str, np.ndarray]
    health: dict[str, Any]


def load_run_artifacts(workdir: Path) -> RunArtifacts:
    """What `workdir` holds.

    Raises:
      ConfigError: a configuration or a record that cannot be read.
      MetricsError: figures that cannot be read.
      UnreadableError: examples or a BN health that cannot be read.
    """
    config = to_json(read_experiment(workdir)) if (workdir / "experiment.json").exists() else {}
    rows, made = read_metrics(workdir), read_attempts(epath.Path(workdir))
    return RunArtifacts(
        rows, config, made, _worst(workdir / "worst.npz"), _health(workdir / "health.json")
    )


def _worst(file: Path) -> dict[str, np.ndarray]:
    if not file.exists():
        return {}
    try:
        with zipfile.ZipFile(
            file
        ) as archive:  # arrays that are not compressed: what would expand is not read
            declared = sum(part.file_size for part in archive.infolist())
        if declared > file.stat().st_size:
            raise ValueError(f"its parts say that they have {declared:,} bytes, more than the file")
        with np.load(file, allow_pickle=False) as arrays:
            worst = dict(arrays)
        names, classes = worst["class_names"], (worst["label"], worst["prediction"])
        sane = (
            worst["image"].ndim == 4
            and worst["image"].dtype == worst["example"].dtype == np.uint8
            and worst["example"].ndim == 3
            and names.dtype.kind == "U"
            and worst["probability"].dtype.kind == "f"
            and bool(
                (
                    (worst["probability"] >= 0) & (worst["probability"] <= 1)
                    | np.isnan(worst["probability"])
                ).all()
            )
            and all(
                of.shape == worst["probability"].shape == (len(worst["image"]),) for of in classes
            )
            and all(
                of.dtype.kind == "i" and (of >= 0).all() and (of < len(names)).all()
                for of in classes
            )
            and (
                "confusion" not in worst
                or (
                    worst["confusion"].shape == 2 * (len(names),)
                    and worst["confusion"].dtype.kind in "iu"
                )
            )
            and ("confusion" not in worst or (worst["confusion"] >= 0).all())
        )
        if not sane:
            raise ValueError("its arrays do not fit each other")
        return worst | {
            "class_names": np.array([escape_control_characters(name) for name in names])
        }
    except Exception as error:  # zipfile, zlib and NumPy raise a dozen classes between them
        raise UnreadableError(
            f"{file} cannot be read ({error}): take it away, and `inception-jax train` writes it again"
        ) from error


def _health(file: Path) -> dict[str, Any]:
    if not file.exists():
        return {}
    with wrap_read_errors(
        file, UnreadableError, "take it away, and `inception-jax evaluate --health` writes it again"
    ):
        found = json.loads(file.read_bytes())
        layers = [
            {
                "name": str(one["name"]),
                "mean": _number(one["mean"]),
                "variance": _number(one["variance"]),
            }
            for one in found["layers"]
        ]
        return {
            "layers": layers,
            "running": _number(found["running"]),
            "population": _number(found["population"]),
        }


def _number(value: Any) -> float:
    """Returns a number of a JSON file, whose null stands for NaN."""
    return float("nan") if value is None else float(value)
