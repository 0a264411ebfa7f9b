"""The training step compiled in a subprocess: for local devices, for TPUs and for GPUs."""

import json
import logging
import os
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest

from benchmarks.small_networks import LINE, small
from inception_jax.config import ConfigError
from inception_jax.distributed.mesh import all_devices_placement
from inception_jax.experiment import Run
from inception_jax.plan import compile_process, compiled_step, speed
from inception_jax.plan.chips import CHIPS, parse_topology
from inception_jax.plan.compile_process import CompileProcessError, has_cuda_plugin
from inception_jax.plan.compiled_step import (
    COMPILED_FIELDS,
    collect_facts,
    parse_memory_shortage,
    topology_placement,
)
from inception_jax.plan.outline import with_placeholder_data
from inception_jax.recipes import load_recipe
from tests.conftest import OPTIMIZED_FLAGS, ROOT

REQUIRED_KEYS = {
    "recipe", "model", "steps", "epochs", "batch_size", "topology", "slices", "chips",
    "images_per_chip", "images_per_device", "examples_per_group", "groups", "devices_per_group",
    "fits", "memory_bytes", "memory_limit_bytes", "flops_per_chip", "bytes_per_chip",
    "all_reduces", "all_reduce_bytes", "all_reduce_dtypes",
    "compile_seconds", "roofline_seconds", "bound",
    "images_per_second_upper_bound", "measured", "note", "versions",
}  # fmt: skip
EIGHT_DEVICES = {"JAX_NUM_CPU_DEVICES": "8", "XLA_FLAGS": OPTIMIZED_FLAGS}


@pytest.mark.parametrize(
    ("message", "needed", "limit"),
    [
        (
            "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO "
            "temporaries (48.00G) exceeds available HBM (15.75G).",
            48 * 2**30 + 1000, 15.75 * 2**30,
        ),
        (
            "RESOURCE_EXHAUSTED: E1000: CompileTimeHbmOom: "
            "... (28.73G) exceeds available HBM (15.75G)",
            28.73 * 2**30, 15.75 * 2**30,
        ),
        (
            "RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in memory "
            "space hbm. Used 21.95G of 15.48G hbm. Exceeded hbm capacity by 6.47G.\n\n"
            "Total hbm usage >= 22.47G:\n    reserved        530.00M",
            21.95 * 2**30, 15.48 * 2**30,
        ),
    ],
)  # fmt: skip
def test_out_of_memory_messages_yield_the_needed_and_the_available_bytes(message, needed, limit):
    assert parse_memory_shortage(message, 1000) == {
        "fits": False,
        "memory_bytes": round(needed),
        "memory_limit_bytes": round(limit),
    }
    assert parse_memory_shortage(message, 1000, cores=2)["memory_bytes"] == 2 * round(needed)


def test_an_out_of_memory_message_without_numbers_still_counts_as_not_fitting():
    assert parse_memory_shortage("RESOURCE_EXHAUSTED: no room", 1000) == {"fits": False}


@pytest.mark.slow
def test_plan_names_the_tpu_extra_if_libtpu_is_missing(process, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\nsys.modules['libtpu'] = None  # hidden: a machine without the extra `tpu`\n"
    )
    done = process(
        "plan",
        "digits",
        "--topology",
        "v5e:4x4",
        PYTHONPATH=os.pathsep.join([str(tmp_path), str(ROOT)]),
    )
    assert (done.returncode, done.stdout) == (78, "")
    assert done.stderr == (
        "inception-jax: to compile for v5e:4x4, libtpu must be installed: "
        "pip install 'inception-jax[tpu]'\n"
    )


@pytest.mark.parametrize("topology", ["h100:8", "l4:2x4"])
def test_plan_names_the_cuda_extra_if_the_plugin_is_missing(topology, monkeypatch):
    def find_spec(name):  # as without any plugin: the parent package is missing too
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(compile_process, "find_spec", find_spec)
    with pytest.raises(ConfigError) as error:
        compile_process.run_in_subprocess("unused", {"topology": topology})
    assert str(error.value) == (
        f"to compile for {topology}, JAX's CUDA plugin must be installed: pip install "
        "'inception-jax[cuda]' (no GPU is needed)"
    )


