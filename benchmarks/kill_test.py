"""A hundred runs, each killed at random moments and started again.

    python benchmarks/kill_test.py [FOLDER] [--runs 100]

Each is a real training process of the digits recipe with a network of one module
(`benchmarks/runs.py`), killed with SIGKILL at moments drawn between its start and 1.5 times the
length of an undisturbed run that is alone: once at least, and up to three times, for as long as it
is not done before the moment. Then it is run to its end, and held against the undisturbed run:
parameters, statistics, optimizer state and the figures of training and evaluation, bit for bit. As
many runs at once as there are cores. A second start of this line goes on where the first was ended.

Writes `benchmarks/results/kill_test.json`.
"""

import json
import os
import random
import shutil
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import benchmarks.registered  # noqa: F401
from benchmarks.machine import make_parser, publish
from benchmarks.runs import completed, killed_at
from inception_jax.debugging.compare_runs import compare_runs
from inception_jax.monitoring.progress import show_progress

MOST_KILLS = 3
ONE_AT_A_TIME = threading.Lock()
LAST = 126
"""The last step of the recipe."""


def phase(said: str) -> str:
    """Returns the phase in which a process was killed, from its output."""
    if "compiling the training step" not in said:
        return "start-up"
    if "compiled, and made the first step" not in said:
        return "compile"
    ended = f"step {LAST}/{LAST}" in said or f"going on from step {LAST}" in said
    return "the last evaluation and after" if ended else "steps, evaluations and saves between"


def disturbed(number: int, folder: Path, seconds: float) -> dict[str, Any]:
    """Returns the outcome of one run that is killed and completed."""
    name, moments = f"run-{number}", random.Random(number)
    killed: list[str] = []
    while not killed:
        shutil.rmtree(folder / name, ignore_errors=True)
        while (
            len(killed) < MOST_KILLS
            and (said := killed_at(folder, name, moments.uniform(0, 1.5 * seconds))) is not None
        ):
            killed.append(said)
    record = {"run": number, "phases": [phase(said) for said in killed]}
    try:
        said = completed(folder, name)
    except AssertionError as error:
        return {**record, "same": False, "damaged": False, "what": [str(error)]}
    with ONE_AT_A_TIME:
        found = compare_runs(str(folder / "undisturbed"), str(folder / name))
    same = found.step is None and LAST in found.checkpoints and found.rows > 0
    if same:
        shutil.rmtree(folder / name)
    damaged = any("is damaged" in one for one in (*killed, said))
    return {
        **record,
        "same": same,
        "damaged": damaged,
        "what": [] if same else found.format_lines(),
    }


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=Path("runs/faults"))
    parser.add_argument("--runs", type=int, default=100)
    options = parser.parse_args()
    folder = options.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    results, length = folder / "results.jsonl", folder / "seconds.json"
    if not length.exists():
        for name in ("warm", "undisturbed"):  # the first fills the compilation cache
            shutil.rmtree(folder / name, ignore_errors=True)
            began = time.monotonic()
            completed(folder, name)
        length.write_text(json.dumps(time.monotonic() - began))
    seconds = json.loads(length.read_text())
    records = (
        [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
    )
    left = sorted(set(range(options.runs)) - {record["run"] for record in records})
    with ThreadPoolExecutor(os.cpu_count()) as pool, results.open("a") as file:
        for job in show_progress(
            [pool.submit(disturbed, number, folder, seconds) for number in left], "runs"
        ):
            records.append(job.result())
            file.write(json.dumps(records[-1]) + "\n")
            file.flush()
    publish(
        options.results / "kill_test.json",
        {
            "runs": len(records),
            "the_same_bits": sum(record["same"] for record in records),
            "checkpoints_that_failed_to_load": sum(record["damaged"] for record in records),
            "kills": sum(len(record["phases"]) for record in records),
            "killed_in": dict(Counter(phase for record in records for phase in record["phases"])),
            "seconds_undisturbed": round(seconds, 1),
        },
        ["orbax-checkpoint"],
    )


if __name__ == "__main__":
    main()
