"""A process of a run that computes nothing: `python -m tests.distributed.member ACTION [FACTS]`.

It prints what it finds, as JSON.
"""

import json
import os
import sys
import time
from pathlib import Path

from inception_jax.config import ConfigError
from inception_jax.data.source import DataError
from inception_jax.distributed import processes
from inception_jax.errors import UserError
from inception_jax.preemption import PreemptionHandler

LISTENING = "0A"


def own_ports(pid: str = "self") -> list[int]:
    """Returns the ports at which a process listens, as `ss -ltnp` reads them from /proc."""
    own = {os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir() if link.is_symlink()}
    rows = [
        line.split()
        for name in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]
    ]
    return sorted(
        {
            int(row[1].rpartition(":")[2], 16)
            for row in rows
            if row[3] == LISTENING and f"socket:[{row[9]}]" in own
        }
    )


def act(action: str, preemption: PreemptionHandler) -> None:
    """Does as it is asked, once all processes have joined."""
    if action == "vanish":
        os._exit(1)
    if action == "bad data":
        raise DataError("an image that cannot be read")
    if action == "bad configuration":
        raise ConfigError("no such field")
    if action == "look":
        for step in range(100_000):
            print(json.dumps({"step": step}), flush=True)
            preemption.raise_if_requested()
            time.sleep(0.01)
    if action == "wait":
        time.sleep(60)


def main(action: str, facts: str = "{}") -> int:
    PreemptionHandler.owns_process = True
    processes.LONG = 300  # so that waits begin again in a test, too
    processes.HEARTBEAT = int(os.environ.get("HEARTBEAT", processes.HEARTBEAT))
    processes.supervise_subprocess()
    try:
        with (
            PreemptionHandler() as preemption,
            processes.join_processes(facts=lambda: json.loads(facts)) as own,
        ):
            assert own
            preemption.coordinate(own.request_stop, own.should_stop)
            found = {
                "number": own.number,
                "count": own.count,
                "ports": own_ports(),
                "parent": own_ports(str(os.getppid())),
            }
            print(json.dumps(found), flush=True)
            act(action, preemption)
    except UserError as error:
        print(f"inception-jax: {error}", file=sys.stderr, flush=True)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
