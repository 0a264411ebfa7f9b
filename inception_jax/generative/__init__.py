"""Evaluation of generative models: FID and its kin, with the network of 2015-12-05.

`Evaluator` scores images in a loop of training; `compute_scores` scores two `FeatureSet`s. The
metrics themselves take NumPy arrays of features: `frechet_distance`, `kernel_distance`,
`inception_score`, `precision_recall`, `density_coverage`, `find_nearest`. The names below import
their modules on first use.
"""

import importlib
from typing import Any

_HOMES = {
    "Evaluator": "evaluator",
    "FeatureSet": "feature_set",
    "PRESETS": "presets",
    "classwise_distances": "conditional",
    "compute_scores": "metrics",
    "conditional_distance": "conditional",
    "density_coverage": "neighbours",
    "find_nearest": "neighbours",
    "frechet_distance": "frechet",
    "inception_score": "inception_score",
    "kernel_distance": "kernel_distance",
    "moments_from_rows": "frechet",
    "precision_recall": "neighbours",
    "read_statistics": "statistics_file",
    "save_statistics": "statistics_file",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(
        f"module {__name__!r} has no attribute {name!r}; it has {', '.join(_HOMES)}"
    )


def __dir__() -> list[str]:
    return [*globals(), *_HOMES]