@pytest.mark.parametrize("installed", ["jax_plugins.xla_cuda12", "jax_plugins.xla_cuda13", None])
def test_the_plugin_for_either_version_of_cuda_is_found(installed, monkeypatch):
    monkeypatch.setattr(compile_process, "find_spec", lambda name: name == installed or None)
    assert has_cuda_plugin() == bool(installed)


def test_a_plugin_that_cannot_be_loaded_is_an_error_with_its_reason(monkeypatch):
    """JAX logs the error of a plugin, and raises another one."""

    def get_topology_desc(*_, **options):
        assert options["topology"] == "1x2x8"
        assert "NVIDIA H100 80GB HBM3" in options["target_config"]
        try:
            raise RuntimeError("The driver is too old for these wheels\nsecond line")
        except RuntimeError:
            logging.getLogger("jax._src.xla_bridge").exception("Jax plugin configuration error")
        raise NotImplementedError("topology not implemented for cuda")

    monkeypatch.setattr(compiled_step.topologies, "get_topology_desc", get_topology_desc)
    with pytest.raises(ConfigError) as error:
        topology_placement(parse_topology("h100:2x8"))
    assert "cannot be used for h100:2x8 (The driver is too old for these wheels): install" in str(
        error.value
    )
    assert "pip install -U 'inception-jax[cuda]'" in str(error.value)
    assert "pip install -U 'jax[cuda12]'" in str(error.value)
    handlers = logging.getLogger("jax._src.xla_bridge").handlers
    assert not any(isinstance(one, compiled_step._ErrorRecorder) for one in handlers)


