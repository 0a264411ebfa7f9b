"""The text of a plan for GPUs, from an answer that is written out here."""

from inception_jax.plan.formatting import format_attempt, format_result

ANSWER = {
    "requested_batch_size": 64, "batch_size": 72, "devices": 24, "chips": 24, "platform": "gpu",
    "topology": "h100:3x8", "slices": 1, "device_kind": "NVIDIA H100 80GB HBM3",
    "images_per_chip": 3, "compile_seconds": 21.6, "fits": True, "memory_bytes": 3 * 2**30,
    "memory_limit_bytes": 60 * 2**30, "memory_fraction": 0.75, "memory": {"arguments": 1},
    "norm_layers": 2, "groups": 9, "examples_per_group": 8, "devices_per_group": 1,
    "parameter_shards": 1, "flops_per_chip": 2.19e12, "bytes_per_chip": 2**30,
    "bytes_counted": 2**31, "bytes_by_kind": {"elementwise": 2**29, "kernel_gradient": 2**28},
    "kernels": 1000, "kernels_by_kind": {"elementwise": 900, "kernel_gradient": 100},
    "unknown_loops": 0, "launch_seconds": 2.5e-3,
    "all_reduces": 2, "all_reduce_dtypes": {"float32": 2**20}, "reduce_scatters": 0,
    "all_gathers": 0, "gathers_images": False, "between_slices": 0, "between_hosts": 2,
    "between_hosts_bytes": 2**20,
    "roofline": {"compute": 0.001, "memory": 0.002, "interconnect": 0.0, "between_hosts": 0.0001},
    "bound": "memory", "images_per_second_upper_bound": 36_000.0, "note": "an upper bound",
}  # fmt: skip


def format_lines(**changes):
    return "\n".join(format_result({**ANSWER, **changes}))


def test_a_plan_for_gpus_shows_memory_kernels_bytes_and_bounds():
    assert (
        format_lines()
        == """\
batch_size 64 cannot be split over 24 devices: planned is 72, the next that can
compiled for h100:3x8, 24 x NVIDIA H100 80GB HBM3, in 22 s: 3 images a GPU, 72 in all
statistics of 9 groups of 8 in each of 2 layers, each on one device: only their mean is communicated
memory: 3.00 GiB of 60.00 GiB a GPU (the 75% of its memory that JAX takes): it fits
all-reduces: 2, 1.00 MiB of float32; 2 of these between hosts, 1.00 MiB
a GPU in a step: 2.19e+12 operations by the network's table, 1.00 GiB to and from memory in 1,000 \
kernels; 2.00 GiB if slices are read in full
of these bytes, by kind of kernel: elementwise 512.00 MiB in 900, kernel gradient 256.00 MiB in 100
launching 1,000 kernels takes about 2.5 ms more, at 2.5 us each, unless command buffers (CUDA \
graphs) or overlap hide it: it is not in the bound below
at published peaks that takes: tensor cores 1.00 ms, memory 2.00 ms, interconnect of a host 0.00 \
ms, network between hosts 0.10 ms
at most 36,000 images/s, 1,500 a GPU, bound by memory: an upper bound"""
    )


def test_a_plan_names_the_traffic_and_the_loops_that_its_bounds_leave_out():
    without = dict.fromkeys(("compute", "memory", "interconnect"), 0.001)
    text = format_lines(roofline=without, unknown_loops=2)
    assert "2 of these between hosts, 1.00 MiB, whose time is not in what follows" in text
    assert "in 1,000 kernels (2 loops of unknown length count once); " in text


def test_a_plan_warns_where_norm_groups_make_gpus_gather_images():
    advice = "a batch_size that is a multiple of 192 avoids it"
    assert advice in format_lines(devices_per_group=2, gathers_images=True)
    assert advice not in format_lines(devices_per_group=2, gathers_images=False)


def test_a_program_that_does_not_fit_a_gpu_and_an_attempt_have_one_line_each():
    text = format_lines(fits=False, memory=None, roofline=None)
    assert "(the 75% of its memory that JAX takes): it does not fit" in text
    assert "kernels" not in text
    assert format_attempt({**ANSWER, "memory_bytes": None, "fits": False}) == (
        "3 images a GPU: memory: more of 60.00 GiB a GPU (the 75% of its memory that JAX takes): "
        "it does not fit (22 s)"
    )


def test_a_plan_for_tpus_has_figures_of_a_chip():
    text = format_lines(
        platform="tpu", topology="v5e:4x6", kernels=None, memory_fraction=None, between_hosts=None,
        roofline={"mxu": 0.001, "hbm": 0.002, "ici": 0.0}, bound="hbm",
    )  # fmt: skip
    assert "3 images a chip" in text
    assert "memory: 3.00 GiB of 60.00 GiB a chip: it fits" in text
    assert "a chip in a step: 2.19e+12 operations, 1.00 GiB to and from memory" in text
    assert "matrix units 1.00 ms, memory 2.00 ms, interconnect 0.00 ms" in text
    assert "kernels" not in text
