"""The training step compiled in a subprocess: for local devices, and for TPUs."""

import json
import os

import pytest

from benchmarks.small_networks import LINE
from inception_jax.config import ConfigError
from inception_jax.plan import compile_process
from inception_jax.plan.compile_process import CompileProcessError
from inception_jax.plan.compiled_step import parse_memory_shortage
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
