"""A hundred runs, each killed at a random moment and started again: `python benchmarks/faults.py [FOLDER] [--runs 100]`.

Each is a real training process of the digits recipe with a network of three modules (`tests/faults/runs.py`), killed with SIGKILL as
often as the moment that was drawn lies before its end, then run to its end, and held against the undisturbed run: parameters,
statistics, optimizer state and the figures of training and evaluation, bit for bit. A second start of this line goes on where the
first was ended. Writes `benchmarks/results/faults.json`.
"""

import argparse
import json
import random
import shutil
import time
from collections import Counter
from pathlib import Path

from machine import publish

import tests.three  # noqa: F401
from inception_jax.logbook import tracked
from inception_jax.parting import parting
from tests.faults.runs import completed, killed_at


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=Path("runs/faults"))
    parser.add_argument("--runs", type=int, default=100)
    options = parser.parse_args()
    folder = options.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "seconds.json").exists():
        shutil.rmtree(folder / "undisturbed", ignore_errors=True)
        completed(folder, "warm")  # fills the compilation cache
        began = time.monotonic()
        completed(folder, "undisturbed")
        (folder / "seconds.json").write_text(json.dumps(time.monotonic() - began))
    seconds = json.loads((folder / "seconds.json").read_text())
    results = folder / "results.jsonl"
    done = results.read_text().splitlines() if results.exists() else []
    for number in tracked(range(len(done), options.runs), "runs"):
        shutil.rmtree(folder / f"run-{number}", ignore_errors=True)
        moments = random.Random(number)
        kills = 0
        while killed_at(folder, f"run-{number}", moment := moments.uniform(0, 1.2 * seconds)):
            kills += 1
            if kills == 3:
                break
        completed(folder, f"run-{number}")
        damaged = any((folder / f"run-{number}" / "checkpoints").glob("*.damaged"))
        found = parting(str(folder / "undisturbed"), str(folder / f"run-{number}"))
        same = found.step is None and 126 in found.checkpoints
        record = {"run": number, "kills": kills, "last_moment": round(moment, 2), "same": same, "damaged": damaged}
        with results.open("a") as file:
            file.write(json.dumps(record | {"what": found.lines() if found.step is not None else []}) + "\n")
        if found.step is None:
            shutil.rmtree(folder / f"run-{number}")
    records = [json.loads(line) for line in results.read_text().splitlines()]
    publish(
        "faults",
        {
            "runs": len(records),
            "the_same_bits": sum(record["same"] for record in records),
            "checkpoints_that_failed_to_load": sum(record["damaged"] for record in records),
            "kills": dict(sorted(Counter(record["kills"] for record in records).items())),
            "seconds_undisturbed": round(seconds, 1),
        },
    )


if __name__ == "__main__":
    main()
