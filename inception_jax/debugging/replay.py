"""The replay of one training step, layer by layer, to find the first array that is not finite."""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np

from inception_jax.checkpointing.packing import flatten_with_names
from inception_jax.experiment import Run
from inception_jax.training.state import State


class ArraySummary(NamedTuple):
    """The range of one array of a step. The fields are keys of `replay --json`.

    Attributes:
      what: `parameter`, `input`, `output` or `gradient`.
      layer: The path of its layer; `loss` for the loss.
      finite: The fraction of its values that are finite.
      largest: The largest magnitude of its finite values.
    """

    what: str
    layer: str
    finite: float
    largest: float


class StepReplay(NamedTuple):
    """The arrays of one step.

    Attributes:
      step: The step.
      arrays: Parameters; inputs and outputs of layers in the order of computation; the loss;
        gradients from the last layer to the first.
    """

    step: int
    arrays: list[ArraySummary]

    @property
    def first_not_finite(self) -> ArraySummary | None:
        """Returns the first array with a value that is not finite; None if there is none."""
        return next((array for array in self.arrays if array.finite < 1), None)


class _LayerRecorder:
    """Summarizes the inputs and outputs of every layer that runs.

    Callbacks may run in another order than their layers: `summaries` is by number of the call.
    """

    def __init__(self, root: str):
        self._root, self.summaries = root, dict[int, ArraySummary]()

    def intercept(self, call: Any, arguments: Any, keywords: Any, context: Any) -> Any:
        """Calls a method of a layer; an interceptor for `nn.intercept_methods`."""
        layer = "/".join(context.module.path) or self._root
        self._record("input", layer, [x for x in arguments if isinstance(x, jax.Array | tuple)])
        outputs = call(*arguments, **keywords)
        self._record("output", layer, outputs)
        return outputs

    def _record(self, what: str, layer: str, tree: Any) -> None:
        for leaf in jax.tree.leaves(tree):
            if isinstance(leaf, jax.Array):
                number = len(self.summaries)
                self.summaries[number] = ArraySummary(what, layer, 1.0, 0.0)

                def summarize(x: Any, number: int = number) -> None:
                    self.summaries[number] = summarize_array(what, layer, x)

                # Under differentiation `leaf` is a tracer: its values reach only a callback.
                jax.debug.callback(summarize, leaf)


def replay_step(run: Run, state: State) -> StepReplay:
    """Makes the step after `state` without compiling it, and summarizes every array of it."""
    step = int(state.step) + 1
    (batch,) = run.train_batches(step - 1, step)
    recorder = _LayerRecorder(run.config.model.name)
    with nn.intercept_methods(recorder.intercept):
        (loss, _), grads = run.compute_gradients(state, batch)
    jax.effects_barrier()
    summaries = recorder.summaries
    last_call = {summary.layer: number for number, summary in summaries.items()}
    gradients = sorted(
        _summarize_tree("gradient", grads),
        key=lambda summary: -last_call.get(summary.layer.rpartition("/")[0], 0),
    )
    return StepReplay(
        step,
        [
            *_summarize_tree("parameter", state.params),
            *summaries.values(),
            summarize_array("output", "loss", loss),
            *gradients,
        ],
    )


def _summarize_tree(what: str, tree: Any) -> list[ArraySummary]:
    return [
        summarize_array(what, name.replace(".", "/"), leaf)
        for name, leaf in flatten_with_names(tree)
    ]


def summarize_array(what: str, layer: str, array: Any) -> ArraySummary:
    """Returns the fraction of finite values of an array, and their largest magnitude."""
    array = np.asarray(array, np.float64)
    finite = np.isfinite(array)
    largest = np.abs(array[finite]).max(initial=0.0)
    return ArraySummary(what, layer, float(finite.mean()), float(largest))
