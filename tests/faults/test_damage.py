"""Checkpoints whose files were changed, and disks that take no more: nothing is used that is not
whole, nothing whole is lost.
"""

import os
import re
import resource
import shutil
import subprocess
import sys
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.random_variables import abstract
from benchmarks.runs import RECIPE, ROOT, completed
from inception_jax.atomic_io import StorageError
from inception_jax.checkpointing.checkpoints import CheckpointMetadata, Checkpoints
from inception_jax.debugging.compare_runs import compare_runs
from tests.faults.disturbances import flip_bit
from tests.tiers import sweep


def state(value):
    return {"params": {"kernel": jnp.full((64, 64), float(value))}, "step": jnp.int32(value)}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved") / "checkpoints"
    checkpoints = Checkpoints(folder, keep=2)
    for step in (1, 2):
        checkpoints.save(
            step,
            state(step),
            metadata=CheckpointMetadata({"loss": 0.1 * step, "objective": 0.1 * step}),
        )
    checkpoints.close()
    return folder


def truncated(file):
    file.write_bytes(file.read_bytes()[:-1])


def appended(file):
    file.write_bytes(file.read_bytes() + b"\0")


def deleted(file):
    file.unlink()


HARMS = (truncated, flip_bit, appended, deleted)


@pytest.mark.parametrize("every", sweep([False, True], [False]))
def test_damage_to_any_checkpoint_file_is_noticed_and_the_previous_checkpoint_is_used(
    every, saved, tmp_path
):
    """Every harm to the largest file and to the manifest, and one to each other; or every harm to
    every file.
    """
    files = [
        file.relative_to(saved) for file in sorted(saved.glob("2*/**/*")) if file.is_file()
    ] + ["2.sha256.json"]
    assert len(files) > 8
    always = {max(files, key=lambda name: (saved / name).stat().st_size), files[-1]}
    for number, (name, harm) in enumerate(product(files, HARMS)):
        if not every and name not in always and (number // 4 + number) % 4:
            continue
        if (saved / name).stat().st_size == 0 and harm in (truncated, flip_bit):
            continue
        folder = tmp_path / "copy"
        shutil.copytree(saved, folder)
        harm(folder / name)
        told = []
        checkpoints = Checkpoints(folder, keep=2)
        assert checkpoints.latest_intact_step(told.append) == 1, (harm.__name__, name)
        assert "checkpoint 2 in" in told[0]
        found = checkpoints.restore(1, abstract(state(0)))
        np.testing.assert_array_equal(found["params"]["kernel"], 1)
        checkpoints.save(2, state(22))
        checkpoints.close()
        assert (
            float(
                Checkpoints(folder, keep=2).restore(2, abstract(state(0)))["params"]["kernel"][0, 0]
            )
            == 22
        )
        if not (harm is deleted and name == "2.sha256.json"):  # that one was never finished
            assert (folder / "2.damaged").is_dir()
        shutil.rmtree(folder)


@pytest.mark.slow
def test_a_full_disk_leaves_the_last_good_checkpoint_intact(tmp_path):
    """The limit on the size of a file stands for a full disk: the write fails in the operating
    system.
    """
    small, large = (
        {"kernel": jnp.ones((10, 10))},
        {"kernel": jax.random.normal(jax.random.key(0), (1000, 1000))},
    )
    checkpoints = Checkpoints(tmp_path, keep=2)
    checkpoints.save(1, small)
    checkpoints.close()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    checkpoints = Checkpoints(tmp_path, keep=2)
    try:
        with pytest.raises(StorageError, match="checkpoint 2 was not written to"):  # noqa: PT012
            checkpoints.save(2, large)
            checkpoints.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert Checkpoints(tmp_path, keep=2).latest_intact_step(lambda text: None) == 1


DISK = """
mount -t tmpfs -o size=2m tmpfs disk
"$@" --workdir disk/run > said 2>&1 &
while [ ! -e disk/run/checkpoints/21.sha256.json ]; do sleep 0.05; done
{harm}
wait $!
echo $? > code
{remedy}
"$@" --workdir disk/run > said_then 2>&1
cp -r disk/run run
"""
FULL, EMPTIED = "dd if=/dev/zero of=disk/filler bs=4k 2> /dev/null", "rm disk/filler"
AGAIN = '"$@" --workdir disk/run > said 2>&1 &'
LOCKED, UNLOCKED = (
    f"kill -9 $!; wait $!; mount -o remount,ro disk; {AGAIN}",
    "mount -o remount,rw disk",
)


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("harm", "remedy", "cause"),
    [(FULL, EMPTIED, "No space left on device"), (LOCKED, UNLOCKED, "Read-only file system")],
    ids=["full", "read-only"],
)
def test_a_run_stops_on_a_full_or_read_only_disk_and_resumes_when_it_is_writable(
    tmp_path, harm, remedy, cause
):
    """A small tmpfs in a mount namespace of its own, which Linux lets a user have."""
    completed(tmp_path, "undisturbed")
    (tmp_path / "disk").mkdir()
    within = [
        "unshare",
        "--user",
        "--map-root-user",
        "--mount",
        "bash",
        "-c",
        DISK.format(harm=harm, remedy=remedy),
        "bash",
    ]
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    subprocess.run(
        [*within, sys.executable, str(ROOT / "train.py"), *RECIPE], cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": paths}, check=True, timeout=600,
    )  # fmt: skip
    said = (tmp_path / "said").read_text()
    assert (tmp_path / "code").read_text() == "74\n", said
    assert cause in said.splitlines()[-1]
    assert "Traceback" not in said
    assert re.search("going on from step (21|42|63) of 126", (tmp_path / "said_then").read_text())
    found = compare_runs(str(tmp_path / "undisturbed"), str(tmp_path / "run"))
    assert (found.step, found.checkpoints[-1]) == (None, 126), found.format_lines()


FLIPPED = """
mount -t tmpfs -o size=8m tmpfs run/checkpoints
"$@" --workdir run > said 2>&1 &
while [ ! -e run/checkpoints/21.sha256.json ]; do sleep 0.02; done
mount -o remount,ro run/checkpoints
while ! grep -q 'inception-jax: ' said; do sleep 0.02; done
told=$(date +%s.%N)
wait $!
echo $? $told $(date +%s.%N) > ended
"""


@pytest.mark.nightly
def test_a_run_ends_soon_after_a_save_fails_on_storage_that_turned_read_only(tmp_path):
    """In mid run, while files are open: Orbax's threads try again for five minutes, and the
    process does not wait for them.
    """
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    within = ["unshare", "--user", "--map-root-user", "--mount", "bash", "-c", FLIPPED, "bash"]
    subprocess.run(
        [*within, sys.executable, str(ROOT / "train.py"), *RECIPE, "--epochs", "30"], cwd=tmp_path,
        check=True, timeout=400, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    code, told, ended = (tmp_path / "ended").read_text().split()
    said = (tmp_path / "said").read_text()
    assert code == "74", said
    assert "Read-only file system" in said
    assert float(ended) - float(told) < 10
