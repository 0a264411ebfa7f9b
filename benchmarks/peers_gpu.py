"""Inception on a GPU beside timm, torchvision and plain Flax.

    python benchmarks/peers_gpu.py [--models inception_v3] [--what training]

Images/s of a training step (`step.py`) and of inference in bfloat16, random inputs; `peers.py` says
how programs are held to the same function and timed. PyTorch's are channels last under autocast,
eager and by torch.compile with max-autotune, which records CUDA graphs, and cuDNN's benchmark
chooses their algorithms; XLA records command buffers by default. Plain Flax is the same table by
hand (`plain_flax.py`), in XLA's own layouts. For inference ours has its norms folded into
convolutions, and of the others those that are frozen. `times_as_fast` is ours over the peer, by
round; `roofline` is how much of what the GPU can do, as measured here, a step of ours uses.

Writes `results/peers_gpu.json` after each peer. Where time on a GPU comes in pieces: `--models`,
`--what`, `--peers`, and `--add`, which goes on with what the results hold; `--caches` finds what an
earlier piece compiled. Two programs are on the GPU at once: ours and one peer.
"""

import os
from functools import partial
from statistics import median
from typing import Any

os.environ.setdefault(
    "XLA_PYTHON_CLIENT_PREALLOCATE", "false"
)  # a process that takes three quarters of the memory leaves none to others

import jax

from benchmarks.machine import exit_unavailable
from benchmarks.peers import Made, Peer, Worker, bar, compare, faster, line, torch_peers, variants
from benchmarks.programs import INFERENCE, TRAINING, Flax, ProgramError, Task
from inception_jax.models import get_architecture
from inception_jax.plan.layer_costs import DeviceRates, compute_layer_costs
from inception_jax.plan.speed import get_device_rates
from inception_jax.spec.measure import measure

BATCH = {
    "inception_v3": 256,
    "bn_inception": 256,
    "resnet50": 256,
    "inception_v4": 128,
    "inception_resnet_v2": 128,
}
"""Images, fewer of the larger networks: two programs are on the GPU at once."""
DTYPE, ITEMSIZE = "bfloat16", 2
PEERS = {
    **torch_peers("timm"),
    "plain_flax": Peer(
        "flax", partial(Flax, plain=True), dict.fromkeys(BATCH) | variants("timm", "torchvision")
    ),
    **torch_peers("torchvision"),
}
DEFAULT = (
    "timm_compiled",
    "timm_frozen",
    "plain_flax",
    "timm_eager",
    "torchvision_compiled",
    "torchvision_eager",
)
OURS: dict[str, Made] = {TRAINING: {"ours": Flax}, INFERENCE: {"ours": Flax}}


class Bench:
    """The GPU by itself."""

    def rates(self) -> DeviceRates:
        device = jax.devices()[0]
        if device.platform != "gpu":
            raise ProgramError(f"JAX has none here, but {device.device_kind}")
        return get_device_rates(device, DTYPE)


def roofline(task: Task, entry: dict[str, Any], peak: DeviceRates) -> dict[str, Any]:
    """Returns the fractions of the GPU's rates that a step of ours uses.

    They are computed from the minimum of its table, and from the compiler's bytes. `binds` names
    the resource that takes longer; `of_layers` takes each layer by what binds it. The compiler's
    bytes are of the program with its norms, and may leave out what the library's own kernels do.
    """
    beside = [found for found in entry["peers"].values() if "times_as_fast" in found]
    if not beside:
        return {}
    images_per_second = median(found["images_per_second"]["ours"]["median"] for found in beside)
    seconds = task.batch / images_per_second
    measured = measure(get_architecture(task.model, beside[0]["variant"]), image_size=task.size)
    rows = list(
        compute_layer_costs(
            measured, images=task.batch, itemsize=ITEMSIZE, train=task.what == TRAINING, rates=peak
        )
    )
    computing, moving = (
        sum(row.flops for row in rows) / peak.flops,
        sum(row.bytes for row in rows) / peak.bandwidth,
    )
    programs = [
        found["ours"]["program_bytes"]
        for found in entry["ours"].values()
        if "program_bytes" in found.get("ours", {})
    ]
    return {
        "images_per_second": round(images_per_second, 2),
        "binds": "compute" if computing > moving else "memory",
        "of_matrix_rate": round(computing / seconds, 4),
        "of_bandwidth": round(moving / seconds, 4),
        "of_layers": round(sum(row.seconds for row in rows) / seconds, 4),
        **(
            {"of_bandwidth_by_program_bytes": round(programs[0] / peak.bandwidth / seconds, 4)}
            if programs
            else {}
        ),
    }


def judged(task: Task, entry: dict[str, Any], peak: DeviceRates) -> dict[str, Any]:
    """Returns our roofline, and the bars, which are of Inception-v3 at 299 pixels, 256 images."""
    used = roofline(task, entry, peak)
    if (task.model, task.size, task.batch) != ("inception_v3", 299, 256):
        return {"roofline": used}
    peers = entry["peers"]
    if task.what == INFERENCE:
        return {
            "roofline": used,
            "bars": [
                bar(
                    "inference, times timm under torch.compile",
                    1.25,
                    faster(peers, "timm_compiled"),
                )
            ],
        }
    least = {"compute": ("of_matrix_rate", 0.35), "memory": ("of_bandwidth", 0.7)}.get(
        used.get("binds", ""), ("of_matrix_rate", 0.35)
    )
    bars = [
        bar("training, times timm under torch.compile", 1.25, faster(peers, "timm_compiled")),
        bar("training, times plain Flax", 1.3, faster(peers, "plain_flax")),
        bar(f"training, {least[0]}", least[1], used.get(least[0])),
    ]
    return {"roofline": used, "bars": bars}


def main() -> None:
    parser = line(__doc__, models=tuple(BATCH), peers=DEFAULT, rounds=11, steps=20)
    parser.add_argument("--batch-size", type=int, help=f"instead of {BATCH}")
    options = parser.parse_args()
    try:
        with Worker(Bench) as bench:
            peak = bench("rates")
    except ProgramError as error:
        exit_unavailable(f"no GPU can be measured: {error}")
    tasks = [
        Task(
            what,
            model,
            options.batch_size or BATCH[model],
            options.image_size or get_architecture(model).input_size,
            DTYPE,
            "gpu",
            caches=options.caches,
        )
        for what in options.what
        for model in options.models
    ]
    packages = ("timm", "torch", "torchvision", "triton", "jax-cuda13-plugin", "nvidia-cudnn-cu13")
    compare(
        options.results / "peers_gpu.json",
        options,
        tasks,
        OURS,
        PEERS,
        partial(judged, peak=peak),
        packages,
        rates=peak._asdict(),
    )


if __name__ == "__main__":
    main()
