"""How the cost of ours grows with the batch and with the size of images.

    python benchmarks/scaling.py [--model inception_v3]

Images/s of a training step (`step.py`) or, with `--what inference`, of inference with norms folded,
and what the compiled program holds; random inputs: for batches that double from 1 until one does
not fit, and for sizes at one batch. Each point is a process of its own. On a GPU in bfloat16; on a
CPU in float32, to `--largest-batch`, since a machine without memory does not say so.

Writes `results/scaling_<platform>_<what>.json` after each point, and the picture beside it.
"""

import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Any

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.95")

import jax

from benchmarks.machine import make_parser, write_results
from benchmarks.peers import Worker, summarize
from benchmarks.programs import INFERENCE, TRAINING, Flax, ProgramError, Task
from inception_jax.models import get_architecture

DTYPE = {"cpu": "float32", "gpu": "bfloat16"}
LARGEST = {"cpu": 16, "gpu": 4096}
BATCH = {"cpu": 4, "gpu": 64}
"""Batch of the points over image sizes."""
SIZES = (150, 212, 299, 424, 598)
"""Each has twice the pixels of the one before."""
STEPS = {"cpu": 2, "gpu": 20}


def point(task: Task, rounds: int, steps: int) -> dict[str, Any]:
    """Returns one point; `failed` where it does not fit into memory."""
    found: dict[str, Any] = {"batch": task.batch, "size": task.size}
    try:
        with Worker(partial(Flax, task)) as worker:
            started, _ = worker("start")
            rates = [task.batch / worker("turn", steps) for _ in range(rounds)]
            ended = worker("end")
    except ProgramError as error:
        return found | {"failed": str(error)}
    held = {name: ended[name] for name in ("program_memory_bytes", "memory_peak_bytes")}
    return found | {"images_per_second": summarize(rates, 2), **held, **started}


def line_of(tasks: Iterable[Task], rounds: int, steps: int) -> Iterator[dict[str, Any]]:
    """Yields points until one fails."""
    for task in tasks:
        found = point(task, rounds, steps)
        print(found, file=sys.stderr, flush=True)
        yield found
        if "failed" in found:
            return


def draw(figures: dict[str, Any], file: Path) -> None:
    """Draws images/s (top) and memory (bottom) against the batch (left) and the size (right)."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import ScalarFormatter

    figure, axes = pyplot.subplots(2, 2, figsize=(9, 6), layout="constrained", sharex="col")
    for column, (key, label) in zip(
        axes.T, (("batch", "images in a batch"), ("size", "height and width (pixels)")), strict=True
    ):
        points = [one for one in figures[key] if "failed" not in one]
        x = [one[key] for one in points]
        rates = [
            [one["images_per_second"][name] for one in points]
            for name in ("median", "least", "most")
        ]
        column[0].plot(x, rates[0], color="#2c7fb8", marker="o", ms=3.5)
        column[0].fill_between(x, rates[1], rates[2], color="#2c7fb8", alpha=0.2, lw=0)
        column[0].set(ylabel="images/s", ylim=(0, 1.08 * max(rates[2])), xscale="log")
        memory = [one["program_memory_bytes"] / 2**30 for one in points]
        column[1].plot(x, memory, color="#c0392b", marker="o", ms=3.5)
        column[1].set(
            xlabel=label,
            ylabel="the program's memory (GiB)",
            ylim=(0, 1.08 * max(memory)),
            xticks=x,
        )
        column[1].xaxis.set_major_formatter(ScalarFormatter())
        column[1].minorticks_off()
        for axis in column:
            axis.grid(alpha=0.25)
            axis.spines[["top", "right"]].set_visible(False)
    figure.suptitle(f"{figures['model']}, {figures['what']} in {figures['dtype']}", fontsize=10)
    figure.savefig(file, dpi=110)
    pyplot.close(figure)


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--model", default="inception_v3")
    parser.add_argument("--what", choices=(TRAINING, INFERENCE), default=TRAINING)
    parser.add_argument(
        "--image-size", type=int, help="of the batches, instead of the network's own"
    )
    parser.add_argument("--largest-batch", type=int, help=f"instead of {LARGEST}")
    parser.add_argument("--batch-size", type=int, help=f"of the sizes, instead of {BATCH}")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, help=f"in each, instead of {STEPS}")
    options = parser.parse_args()
    device = jax.devices()[0]
    platform = device.platform
    size, steps = (
        options.image_size or get_architecture(options.model).input_size,
        options.steps or STEPS[platform],
    )
    task = Task(options.what, options.model, 1, size, DTYPE[platform], platform)
    figures: dict[str, Any] = {
        "model": task.model,
        "what": task.what,
        "dtype": task.dtype,
        "rounds": options.rounds,
        "steps": steps,
        "batch": [],
        "size": [],
    }
    batches = takewhile(
        lambda batch: batch <= (options.largest_batch or LARGEST[platform]),
        (2**i for i in range(20)),
    )
    lines = {
        "batch": [replace(task, batch=batch) for batch in batches],
        "size": [
            replace(task, batch=options.batch_size or BATCH[platform], size=size)
            for size in options.sizes
        ],
    }
    file = options.results / f"scaling_{platform}_{options.what}.json"
    for key, tasks in lines.items():
        for found in line_of(tasks, options.rounds, steps):
            figures[key].append(found)
            text = write_results(file, figures)
    draw(figures, file.with_suffix(".png"))
    print(text)


if __name__ == "__main__":
    main()
