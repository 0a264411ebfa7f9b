"""A training step made again, layer by layer, to find where its numbers stop being finite."""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np

from inception_jax.checkpointing.packing import named_arrays
from inception_jax.experiment import Run
from inception_jax.training.state import State


class ArraySummary(NamedTuple):
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


class StepReplay(NamedTuple):
    """What a step went through: parameters, then inputs and outputs of layers in the order in which they are computed, the loss, and
    gradients from the last layer to the first."""

    step: int
    seen: list[ArraySummary]

    @property
    def broken(self) -> ArraySummary | None:
        """The first that is not finite."""
        return next((one for one in self.seen if one.finite < 1), None)


def replay_step(run: Run, state: State) -> StepReplay:
    """The step that follows `state`, made without compiling it, every layer looked at."""
    step = int(state.step) + 1
    (batch,) = run.train_batches(step - 1, step)
    found = [
        summarize_array("parameter", name.replace(".", "/"), leaf)
        for name, leaf in named_arrays(state.params)
    ]
    places: dict[
        int, ArraySummary
    ] = {}  # of what runs through the network; callbacks may come in another order than they were asked for

    def look(what: str, layer: str, tree: Any) -> None:
        for leaf in filter(lambda leaf: isinstance(leaf, jax.Array), jax.tree.leaves(tree)):
            place = len(places)
            places[place] = ArraySummary(what, layer, 1.0, 0.0)
            # Under differentiation there are only tracers here: the numbers come to a callback.
            jax.debug.callback(
                lambda x, place=place: places.__setitem__(place, summarize_array(what, layer, x)),
                leaf,
            )

    def watch(call: Any, arguments: Any, keywords: Any, context: Any) -> Any:
        layer = "/".join(context.module.path) or run.config.model.name
        look("input", layer, [x for x in arguments if isinstance(x, jax.Array | tuple)])
        outputs = call(*arguments, **keywords)
        look("output", layer, outputs)
        return outputs

    with nn.intercept_methods(watch):
        (loss, _), gradient = run.compute_gradients(state, batch)
    jax.effects_barrier()
    found += [*places.values(), summarize_array("output", "loss", loss)]
    place_of = {one.layer: place for place, one in places.items()}
    gradients = [
        summarize_array("gradient", name.replace(".", "/"), leaf)
        for name, leaf in named_arrays(gradient)
    ]
    return StepReplay(
        step,
        found + sorted(gradients, key=lambda one: -place_of.get(one.layer.rpartition("/")[0], 0)),
    )


def summarize_array(what: str, layer: str, array: Any) -> ArraySummary:
    array = np.asarray(array, np.float64)
    finite = np.isfinite(array)
    return ArraySummary(
        what, layer, float(finite.mean()), float(np.abs(array[finite]).max(initial=0.0))
    )
