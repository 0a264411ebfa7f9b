"""Files of statistics, which say what they are of: safetensors with the moments and facts.

    mean [d], covariance [d, d]                      float64, ddof 1
    spatial_mean, spatial_covariance                 likewise, of sFID's features
    rows [N, d], spatial_rows                        features less their mean, instead of a
                                                     covariance where N <= d
    features [N, d], logits [N, K], labels [N]       float32, where they were kept
    digests [N, 16]                                  of the pixels of each image

The header has the number of images, the preset and its version, the digest of the weights, the name
of the set, how it was resized, and the versions, the platform and the precision.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from etils import epath
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_bytes

from inception_jax.atomic_io import format_json, wrap_read_errors, write_atomically
from inception_jax.checkpointing.run_record import collect_versions
from inception_jax.config import ConfigError
from inception_jax.data.source import DataError
from inception_jax.generative.feature_set import FeatureSet
from inception_jax.generative.foreign_statistics import is_foreign, read_foreign
from inception_jax.generative.frechet import FeatureMoments, moments_from_rows
from inception_jax.generative.presets import Preset
from inception_jax.weights.cards import hash_arrays

FORMAT_VERSION = 1
FACTS_KEY, DIGEST_KEY = "statistics", "statistics_sha256"
COMPARED_FACTS = ("preset", "weights")
"""Facts in which two sets must agree to be compared."""


def save_statistics(path: str | Path, found: FeatureSet, *, keep_features: bool = False) -> None:
    """Writes the statistics of a set atomically.

    Args:
      path: A file called `.safetensors`.
      found: The set.
      keep_features: Whether the file has features and logits of all images (400 MB for 50,000),
        which KID, IS, precision and recall need; the set must have them.

    Raises:
      StorageError: It cannot be written.
      DataError: Features were to be kept, and the set has none.
    """
    arrays: dict[str, np.ndarray] = {}
    for prefix, moments in (("", found.moments), ("spatial_", found.spatial)):
        if moments is not None:
            arrays[f"{prefix}mean"] = moments.mean
            if moments.rows is None:
                arrays[f"{prefix}covariance"] = moments.covariance
            else:
                arrays[f"{prefix}rows"] = moments.rows
    if keep_features:
        arrays["features"] = np.asarray(found.require("features", "--keep-features"))
        if found.logits is not None:
            arrays["logits"] = np.asarray(found.logits)
    for name, array in (("labels", found.labels), ("digests", found.digests)):
        if array is not None:
            arrays[name] = array.astype(np.int64) if name == "labels" else array
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    facts = {
        **found.facts,
        "images": found.images_digest,
        "num_images": found.count,
        "class_names": list(found.class_names),
        "notes": found.notes,
        "versions": collect_versions(),
        "format_version": FORMAT_VERSION,
        "arrays": hash_arrays(arrays),
    }
    text = format_json(facts)
    header = {FACTS_KEY: text, DIGEST_KEY: hashlib.sha256(text.encode()).hexdigest()}
    write_atomically(epath.Path(path), to_bytes(arrays, header))


def is_statistics(path: str | Path) -> bool:
    """Returns whether a file is one of statistics, of this package or of another program.

    Raises:
      DataError: An `.npz` cannot be read.
    """
    file = Path(path)
    return file.is_file() and (file.suffix == ".safetensors" or is_foreign(file))


def read_preset(path: str | Path) -> str | None:
    """Returns the id of the preset that a file of statistics records; None for any other file."""
    if Path(path).suffix != ".safetensors":
        return None
    try:
        with safe_open(path, framework="numpy") as opened:
            found = json.loads((opened.metadata() or {}).get(FACTS_KEY, "{}")).get("preset")
    except (SafetensorError, OSError, ValueError, AttributeError):
        return None  # as `read_statistics` explains
    return found if isinstance(found, str) else None


def read_statistics(path: str | Path, preset: Preset | None = None) -> FeatureSet:
    """Returns the statistics of a file of this package or of another program.

    Args:
      path: The file.
      preset: The preset that statistics of another program are taken to be of, which do not record
        one.

    Raises:
      DataError: It is no file of statistics, or damaged, or has NaN.
      ConfigError: It is of another program, and no preset is given.
    """
    file = Path(path)
    if file.suffix != ".safetensors":
        return read_foreign(file, preset)
    try:
        with safe_open(file, framework="numpy") as opened:
            header = opened.metadata() or {}
            arrays = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise DataError(f"{path} is no file: give one of inception-jax fid statistics") from None
    except (SafetensorError, OSError) as error:
        raise DataError(
            f"{path} is no whole file of statistics ({error}): copy or make it again"
        ) from error
    text = header.get(FACTS_KEY)
    if text is None:
        raise DataError(
            f"{path} has no statistics{' but weights' if 'card' in header else ''}: give a file "
            "that inception-jax fid statistics has written"
        )
    if header.get(DIGEST_KEY) != hashlib.sha256(text.encode()).hexdigest():
        raise DataError(
            f"{path} is damaged: its header is not that which was written; copy it again"
        )
    facts = json.loads(text)
    if not isinstance(facts, dict):
        raise DataError(f"{path} has no facts: it is of another program; make it again")
    if facts.get("format_version") != FORMAT_VERSION:
        raise DataError(
            f"{path} has format {facts.get('format_version')!r:.20}, and this version reads "
            f"{FORMAT_VERSION}: use the one that wrote it"
        )
    if facts.get("arrays") != hash_arrays(arrays):
        raise DataError(
            f"{path} is damaged: its numbers are not those that were written; copy it again"
        )
    with wrap_read_errors(path, DataError, "make it again"):
        count = facts["num_images"]
        if count is not None and (type(count) is not int or count < 2):
            raise ValueError(f"its number of images is {count!r:.20}")
        moments = _read_moments(arrays, "", count)
        spatial = _read_moments(arrays, "spatial_", count) if "spatial_mean" in arrays else None
        features = arrays.get("features")
        if features is None and moments.rows is not None:
            features = moments.rows + moments.mean
        for name in ("features", "logits", "labels", "digests"):
            if name in arrays and len(arrays[name]) != count:
                raise ValueError(f"it has {len(arrays[name])} {name} of {count} images")
    return FeatureSet(
        str(facts.get("set", path)),
        moments,
        spatial,
        features,
        arrays.get("logits"),
        arrays.get("labels"),
        tuple(map(str, facts.get("class_names") or ())),
        digests=arrays.get("digests"),
        facts=facts,
        notes=list(map(str, facts.get("notes") or ())),
    )


def _read_moments(
    arrays: Mapping[str, np.ndarray], prefix: str, count: int | None
) -> FeatureMoments:
    """Returns the moments of a file.

    Raises:
      ValueError: They have other shapes, or numbers that are not finite.
      KeyError: An array is missing.
    """
    mean, rows = arrays[f"{prefix}mean"], arrays.get(f"{prefix}rows")
    given = arrays[f"{prefix}covariance"] if rows is None else rows
    wanted = (len(mean), len(mean)) if rows is None else (count, len(mean))
    if mean.ndim != 1 or given.shape != wanted:
        raise ValueError(f"its mean is {list(mean.shape)} and the rest {list(given.shape)}")
    if not (np.isfinite(mean).all() and np.isfinite(given).all()):
        raise ValueError("it has NaN or infinite numbers")
    if rows is None:
        return FeatureMoments(count, mean, given)
    return replace(moments_from_rows(rows), mean=mean, rows=rows)


def check_comparable(
    real: Mapping[str, Any], fake: Mapping[str, Any], *, anyway: bool = False
) -> list[str]:
    """Returns what two sets differ in, in sentences; none where they can be compared.

    Args:
      real: Facts of the reference.
      fake: Facts of the generated set.
      anyway: Whether sets of two presets or of two weights are compared nevertheless.

    Raises:
      ConfigError: They are of two presets, or of two weights, and not `anyway`.
    """
    found = []
    for fact in COMPARED_FACTS:
        own, other = real.get(fact), fake.get(fact)
        if own is not None and other is not None and own != other:
            found.append(f"{fact} {str(own)[:24]} and {str(other)[:24]}")
    if found and not anyway:
        raise ConfigError(
            f"the sets are of different {' and '.join(found)}: their distance is not one of "
            "images; make both with the same, or give --anyway"
        )
    notes = [f"compared although they are of different {difference}" for difference in found]
    for fact in ("platform", "precision", "engine"):
        own, other = real.get(fact), fake.get(fact)
        if own is not None and other is not None and own != other:
            notes.append(f"computed with different {fact}: {own} and {other}")
    return notes
