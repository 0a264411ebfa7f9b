"""What a TPU pod would make of the training step, by its compiler's account.

    python benchmarks/plan_tpu_pod.py

Nothing is run: libtpu (`pip install 'inception-jax[tpu]'`) compiles ahead of time, some 25 programs
in an hour and a half on two cores. Inception-v3 with 128 images a chip on 256 v5e, and on one, and
on other chips; Inception-v4 and Inception-ResNet-v2 with the largest batch that fits. Statistics
are of a chip's own images, activations in bfloat16; all else as the recipe says.

Writes `benchmarks/results/plan_tpu_pod.json`.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from math import prod
from typing import Any

from benchmarks.machine import exit_unavailable, make_parser, publish
from inception_jax.plan.largest_batch import find_largest_batch, list_batch_candidates

MODELS, GROWN = (
    ("inception_v3", "inception_v4", "inception_resnet_v2"),
    ("inception_v4", "inception_resnet_v2"),
)
"""Networks, and those with the largest batch that fits."""
OTHERS = ("v4:8x8x8", "v5p:8x8x8", "v6e:16x16")
MOST_ALL_REDUCES, MORE_BYTES, MORE_OPERATIONS = 8, 1.05, 1.02
KEPT = (
    "images_per_chip", "examples_per_group", "fits", "memory_bytes", "memory_limit_bytes",
    "state_bytes", "gradient_bytes", "flops_per_chip", "bytes_per_chip", "all_reduces",
    "all_reduce_bytes", "all_reduce_dtypes", "roofline", "bound", "images_per_second_upper_bound",
    "compile_seconds", "optimization_level", "note",
)  # fmt: skip


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument(
        "--models",
        nargs="+",
        default=MODELS,
        help=f"recipes; of {', '.join(GROWN)} the largest batch that fits",
    )
    parser.add_argument("--images", type=int, default=128, help="a chip, of the other recipes")
    parser.add_argument("--pod", default="v5e:16x16")
    parser.add_argument(
        "--others", nargs="*", default=OTHERS, help="other chips, of the other recipes"
    )
    options = parser.parse_args()
    if not find_spec("libtpu"):
        exit_unavailable("not installed: libtpu, which compiles for TPUs")
    versions: dict[str, str] = {}
    plan = planner(versions)
    figures: dict[str, Any] = {}
    for model in options.models:
        images = options.images
        if model in GROWN:
            fits = [n for n in list_batch_candidates(0, 256, 512) if n % 8 == 0]
            best = find_largest_batch(
                fits,
                partial(plan, model, options.pod),
                start=96,
                fixed_bytes=asked(model)["state_bytes"],
            )
            images = best["images_per_chip"]
        figures[model] = pod(model, options.pod, images, plan)
        if model not in GROWN:
            figures[model]["elsewhere"] = {
                name: kept(plan(model, name, images)) for name in options.others
            }
    publish(
        options.results / "plan_tpu_pod.json", {**figures, "versions": versions, "measured": False}
    )


def planner(versions: dict[str, str]) -> Callable[[str, str, int], dict[str, Any]]:
    """Compiles a model for a topology with so many images a chip, each once; notes with which
    versions.
    """
    known: dict[tuple[str, str, int], dict[str, Any]] = {}

    def plan(model: str, topology: str, images: int) -> dict[str, Any]:
        key = model, topology, images
        if key not in known:
            chips = prod(int(side) for side in topology.partition(":")[2].split("x"))
            known[key] = answer = asked(
                model, "--topology", topology, "--model.dtype", "bfloat16",
                "--batch-size", str(images * chips), "--norm.examples-per-group", str(images),
            )  # fmt: skip
            versions.update(answer["versions"])
            print(
                f"{model} on {topology}: {images} a chip, {answer['compile_seconds']:.0f} s",
                file=sys.stderr,
            )
        return known[key]

    return plan


def asked(*line: str) -> dict[str, Any]:
    """What the command answers."""
    command = [sys.executable, "-m", "inception_jax.cli", "plan", *line, "--json"]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def pod(
    model: str, topology: str, images: int, plan: Callable[[str, str, int], dict[str, Any]]
) -> dict[str, Any]:
    """A pod beside a single chip with the same share, and whether the bars hold."""
    alone = f"{topology.partition(':')[0]}:1x1"
    many, one = plan(model, topology, images), plan(model, alone, images)
    bars = {
        "at_most_8_all_reduces": many["all_reduces"] <= MOST_ALL_REDUCES,
        "all_in_float32": set(many["all_reduce_dtypes"]) == {"float32"},
        "all_reduced_bytes_over_gradients": many["all_reduce_bytes"] / many["gradient_bytes"],
        "at_most_1.05": many["all_reduce_bytes"] <= MORE_BYTES * many["gradient_bytes"],
        "operations_over_one_chip": many["flops_per_chip"] / one["flops_per_chip"],
        "at_most_1.02": many["flops_per_chip"] <= MORE_OPERATIONS * one["flops_per_chip"],
        "fits": many["fits"],
    }
    return {topology: kept(many), alone: kept(one), "bars": bars}


def kept(answer: dict[str, Any]) -> dict[str, Any]:
    return {name: answer[name] for name in KEPT}


if __name__ == "__main__":
    main()