@pytest.mark.parametrize(
    ("statement", "error", "message"),
    [
        ("print('F0000 a.cc:5] Check failed: x <= 16', file=sys.stderr); os.abort()", ConfigError,
         r"for v5e:32x32: it was ended by SIGABRT \(Check failed: x <= 16\); there are v2:"),
        ("os.kill(os.getpid(), 11)", ConfigError,
         r"cannot compile for v5e:32x32: it was ended by SIGSEGV; there are v2:"),
        ("os.kill(os.getpid(), 9)", RuntimeError, r"killed, probably because .* out of memory"),
        ("raise KeyError('mine')", RuntimeError, r"KeyError: 'mine'"),
        ("print('{\"error\": \"not so\", \"exit_code\": 65}')", CompileProcessError, "not so"),
    ],
)  # fmt: skip
def test_a_subprocess_that_fails_raises_an_error_with_its_cause(
    statement, error, message, tmp_path, monkeypatch
):
    (tmp_path / "failing.py").write_text(f"import os, sys\nsys.stdin.read()\n{statement}\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(compile_process, "find_spec", lambda name: True)
    with pytest.raises(error, match=message):
        compile_process.run_in_subprocess("failing", {"topology": "v5e:32x32"})


def test_settings_for_local_devices_do_not_reach_compilation_for_other_topologies(
    tmp_path, monkeypatch
):
    (tmp_path / "print_environment.py").write_text(
        "import json, os, sys\nprint('noise', file=sys.stderr); print('more')\n"
        "print(json.dumps(dict(os.environ)))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(compile_process, "find_spec", lambda name: True)
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=8")
    monkeypatch.setenv("JAX_PLATFORMS", "tpu")
    monkeypatch.setenv("JAX_PROCESS_ID", "3")
    names = ("XLA_FLAGS", "JAX_PLATFORMS", "JAX_PROCESS_ID")
    for topology, expected in (
        ("v5e:2x2", (None, "cpu", None)),
        (None, (os.environ["XLA_FLAGS"], "tpu", "3")),
    ):
        answer = compile_process.run_in_subprocess("print_environment", {"topology": topology})
        assert tuple(answer.get(name) for name in names) == expected


def test_only_the_part_of_a_gpus_memory_reaches_compilation_for_gpus(tmp_path, monkeypatch):
    (tmp_path / "print_variables.py").write_text(
        "import json, os, sys\nprint(json.dumps(dict(os.environ)))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(compile_process, "find_spec", lambda name: True)
    monkeypatch.setenv("XLA_FLAGS", "--xla_gpu_autotune_level=4 --xla_dump_to=/nowhere")
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    monkeypatch.setenv("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.5")
    monkeypatch.setenv("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    answer = compile_process.run_in_subprocess("print_variables", {"topology": "h100:8"})
    found = {name: value for name, value in answer.items() if name.startswith(("XLA_", "TPU_"))}
    assert found == {
        "XLA_FLAGS": "--xla_gpu_autotune_level=0", "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.5",
    }  # fmt: skip
    assert (answer["JAX_PLATFORMS"], answer["JAX_ENABLE_COMPILATION_CACHE"]) == ("cpu", "false")


@pytest.mark.parametrize(
    ("variable", "value", "fraction"),
    [
        (None, "", 0.75),
        ("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.9", 0.9),
        ("XLA_CLIENT_MEM_FRACTION", ".5", 0.5),
        ("XLA_PYTHON_CLIENT_MEM_FRACTION", "most", None),
        ("XLA_PYTHON_CLIENT_MEM_FRACTION", "0", None),
        ("XLA_PYTHON_CLIENT_MEM_FRACTION", "nan", None),
    ],
)
def test_the_memory_of_a_gpu_is_limited_to_the_part_that_jax_takes(
    variable, value, fraction, monkeypatch
):
    for name in compile_process.MEMORY_FRACTION_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    if variable:
        monkeypatch.setenv(variable, value)
    device = SimpleNamespace(device_kind="NVIDIA H100 80GB HBM3", platform="gpu")
    placement = SimpleNamespace(mesh=SimpleNamespace(devices=SimpleNamespace(flat=[device])))
    arguments = placement, parse_topology("h100:8")
    if fraction is None:
        with pytest.raises(ConfigError, match=f"{variable} is '{value}': set it to a positive"):
            compiled_step._get_memory_limit(*arguments)
    else:
        limit = compiled_step._get_memory_limit(*arguments)
        assert limit == int(CHIPS["h100"].hbm_bytes * fraction)


def test_the_limit_of_a_gpu_of_this_machine_is_what_it_reports():
    device = SimpleNamespace(
        device_kind="NVIDIA H100 80GB HBM3", platform="gpu",
        memory_stats=lambda: {"bytes_limit": 123},
    )  # fmt: skip
    placement = SimpleNamespace(mesh=SimpleNamespace(devices=SimpleNamespace(flat=[device])))
    assert compiled_step._get_memory_limit(placement, None) == 123


def test_rates_are_published_for_tpus_in_bfloat16_and_measured_for_gpus(monkeypatch):
    monkeypatch.setattr(speed, "_measure_seconds", lambda *_: 1.0)
    monkeypatch.setattr(speed.jax, "device_put", lambda x, _: x[:8])
    for kind, platform, source in (
        ("TPU v5 lite", "cpu", "published"),
        ("NVIDIA H100 80GB HBM3", "cpu", "measured here"),
    ):
        device = SimpleNamespace(device_kind=kind, platform=platform)
        assert speed.get_device_rates(device, "bfloat16").source == source


def test_operations_of_a_table_are_those_of_one_device_and_include_trained_heads():
    """A multiply-add is two operations, and training takes three passes."""
    run = Run(small(), all_devices_placement())
    images = run.config.batch_size // run.placement.devices
    assert compiled_step._count_table_flops(run) == 6 * images * run.measurement.multiply_adds
    config = load_recipe("inception_v3").config
    whole = with_placeholder_data(Run(config, all_devices_placement()))
    heads = sum(row.multiply_adds or 0 for row in whole.measurement.aux_rows)
    assert heads > 0
    images = config.batch_size // whole.placement.devices
    own = 6 * images * whole.measurement.multiply_adds
    assert compiled_step._count_table_flops(whole) == own + 6 * images * heads
    without = replace(whole, config=replace(config, model=replace(config.model, aux=False)))
    assert compiled_step._count_table_flops(without) == own


def test_facts_name_the_platform_and_the_versions_of_all_compilers(monkeypatch):
    monkeypatch.setattr(compiled_step, "get_version", lambda name: f"1 of {name}")
    facts = collect_facts(Run(small(), all_devices_placement()), None)
    assert (facts["platform"], facts["memory_fraction"]) == ("cpu", None)
    assert facts["versions"]["jax-cuda13-plugin"] == "1 of jax-cuda13-plugin"
    assert {"kernels", "bytes_by_kind", "launch_seconds", "between_hosts"} <= set(COMPILED_FIELDS)


@pytest.mark.slow
def test_plan_prints_the_facts_of_a_run_without_compiling(command):
    done = command("plan", "digits", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    answer = json.loads(done.stdout)
    assert (answer["steps"], answer["batch_size"], answer["topology"]) == (631, 64, "local")
    assert "fits" not in answer


BATCH = ("plan", *LINE, "--batch-size", "64")


@pytest.mark.slow
def test_plan_reports_memory_and_all_reduces_of_the_training_step_on_eight_devices(process):
    done = process(*BATCH, "--norm.examples-per-group", "8", "--compile", "--json", **EIGHT_DEVICES)
    assert (done.returncode, done.stderr) == (0, "")
    answer = json.loads(done.stdout)
    assert answer.keys() >= REQUIRED_KEYS
    for key in ("devices", "chips", "images_per_chip", "groups"):
        assert answer[key] == 8, key
    assert (answer["devices_per_group"], answer["topology"]) == (1, "local")
    assert (answer["fits"], answer["measured"]) == (True, False)
    assert answer["memory_bytes"] > answer["state_bytes"] > 3 * answer["gradient_bytes"]
    assert set(answer["all_reduce_dtypes"]) >= {"float32"}
    # The statistics of a small network add to the gradients.
    assert 1 <= answer["all_reduce_bytes"] / answer["gradient_bytes"] <= 1.2
    host_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert answer["memory_limit_bytes"] * 8 < 1.01 * host_bytes
    # The peaks of a CPU are not published.
    assert (answer["bound"], answer["roofline_seconds"]) == (None, None)


@pytest.mark.nightly
def test_plan_reports_that_statistics_of_the_whole_batch_span_eight_devices(process):
    done = process(*BATCH, "--norm.examples-per-group", "0", "--compile", **EIGHT_DEVICES)
    assert (done.returncode, done.stderr) == (0, "")
    assert "statistics of 1 group of 64 in each of 8 layers, each over 8 devices" in done.stdout
    assert "an upper bound" not in done.stdout


@pytest.mark.nightly
def test_plan_counts_half_the_state_for_each_device_with_two_parameter_shards(process):
    line = (*BATCH, "--norm.examples-per-group", "8", "--compile", "--json", "--parameter-shards")
    answer, sharded = (
        json.loads(process(*line, shards, **EIGHT_DEVICES).stdout) for shards in ("1", "2")
    )
    assert (sharded["parameter_shards"], sharded["gradient_bytes"]) == (2, answer["gradient_bytes"])
    assert sharded["state_bytes"] <= 0.51 * answer["state_bytes"]
    # Each kernel is gathered once, and no activations.
    assert sharded["all_gather_bytes"] <= sharded["gradient_bytes"]


def test_plan_refuses_a_batch_that_norm_groups_do_not_divide_before_compiling(command):
    done = command("plan", *LINE, "--batch-size", "60", "--compile")
    assert (done.returncode, done.stdout) == (78, "")
    assert "batch_size 60 is not a multiple of norm.examples_per_group 8" in done.stderr


TWO_SLICES = (
    "--topology", "v5e:2x2", "--slices", "2",
    "--batch-size", "64", "--norm.examples-per-group", "8",
)  # fmt: skip


@pytest.mark.nightly
class TestForTPUs:
    """Ahead-of-time compilation; needs libtpu."""

    @pytest.fixture(autouse=True)
    def _libtpu(self):
        pytest.importorskip("libtpu")

    @pytest.fixture
    def answer(self, process):
        def plan(*arguments):
            done = process("plan", *LINE, *arguments, "--json")
            assert done.returncode == 0, done.stderr
            assert "--fit" in arguments or not done.stderr
            return json.loads(done.stdout)

        return plan

    def test_plan_compiles_for_a_tpu_pod_and_reports_memory_and_collectives(self, answer):
        pod = answer(
            "--topology", "v5e:16x16", "--batch-size", "2048", "--norm.examples-per-group", "8"
        )
        assert pod.keys() >= REQUIRED_KEYS
        assert (pod["chips"], pod["images_per_chip"], pod["groups"]) == (256, 8, 256)
        assert (pod["devices_per_group"], pod["fits"]) == (1, True)
        assert 1 <= pod["all_reduces"] <= 8
        assert set(pod["all_reduce_dtypes"]) <= {"float32", "int32", "bool"}
        assert pod["gradient_bytes"] <= pod["all_reduce_bytes"] <= 1.2 * pod["gradient_bytes"]
        assert pod["memory_limit_bytes"] == 16 * 2**30
        assert pod["bound"] in ("mxu", "hbm", "ici")
        assert pod["images_per_second_upper_bound"] == pytest.approx(2048 / pod["roofline_seconds"])
        assert "nothing was run or measured" in pod["note"]
        alone = answer(
            "--topology", "v5e:1x1", "--batch-size", "8", "--norm.examples-per-group", "8"
        )
        assert (alone["chips"], alone["all_reduces"]) == (1, 0)
        assert pod["flops_per_chip"] <= 1.05 * alone["flops_per_chip"]
        line = ("--topology", "v5e:2x2", "--batch-size", "30", "--norm.examples-per-group", "0")
        whole = answer(*line)
        assert (whole["requested_batch_size"], whole["batch_size"]) == (30, 32)
        assert whole["images_per_chip"] == 8
        # Both moments are summed in one all-reduce.
        assert whole["norm_layers"] <= whole["all_reduces"] <= 2 * whole["norm_layers"]
        plain = answer(*line, "--model.rewrites", "project_before_pool")
        assert plain["all_reduces"] > 2 * plain["norm_layers"]

    def test_plan_counts_the_traffic_between_two_slices(self, answer):
        two = answer(*TWO_SLICES)
        assert (two["chips"], two["slices"], two["images_per_chip"]) == (8, 2, 8)
        assert 1 <= two["between_slices"] <= 8
        assert two["between_slices_bytes"] >= two["gradient_bytes"]

    def test_plan_shards_the_state_within_a_slice(self, answer, process):
        line = (*TWO_SLICES, "--parameter-shards")
        sharded = answer(*line, "2")
        assert (sharded["parameter_shards"], sharded["slices"]) == (2, 2)
        # Four times without shards: parameters, two moments, their average.
        assert sharded["state_bytes"] < 2.2 * sharded["gradient_bytes"]
        assert sharded["all_gathers"] > 8
        refused = process("plan", *LINE, *line, "8")
        assert (refused.returncode, refused.stdout) == (78, "")
        assert (
            "parameter_shards 8 do not divide 8 devices in 2 slices: take a divisor of 4"
            in refused.stderr
        )

    @pytest.mark.parametrize(
        ("topology", "chips", "devices"), [("v4:2x2x1", 4, 4), ("v3:2x2", 4, 8)]
    )
    def test_plan_distinguishes_chips_from_devices_on_tpus_with_two_cores(
        self, answer, topology, chips, devices
    ):
        about = answer(
            "--topology", topology, "--batch-size", "64", "--norm.examples-per-group", "8"
        )
        assert (about["chips"], about["devices"], about["images_per_chip"]) == (chips, devices, 16)

    def test_plan_with_fit_finds_the_largest_batch_that_fits(self, answer):
        line = ("--topology", "v5e:1x1", "--data.image-size", "600", "--fit")
        best = answer(*line, "--norm.examples-per-group", "0")
        assert best["fits"]
        assert best["memory_bytes"] <= 16 * 2**30
        too_large = [tried["images_per_device"] for tried in best["tried"] if not tried["fits"]]
        assert min(too_large, default=4104) == best["images_per_chip"] + 8

    def test_plan_refuses_a_topology_that_crashes_libtpu(self, process):
        line = ("--topology", "v5e:32x32", "--batch-size", "1024")
        done = process("plan", *LINE, *line, "--norm.examples-per-group", "0")
        assert (done.returncode, done.stdout, "Traceback" in done.stderr) == (78, "", False)
        assert "v5e:32x32" in done.stderr
        assert "there are v2:2x2" in done.stderr


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, True),
        ({"all_gather_bytes": 4_608}, False),  # sums of eight norms, and no images
        ({"examples_per_group": 256}, False),  # one group of the whole batch
        ({"devices_per_group": 1}, False),
        ({"parameter_shards": 2}, False),  # parameters are gathered
    ],
)
def test_a_plan_tells_gathered_images_from_gathered_sums(changes, expected):
    answer = {
        "devices": 8, "devices_per_group": 2, "parameter_shards": 1, "batch_size": 256,
        "examples_per_group": 48, "all_gather_bytes": 2**20,
    }  # fmt: skip
    assert compiled_step._gathers_images({**answer, **changes}, statistics=576) is expected


@pytest.mark.nightly
class TestForGPUs:
    """Ahead-of-time compilation; needs JAX's CUDA plugin and no GPU."""

    @pytest.fixture(autouse=True)
    def _plugin(self):
        if not has_cuda_plugin():
            pytest.skip("not installed: JAX's CUDA plugin, which compiles for GPUs")

    @pytest.fixture
    def plan(self, process):
        def run(*arguments):
            line = ("--batch-size", "64", "--norm.examples-per-group", "4", *arguments)
            done = process("plan", *LINE, *line)
            assert (done.returncode, done.stderr) == (0, "")
            return done.stdout

        return run

    def test_plan_compiles_for_one_host_and_for_two_and_counts_what_crosses(self, plan):
        one, two = (
            json.loads(plan("--topology", name, "--json")) for name in ("h100:8", "h100:2x8")
        )
        for answer, devices, number in ((one, 8, 0), (two, 16, two["all_reduces"])):
            assert answer.keys() >= REQUIRED_KEYS | set(COMPILED_FIELDS)
            assert (answer["platform"], answer["devices"]) == ("gpu", devices)
            assert (answer["chips"], answer["images_per_chip"]) == (devices, 64 // devices)
            assert (answer["fits"], answer["slices"], answer["measured"]) == (True, 1, False)
            assert answer["memory_limit_bytes"] == int(0.75 * CHIPS["h100"].hbm_bytes)
            # Gradients are summed in float32, and nothing else is large.
            assert set(answer["all_reduce_dtypes"]) <= {"float32", "int32", "bool"}
            assert answer["all_reduces"] >= 1
            assert 1 <= answer["all_reduce_bytes"] / answer["gradient_bytes"] <= 1.2
            assert (answer["between_hosts"], answer["devices_per_group"]) == (number, 1)
            assert answer["bytes_per_chip"] == sum(answer["bytes_by_kind"].values())
            assert answer["bytes_per_chip"] <= answer["bytes_counted"]
            assert answer["kernels"] == sum(answer["kernels_by_kind"].values())
            assert answer["launch_seconds"] == pytest.approx(2.5e-6 * answer["kernels"])
            assert answer["bytes_by_kind"]["kernel_gradient"] > 0
            assert "jax-cuda" in " ".join(answer["versions"])
            assert "cuDNN's workspaces" in answer["note"]
        assert "between_hosts" not in one["roofline"]
        assert two["roofline"]["between_hosts"] > 0
        assert two["between_hosts_bytes"] == two["all_reduce_bytes"]
        assert one["flops_per_chip"] == 2 * two["flops_per_chip"]

    def test_plan_rounds_the_batch_up_for_three_gpus_and_prints_what_they_need(self, plan):
        text = plan("--topology", "h100:3")
        assert "batch_size 64 cannot be split over 3 devices: planned is 72" in text
        assert "compiled for h100:3, 3 x NVIDIA H100 80GB HBM3" in text
        assert "(the 75% of its memory that JAX takes): it fits" in text

    def test_a_step_in_bfloat16_has_no_slow_form_and_sums_gradients_in_float32(self):
        """No convolution reads float32, and the one scatter is that of the loss, not of a pool."""
        line = ["--one", "bn_inception_small", "rewritten", "--images", "8", "--devices", "8"]
        done = subprocess.run(
            [sys.executable, ROOT / "benchmarks" / "plan_gpu.py", *line],
            cwd=ROOT, env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        found = json.loads(done.stdout.splitlines()[-1])
        assert found["float32_convolutions"] == []
        assert [name for name in found["scatters"] if "take_along_axis" not in name] == []
        assert found["all_reduce_bytes_by_dtype"].keys() == {"float32"}
