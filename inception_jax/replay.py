"""A training step made again, layer by layer, to find where its numbers stop being finite."""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np
from etils import epath

from inception_jax.data import order
from inception_jax.errors import ExitCode, UserError
from inception_jax.experiment import Run
from inception_jax.files import json_text, put
from inception_jax.leaves import leaves
from inception_jax.training.state import State


class DivergedError(UserError, ArithmeticError):
    """The loss or the gradient is no longer finite; running on, or again, will not help."""

    exit_code = ExitCode.NOT_FINITE
    together = True
    """All processes of a run meet it at the same step."""


class Seen(NamedTuple):
    """An array of a step.

    Attributes:
      what: `parameter`, `input`, `output` or `gradient`.
      layer: whose; the loss is `loss`.
      finite: the fraction of its numbers that are.
      largest: magnitude among those.
    """

    what: str
    layer: str
    finite: float
    largest: float


class Replay(NamedTuple):
    """What a step went through: parameters, then inputs and outputs of layers in the order in which they are computed, the loss, and
    gradients from the last layer to the first."""

    step: int
    seen: list[Seen]

    @property
    def broken(self) -> Seen | None:
        """The first that is not finite."""
        return next((one for one in self.seen if one.finite < 1), None)


def replay(run: Run, state: State) -> Replay:
    """The step that follows `state`, made without compiling it, every layer looked at."""
    step = int(state.step) + 1
    (batch,) = run.train_batches(step - 1, step)
    found = [looked_at("parameter", name.replace(".", "/"), leaf) for name, leaf in leaves(state.params)]
    places: dict[int, Seen] = {}  # of what runs through the network; callbacks may come in another order than they were asked for

    def look(what: str, layer: str, tree: Any) -> None:
        for leaf in filter(lambda leaf: isinstance(leaf, jax.Array), jax.tree.leaves(tree)):
            place = len(places)
            places[place] = Seen(what, layer, 1.0, 0.0)
            # Under differentiation there are only tracers here: the numbers come to a callback.
            jax.debug.callback(lambda x, place=place: places.__setitem__(place, looked_at(what, layer, x)), leaf)

    def watch(call: Any, arguments: Any, keywords: Any, context: Any) -> Any:
        layer = "/".join(context.module.path) or run.config.model.name
        look("input", layer, [x for x in arguments if isinstance(x, jax.Array | tuple)])
        outputs = call(*arguments, **keywords)
        look("output", layer, outputs)
        return outputs

    with nn.intercept_methods(watch):
        (loss, _), gradient = run.gradient(state, batch)
    jax.effects_barrier()
    found += [*places.values(), looked_at("output", "loss", loss)]
    place_of = {one.layer: place for place, one in places.items()}
    gradients = [looked_at("gradient", name.replace(".", "/"), leaf) for name, leaf in leaves(gradient)]
    return Replay(step, found + sorted(gradients, key=lambda one: -place_of.get(one.layer.rpartition("/")[0], 0)))


def looked_at(what: str, layer: str, array: Any) -> Seen:
    array = np.asarray(array, np.float64)
    finite = np.isfinite(array)
    return Seen(what, layer, float(finite.mean()), float(np.abs(array[finite]).max(initial=0.0)))


def suspect(run: Run, step: int, workdir: epath.Path, *, in_a_row: int = 1) -> str:
    """Writes into `diverged.json` what `step` was made of, and says what can be done.

    Its `examples` are the ids of the batch in order, its `positions` those in the stream: an example is augmented under the key
    that `seed` and its position give.
    """
    size, config = run.config.batch_size, run.config
    positions = np.arange((step - 1) * size, step * size)
    examples = order.shuffled(len(run.train_source), config.seed, config.data.shuffle_block)(positions)
    if run.placement.leads:
        record = {"step": step, "seed": config.seed, "positions": positions.tolist(), "examples": examples.tolist()}
        put(workdir / "diverged.json", json_text(record) + "\n")
    many = f", the last of {in_a_row} such steps in a row (max_consecutive_skipped)" if in_a_row > 1 else ""
    remedy = ", or let such steps be left out: --on-not-finite skip_and_count" if config.on_not_finite == "stop" else ""
    return (
        f"the loss or gradient of step {step} was NaN or infinite{many}; its examples are in {workdir / 'diverged.json'}. "
        f"`inception-jax replay {workdir} {step}` finds the layer. Lower optimizer.learning_rate ({config.optimizer.learning_rate}), set "
        f"optimizer.clip_norm{remedy}"
    )
