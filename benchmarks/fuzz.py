"""Damaged files of every kind that is read: `python benchmarks/fuzz.py [--cases 1500] [--first 0]`.

Weights, images, records, side files of runs and lists are damaged by number
(`benchmarks/malformed.py`), and read as the commands read them, in a process of its own for each
fifty, so that a library that crashes is seen too. A case is a fault where it ends in a traceback or
a crash, takes more than 60 s or 2 GB, or where damage that the format has a checksum against is
used. Damage that no checksum of the format tells of (a flipped bit in a JPEG's or a foreign file's
values) is counted, as `other`.

Writes `benchmarks/results/fuzz.json`, and ends with 1 where there are faults.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.machine import make_parser, publish
from benchmarks.malformed import LONGEST_SECONDS, MOST_MEGABYTES, case
from inception_jax.monitoring.progress import show_progress

BATCH = 50
FAULTS = ("traceback", "silent", "slow", "crash", "memory")


def read_batch(first: int, stop: int) -> None:
    """Reads cases `first` to `stop` in this process, with a line of JSON before and after each."""
    with tempfile.TemporaryDirectory() as folder:
        for number in range(first, stop):
            print(json.dumps({"began": number}), flush=True)
            outcome = case(number, Path(folder))
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
            print(json.dumps({**outcome._asdict(), "megabytes": peak}), flush=True)


def outcomes(first: int, stop: int) -> list[dict[str, Any]]:
    """Returns the outcomes of cases `first` to `stop`, read in another process.

    A case that ends the process is followed by another one.
    """
    found: list[dict[str, Any]] = []
    while first < stop:
        line, code = [sys.executable, __file__, "--batch", str(first), str(stop)], 0
        try:
            done = subprocess.run(
                line,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                timeout=LONGEST_SECONDS + 300,
            )
            said, code = done.stdout, done.returncode
        except subprocess.TimeoutExpired as error:
            said, code = (error.stdout or b"").decode(), -1
        rows = [json.loads(row) for row in said.splitlines()]
        made = [row for row in rows if "verdict" in row]
        found += [
            row | {"verdict": "memory"} if row["megabytes"] > MOST_MEGABYTES else row
            for row in made
        ]
        first = made[-1]["number"] + 1 if made else first
        if code and first < stop:
            found.append(
                {
                    "number": first,
                    "verdict": "slow" if code == -1 else "crash",
                    "message": f"the process ended with {code}",
                }
            )
            first += 1
        if not rows:
            raise RuntimeError(f"no case could be read: the process ended with {code}")
    return found


def main() -> int:
    parser = make_parser(__doc__)
    parser.add_argument("--cases", type=int, default=1500)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument(
        "--batch", type=int, nargs=2, help="read these here, and print a line for each"
    )
    options = parser.parse_args()
    if options.batch:
        read_batch(*options.batch)
        return 0
    began, found = time.perf_counter(), list[dict[str, Any]]()
    last = options.first + options.cases
    for first in show_progress(range(options.first, last, BATCH), "damaging files"):
        found += outcomes(first, min(first + BATCH, last))
    kinds = {
        kind: dict(Counter(row["verdict"] for row in found if row.get("kind") == kind))
        for kind in sorted({r.get("kind", "") for r in found})
    }
    faults = [row for row in found if row["verdict"] in FAULTS]
    results = {
        "cases": len(found),
        "first": options.first,
        "verdicts": dict(Counter(row["verdict"] for row in found)),
        "kinds": kinds,
        "faults": faults,
        "slowest_seconds": round(max(row.get("seconds", 0.0) for row in found), 2),
        "most_megabytes": max(row.get("megabytes", 0) for row in found),
        "seconds": round(time.perf_counter() - began, 1),
    }
    publish(options.results / "fuzz.json", results, ("h5py", "pillow", "simplejpeg", "safetensors"))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
