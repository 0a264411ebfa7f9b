"""`inception-jax replay`: a step of a run again, layer by layer."""

import sys
from typing import TYPE_CHECKING

from inception_jax.atomic_io import format_json
from inception_jax.commands.cli_utils import new_parser, parse_positive
from inception_jax.compilation_cache import use_compilation_cache
from inception_jax.config import ConfigError

if TYPE_CHECKING:
    from inception_jax.debugging.replay import StepReplay
    from inception_jax.trainer.runs import OpenedRun


def replay(arguments: list[str]) -> None:
    """Repeat a step of a run without compiling it, and name the first layer that is not finite.

    WORKDIR STEP [--json]
    """
    parser = new_parser("replay", replay.__doc__)
    parser.add_argument("workdir", help="of the run")
    parser.add_argument(
        "step",
        type=parse_positive,
        help="of the run; it is reached from the newest checkpoint before it",
    )
    parser.add_argument(
        "--json", action="store_true", help="one object, with what was seen of every layer"
    )
    options = parser.parse_args(arguments)
    from inception_jax.debugging.replay import replay_step as made_again
    from inception_jax.monitoring.progress import show_progress

    run, state = load_state_before(options.workdir, options.step)[1:]
    for line in run.data_changes(train=True):
        print(
            f"the data changed since the run was begun, and the step is another: {line}",
            file=sys.stderr,
        )
    missing = range(int(state.step), options.step - 1)
    batches = run.train_batches(missing.start, missing.stop)
    shown = missing if options.json else show_progress(missing, f"steps to {options.step - 1}")
    state = run.placement.arrange_state(state)
    with use_compilation_cache():
        for _ in shown:
            state, _ = run.train_step(state, next(batches))
        found = made_again(run, state)
    if options.json:
        record = {
            "step": found.step,
            "broken": found.first_not_finite and found.first_not_finite._asdict(),
            "seen": [one._asdict() for one in found.arrays],
        }
        print(format_json(record))
    else:
        print(format_replay(found))


def load_state_before(path: str, step: int) -> "OpenedRun":
    """Returns a run, and its newest state before `step`.

    Raises:
      ConfigError: There is no run, or it has no such step.
    """
    from inception_jax.checkpointing.workdir import make_absolute
    from inception_jax.commands.train import make_state_loader
    from inception_jax.trainer.runs import OpenedRun, list_saved_steps, load_run, open_run

    if older := [one for one in list_saved_steps(path) if one < step]:
        opening = open_run(f"{path}@{older[-1]}", with_optimizer=True)
    else:
        run = load_run(make_absolute(path))
        source = run.config.init_from
        opening = OpenedRun(
            make_absolute(path),
            run,
            (make_state_loader(source, run)[0] if source else run.initial_state)(),
        )
    if step > opening.run.steps:
        raise ConfigError(f"{path} has no step {step}: it ends at {opening.run.steps}")
    return opening


def format_replay(found: "StepReplay") -> str:
    """Returns a replayed step as lines of text."""
    if (broken := found.first_not_finite) is None:
        outputs = [one for one in found.arrays if one.what == "output"]
        largest = max(outputs, key=lambda one: one.largest)
        return (
            f"step {found.step} is finite in all of its {len(outputs)} outputs and in every "
            f"gradient; the largest output is {largest.largest:.4g}, of {largest.layer}"
        )
    place = found.arrays.index(broken)
    lines = [
        f"step {found.step}: the first that is not finite is the {broken.what} of {broken.layer} "
        f"({1 - broken.finite:.2%} of it)"
    ]
    lines += [
        f"  before it, the {one.what} of {one.layer} reached {one.largest:.4g}"
        for one in found.arrays[max(0, place - 5) : place]
    ]
    return "\n".join(lines)
