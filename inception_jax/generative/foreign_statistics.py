"""Statistics of other programs, read without running code in them.

| program | file | arrays |
|---|---|---|
| TTUR, pytorch-fid, EDM | `.npz` | mu [d], sigma [d, d] |
| ADM | `.npz` | mu, sigma, mu_s, sigma_s (spatial), arr_0 (images, often fewer than those of mu) |
| clean-fid | `NAME_MODE[_MODEL]_SPLIT_SIZE.npz` | mu, sigma; in `..._kid.npz` feats [N, d] |
| torch-fidelity | `.pt` of its cache | mu, sigma |
| EDM2 | `.pkl` | num_images, fid: mu, sigma |
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from inception_jax.atomic_io import wrap_read_errors
from inception_jax.config import ConfigError
from inception_jax.data.source import DataError
from inception_jax.generative.feature_set import FeatureSet
from inception_jax.generative.frechet import FeatureMoments, moments_from_rows
from inception_jax.generative.image_sets import open_npz
from inception_jax.generative.presets import Preset
from inception_jax.weights.convert.pytorch import read_pickled_arrays, read_pytorch

MEAN, COVARIANCE, FEATURES = "mu", "sigma", "feats"
CLEAN_FID_NAME = re.compile(r"_(clean|legacy_pytorch|legacy_tensorflow)_", re.IGNORECASE)
CLEAN_FID_MODES = {"clean": "bicubic", "legacy_pytorch": "half_pixel", "legacy_tensorflow": "tf1"}
"""A word in the name of a file of clean-fid -> the resize of its images."""
MAX_ASYMMETRY = 1e-6


def is_foreign(file: Path) -> bool:
    """Returns whether a file is one of statistics of another program.

    Raises:
      DataError: An `.npz` cannot be read.
    """
    suffix = file.suffix.lower()
    if suffix == ".npz":
        names = open_npz(file)
        return {MEAN, COVARIANCE} <= names.keys() or FEATURES in names
    return suffix in (".pt", ".pkl")


def read_foreign(file: Path, preset: Preset | None) -> FeatureSet:
    """Returns the statistics of another program.

    Args:
      file: See the head of this module.
      preset: The preset that they are taken to be of.

    Raises:
      DataError: The file has no statistics, or cannot be read.
      ConfigError: No preset is given, or the file's name says that it is of another resize.
    """
    if preset is None:
        raise ConfigError(
            f"{file} does not record how its images were resized: name the program that made it "
            "with --preset"
        )
    arrays = _read_arrays(file)
    notes = [f"statistics of unknown origin, taken as of {preset.id}: {file.name} records none"]
    mode = CLEAN_FID_NAME.search(file.name)
    if mode and CLEAN_FID_MODES[mode[1].lower()] != preset.resize:
        raise ConfigError(
            f"{file.name} is of clean-fid's mode {mode[1]}, which resizes by "
            f"{CLEAN_FID_MODES[mode[1].lower()]}, and the preset {preset.id} by {preset.resize}: "
            "give the preset of that resize"
        )
    count = _read_count(file, arrays.get("num_images"))
    features = arrays.get(FEATURES)
    if features is not None and MEAN not in arrays:
        if features.ndim != 2 or not np.issubdtype(features.dtype, np.floating):
            raise DataError(f"{file}: {FEATURES} is {features.dtype} {list(features.shape)}")
        moments = moments_from_rows(features)
    else:
        moments = _make_moments(file, arrays, "", count)
    spatial = None
    if f"{MEAN}_s" in arrays:
        spatial = _make_moments(file, arrays, "_s", count)
    if moments.count is None:
        notes.append(f"{file.name} does not record its number of images")
        if preset.ddof != 1:
            notes.append("its covariance is taken with the ddof that it was written with")
    facts: dict[str, Any] = {"set": str(file), "preset": preset.id, "origin": "another program"}
    return FeatureSet(
        str(file),
        moments,
        spatial,
        features,
        facts=facts | {"num_images": moments.count},
        notes=notes,
    )


def _read_arrays(file: Path) -> dict[str, Any]:
    """Returns the statistics in a file by name; arrays of images are left alone."""
    suffix = file.suffix.lower()
    if suffix == ".npz":
        stored = open_npz(file)
        wanted = (MEAN, COVARIANCE, f"{MEAN}_s", f"{COVARIANCE}_s", FEATURES, "num_images")
        with wrap_read_errors(file, DataError, "download or make it again"):
            return {name: stored[name].read_all() for name in wanted if name in stored}
    if suffix == ".pt":
        tree = read_pytorch(file).tree
    elif suffix == ".pkl":
        tree = read_pickled_arrays(file)
    else:
        raise DataError(
            f"{file} is no file of statistics: wanted are .safetensors, .npz, .pt or .pkl"
        )
    if isinstance(tree, Mapping) and isinstance(tree.get("fid"), Mapping):
        tree = {**tree, **tree["fid"]}
    if not isinstance(tree, Mapping) or not {MEAN, COVARIANCE} <= tree.keys():
        raise DataError(f"{file} holds no {MEAN} and {COVARIANCE}: it is of no statistics")
    return {
        str(name): np.asarray(value) if isinstance(value, np.ndarray) else value
        for name, value in tree.items()
    }


def _read_count(file: Path, given: Any) -> int | None:
    """Returns the number of images that a file records, or None.

    Raises:
      DataError: It is no whole number from 2 on.
    """
    if given is None:
        return None
    count = np.asarray(given)
    if count.shape or count.dtype.kind not in "iu" or count < 2:
        raise DataError(f"{file}: num_images is {given!r:.40}: wanted is a whole number from 2 on")
    return int(count)


def _make_moments(
    file: Path, arrays: Mapping[str, Any], suffix: str, count: int | None
) -> FeatureMoments:
    """Returns the moments of mu and sigma.

    Raises:
      DataError: They are missing, of other shapes, not symmetric, or not finite.
    """
    names = (f"{MEAN}{suffix}", f"{COVARIANCE}{suffix}")
    if missing := [name for name in names if not isinstance(arrays.get(name), np.ndarray)]:
        raise DataError(f"{file} has no array {missing[0]}: wanted are {' and '.join(names)}")
    if odd := [name for name in names if arrays[name].dtype.kind not in "fiu"]:
        raise DataError(f"{file}: {odd[0]} is {arrays[odd[0]].dtype}: wanted are real numbers")
    mean, covariance = (np.asarray(arrays[name], np.float64) for name in names)
    size = mean.size
    if mean.ndim != 1 or not size or covariance.shape != (size, size):
        raise DataError(
            f"{file}: {names[0]} is {list(mean.shape)} and {names[1]} {list(covariance.shape)}: "
            "wanted are [d] and [d, d]"
        )
    if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
        raise DataError(f"{file} has NaN or infinite numbers: make it again")
    if np.abs(covariance - covariance.T).max() > MAX_ASYMMETRY * np.abs(covariance).max():
        raise DataError(f"{file}: {names[1]} is not symmetric, and so no covariance: make it again")
    return FeatureMoments(count, mean, covariance)
