"""An experiment: builds the functions of a run from its configuration.

No other module reads the sections of a configuration.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax

from inception_jax.config import ConfigError, Experiment
from inception_jax.data import augment, colour, crop, order
from inception_jax.data.batches import Batch, Pixels, fill_batch, stream_batches
from inception_jax.data.facts import DataFacts, SplitFacts, list_changes, list_split_changes
from inception_jax.data.registry import open_source
from inception_jax.data.source import (
    DataError,
    Example,
    Source,
    StoredArrays,
    find_stored_arrays,
)
from inception_jax.data.stage_timer import StageTimer
from inception_jax.distributed.mesh import Placement
from inception_jax.models import REGISTRY, UnknownModelError, get_architecture
from inception_jax.nn.create import create
from inception_jax.nn.network import Network
from inception_jax.spec.measure import Measurement, UnknownShapeError, check_image_size, measure
from inception_jax.spec.rewrite import select_rewrites
from inception_jax.spec.vocabulary import make_pair
from inception_jax.training import objective, optimizer
from inception_jax.training.state import State, make_initial_state
from inception_jax.training.steps import (
    accumulate_gradients,
    compute_gradients,
    eval_step,
    log_probability_step,
    make_seed_key,
    predict_step,
    train_step,
)


@dataclass(frozen=True)
class Run:
    """One experiment on the devices of a placement. Every property is computed on first use.

    Raises (from any property):
      ConfigError: The configuration does not work with these devices or data.
      DataError: Data are missing or cannot be read.
    """

    config: Experiment
    placement: Placement
    stage_timer: StageTimer = field(default_factory=StageTimer)
    """Timer of the host's work on the data, by stage."""
    given_source: Source | None = None
    """Source to read instead of the configured one."""
    facts: DataFacts | None = None
    """Recorded facts of the data, which then need not be on disk; data on disk must have the
    same classes.
    """
    opened: Mapping[str, Source] = field(default_factory=dict)
    """Splits that are open already."""

    # What is learned from.

    @cached_property
    def train_source(self) -> Source:
        """Returns the source of the training split."""
        source = self._source(self.config.data.train_split)
        if len(source) < 1:
            raise DataError(
                f"{self.config.data.name} has no training examples in "
                f"{self.config.data.train_split!r}"
            )
        if self.facts is not None and source.class_names != self.facts.class_names:
            raise DataError(
                f"{self.config.data.train_split} has other classes than the run: bring those back "
                "that it was trained on"
            )
        return source

    @cached_property
    def test_source(self) -> Source:
        """Returns the source of the held-out split."""
        source = self._source(self.config.data.test_split)
        if source.class_names != self.class_names:
            odd = sorted(set(source.class_names) ^ set(self.class_names))
            where = self.config.data.train_split if self.facts is None else "the run"
            raise DataError(
                f"{self.config.data.test_split} has {len(source.class_names)} classes and {where} "
                f"{len(self.class_names)}; "
                + (f"not in both: {', '.join(odd[:5])}" if odd else "they are in another order")
            )
        return source

    def _source(self, split: str) -> Source:
        if self.given_source is not None:
            return self.given_source
        data = self.config.data
        return (
            self.opened[split]
            if split in self.opened
            else open_source(
                data.name, split, data.directory,
                holdout=data.holdout, holdout_seed=data.holdout_seed,
            )
        )  # fmt: skip

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """Returns the names of the classes in the order of their labels."""
        if self.given_source is not None:
            return self.given_source.class_names
        return self.train_source.class_names if self.facts is None else self.facts.class_names

    @cached_property
    def train_examples(self) -> int:
        """Returns the number of training examples, from the recorded facts if there are any."""
        return len(self.train_source) if self.facts is None else self.facts.train.examples

    def data_facts(self) -> DataFacts:
        """Returns the facts of the data on disk."""
        data = self.config.data
        splits = (
            SplitFacts.from_source(data.train_split, self.train_source),
            SplitFacts.from_source(data.test_split, self.test_source),
        )
        return DataFacts(self.train_source.class_names, *splits)

    def data_changes(self, *, train: bool) -> list[str]:
        """Returns a line for each change of the data since they were recorded.

        Args:
          train: Whether to compare the training split too.
        """
        if self.facts is None:
            return []
        if train:
            return list_changes(self.facts, self.data_facts())
        return list_split_changes(
            self.facts.test, SplitFacts.from_source(self.config.data.test_split, self.test_source)
        )

    def check_test_data(self, sample: int = 64) -> None:
        """Opens the held-out split and decodes a sample of it, before anything is compiled.

        Args:
          sample: Number of images at equal distances; the first image of as many classes is decoded
            too, where the source has `labels`.

        Raises:
          DataError: The split is missing, empty, has other classes, or holds an image that cannot
            be read and is not to be skipped.
        """
        source = self.test_source
        if not len(source):
            raise DataError(
                f"{self.config.data.name} has no held-out examples in "
                f"{self.config.data.test_split!r}: give another data.test_split"
            )
        broken = []
        _, firsts = np.unique(getattr(source, "labels", ()), return_index=True)
        firsts = firsts[:: max(1, -(-len(firsts) // sample))]
        places = sorted(
            {*np.linspace(0, len(source) - 1, sample).astype(int).tolist(), *firsts.tolist()}
        )
        for index in places:
            example = None
            try:
                example = source[index]
                self.pixels(example)
            except DataError as error:
                broken.append(
                    f"{self.config.data.test_split}, "
                    f"{example.format_location(index) if example else f'example {index}'}: {error}"
                )
        if broken and (not self.may_skip or len(broken) == len(places)):
            raise DataError(
                f"{broken[0]} ({len(broken)} of {len(places)} that were tried): mend or remove it, "
                "or leave such images out: on_bad_example skip_and_count"
            )

    @property
    def steps_per_epoch(self) -> float:
        """Returns the number of steps of an epoch, a fraction in general."""
        return self.train_examples / self.config.batch_size

    @property
    def steps(self) -> int:
        """Returns the number of steps of the run."""
        return (
            self.config.steps
            if self.config.steps is not None
            else max(1, round(self.config.epochs * self.steps_per_epoch))
        )

    def epochs_to_steps(self, epochs: float) -> float:
        """Returns the number of steps of a period, boundary or warm-up of the schedule.

        It is a fraction, except in a run of format 1: there a whole number, at least 1.
        """
        exact = epochs * self.steps_per_epoch
        return exact if self.config.format > 1 else max(1, round(exact))

    def with_image_size(self, image_size: int) -> "Run":
        """Returns this run on images of another size, for evaluation.

        Raises:
          ConfigError: The size is too small, or the network's parameters depend on it.
        """
        if image_size == self.config.data.image_size:
            return self
        other = replace(
            self, config=replace(self.config, data=replace(self.config.data, image_size=image_size))
        )
        other.config.check()
        if self.config.norm.per_activation_in:
            raise ConfigError(
                "norm.per_activation_in: such norms have parameters for "
                f"{self.config.data.image_size} pixels alone"
            )
        if other.parameters != self.parameters:
            raise ConfigError(
                f"{self.config.model.name} at {image_size} pixels has {other.parameters} "
                f"parameters, and was trained with {self.parameters} at "
                f"{self.config.data.image_size}: its classifier reads a grid of fixed size"
            )
        return other

    def format_summary(self) -> str:
        """Returns a line about the run.

        Raises every error of the configuration, before anything is compiled.
        """
        config, room = self.config, self.placement.collect_device_facts()
        self._check_warmup()
        return (
            f"{config.model.name}: {self.parameters:,} parameters; {self.steps} steps of "
            f"{config.batch_size} of {self.train_examples:,} {config.data.name}, batch norm over "
            f"{config.norm.examples_per_group or config.batch_size}, on {room['devices']} "
            f"{room['backend']} device(s)"
        )

    def _check_warmup(self) -> None:
        """Raises an error for a warm-up as long as the run, or as long as leaves no decay."""
        rule = self.config.schedule
        warmup = self.epochs_to_steps(rule.warmup_epochs) if rule.warmup_epochs else 0
        # The run's own length is rounded to a whole step.
        if warmup > self.steps + 0.5 or (
            warmup >= self.steps and rule.name in ("polynomial", "cosine")
        ):
            raise ConfigError(
                f"schedule.warmup_epochs {rule.warmup_epochs:g} are {warmup:,.6g} steps, and the "
                f"run has {self.steps:,}: give fewer of them, or a longer run"
            )

    def train_batches(self, start: int, stop: int | None = None) -> Iterator[Batch]:
        """Yields the global batches of steps `start` to `stop` (default: the last one)."""
        ids = order.make_shuffled_order(
            len(self.train_source), self.config.seed, self.config.data.shuffle_block
        )
        return self._batches(
            self.train_source,
            ids,
            start,
            self.steps if stop is None else stop,
            self.training_pixels,
            self._find_ready_arrays(self.train_source, self.config.data.crop),
        )

    def test_batches(self, crops: int = 1) -> Iterator[Batch]:
        """Yields every held-out example once, or `crops` views of each (6, 10, 12, 144).

        The last batch is padded with weight 0.

        Raises:
          ConfigError: There is no protocol of so many crops, or images have a margin.
        """
        examples, data = len(self.test_source), self.config.data
        stop = -(-examples * crops // self.config.batch_size)
        if crops == 1:

            def write_pixels(example: Example, _: int, into: np.ndarray) -> None:
                self._see(example, into, self._test_part)

            ids = order.make_sequential_order(examples)
            stored = self._find_ready_arrays(self.test_source, data.test_crop)
            return self._batches(self.test_source, ids, 0, stop, write_pixels, stored)
        from inception_jax.data.views import (
            VIEWS,
            Viewer,
        )

        if crops not in VIEWS:
            raise ConfigError(
                f"{crops} crops: there are protocols of 1, {', '.join(map(str, VIEWS))}"
            )
        if data.margin:
            raise ConfigError(
                f"data.margin is {data.margin}, and {crops} crops have none: train with "
                "--data.margin 0 for them"
            )
        return self._batches(
            self.test_source,
            order.make_sequential_order(examples, crops),
            0,
            stop,
            Viewer(crops, data.image_size, data.resize, data.orientation),
        )

    def _find_ready_arrays(self, source: Source, crop_name: str) -> StoredArrays | None:
        """Returns the arrays of a source if its images enter the network as they are."""
        data = self.config.data
        stored = find_stored_arrays(source) if crop_name == "none" and not data.margin else None
        is_ready = stored is not None and stored.images.shape[1:3] == (data.image_size,) * 2
        return stored if is_ready else None

    def _batches(
        self,
        source: Source,
        ids: order.Order,
        start: int,
        stop: int,
        pixels: Pixels,
        stored: StoredArrays | None = None,
    ) -> Iterator[Batch]:
        """Yields batches; threads would only slow down the copying of `stored` arrays."""
        size, data = self.config.batch_size, self.config.data
        filling = partial(
            fill_batch, batch_size=size, order=ids, source=source, pixels=pixels, stored=stored,
            skip_bad=self.may_skip, timer=self.stage_timer,
        )  # fmt: skip
        rows = self.placement.local_rows(size)
        for local in stream_batches(
            filling,
            rows,
            start,
            stop,
            image_size=data.image_size,
            threads=data.threads if stored is None else 0,
            timer=self.stage_timer,
        ):
            with self.stage_timer("transfer"):
                laid = self.placement.make_global_batch(local, size)
            yield laid

    @property
    def may_skip(self) -> bool:
        """Whether an example that cannot be read is skipped and counted.

        Otherwise it stops the run.
        """
        return self.config.data.on_bad_example == "skip_and_count"

    def training_pixels(self, example: Example, position: int, into: np.ndarray) -> None:
        """Writes the network's input for a training example into `into` [size, size, 3] uint8."""
        data = self.config.data
        if data.crop == "none":
            return self._see(example, into, None)
        draws = crop.UniformDraws(self.config.seed, position)
        self._see(
            example, into, partial(crop.TRAINING[data.crop], draws, min_area=data.crop_min_area)
        )

    def pixels(self, example: Example) -> np.ndarray:
        """Returns the network's input for an example in evaluation, [size, size, 3] uint8."""
        into = np.empty((self.config.data.image_size, self.config.data.image_size, 3), np.uint8)
        self._see(example, into, self._test_part)
        return into

    @property
    def _test_part(self) -> crop.Part | None:
        data = self.config.data
        return (
            None
            if data.test_crop == "none"
            else partial(crop.EVALUATION[data.test_crop], fraction=data.test_crop_fraction)
        )

    def _see(self, example: Example, into: np.ndarray, part: crop.Part | None) -> None:
        from inception_jax.data.decode import (
            decode,
            resize,
        )

        data = self.config.data
        with self.stage_timer("decode"):
            image = decode(example.image, part, orientation=data.orientation)
        with self.stage_timer("resize"):
            if data.margin:
                into[:] = 0
            resize(
                image,
                into[data.margin : len(into) - data.margin, data.margin : len(into) - data.margin],
                data.resize,
            )

    # What learns.

    @cached_property
    def network(self) -> Network:
        """Returns the network."""
        model, norm, classes = self.config.model, self.config.norm, len(self.class_names)
        if jax.dtypes.canonicalize_dtype(model.dtype) != model.dtype:
            raise ConfigError(
                f"model.dtype is {model.dtype}, which JAX rounds to float32: set JAX_ENABLE_X64=1 "
                "in the environment"
            )
        try:
            network = create(
                model.name, variant=model.variant, num_classes=classes, aux=model.aux,
                width_multiplier=model.width_multiplier, dropout_rate=model.dropout_rate,
                dtype=jnp.dtype(model.dtype), zero_init_residual=model.zero_init_residual,
                local_response_norm=model.local_response_norm, init_scale=model.init_scale,
                examples_per_group=norm.examples_per_group, decay=norm.decay, frozen=norm.frozen,
                per_activation_in=norm.per_activation_in, recompute=model.recompute,
                rewrites=model.known_rewrites or (),
                precision=jax.lax.Precision.HIGHEST if self.config.format > 1 else None,
                **({"running_variance": norm.running_variance} if norm.running_variance else {}),
            )  # fmt: skip
            if model.known_rewrites is None:
                network = network.clone(
                    rewrites=select_rewrites(network.architecture, self.placement.platform)
                )
            if self.placement.devices > 1:
                network = network.clone(batch_sharding=self.placement.batch_sharding)
            check_image_size(
                network.architecture,
                make_pair(self.config.data.image_size),
                network.architecture.channels,
            )
        except UnknownModelError as error:
            raise ConfigError(f"model: {error}") from error
        except ValueError as error:
            raise ConfigError(
                f"{model.name} at data.image_size {self.config.data.image_size}: {error}"
            ) from error
        if model.aux and not network.architecture.aux:
            forms = [
                name
                for name in REGISTRY[network.architecture.name]
                if get_architecture(network.architecture.name, name).aux
            ]
            others = (
                f", or one of the variants that have some: --model.variant {' or '.join(forms)}"
                if forms
                else ""
            )
            raise ConfigError(
                f"model.aux is set, but {model.name}'s variant {network.architecture.variant} has "
                f"no auxiliary heads: give --model.no-aux{others}"
            )
        return network

    @cached_property
    def measurement(self) -> Measurement:
        """Returns the measured table of the network at this image size and number of classes.

        Raises:
          ConfigError: A layer of the table has no output shape.
        """
        try:
            return measure(
                self.network.architecture,
                image_size=self.config.data.image_size,
                num_classes=len(self.class_names),
            )
        except UnknownShapeError as error:
            raise ConfigError(f"{self.config.model.name} cannot be measured: {error}") from error

    @cached_property
    def parameters(self) -> int:
        """Returns the number of parameters without auxiliary heads, counted in the state.

        A table does not have the parameters of a `layer`'s module.
        """
        heads = {head.name for head in self.network.architecture.aux}
        own = {
            name: part for name, part in self.abstract_state().params.items() if name not in heads
        }
        return sum(leaf.size for leaf in jax.tree.leaves(own))

    @cached_property
    def schedule(self) -> optax.Schedule:
        """Returns the schedule: step -> learning rate."""
        rule, rate = self.config.schedule, self.config.optimizer.learning_rate
        return optimizer.make_schedule(
            rule.name, rate, steps=self.steps, decay_steps=self.epochs_to_steps(rule.decay_epochs),
            decay_rate=rule.decay_rate, staircase=rule.staircase, floor=rule.floor,
            boundaries=[self.epochs_to_steps(epochs) for epochs in rule.at_epochs],
            power=rule.power,
            warmup_steps=self.epochs_to_steps(rule.warmup_epochs) if rule.warmup_epochs else 0,
        )  # fmt: skip

    @cached_property
    def optimizer(self) -> optax.GradientTransformation:
        """Returns the optimizer."""
        rule = self.config.optimizer
        return optimizer.make_optimizer(
            rule.name, self.schedule, momentum=rule.momentum, nesterov=rule.nesterov,
            decay=rule.decay, epsilon=rule.epsilon, clip_norm=rule.clip_norm, freeze=rule.freeze,
        )  # fmt: skip

    def prepare_training(self, batch: Batch, keys: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns augmented and scaled images, and their targets, on the accelerator.

        Args:
          keys: [B] keys, one for each image.
        """
        self._assert_pixels(batch.image)
        data = self.config.data
        images = augment.augment(
            batch.image, keys, translate=data.translate, scale=data.scale, rotate=data.rotate,
            shear=data.shear, flip=data.flip, pad=data.pad_and_crop,
            reflect=data.pad_with == "reflection",
        )  # fmt: skip
        images = colour.distort_colours(
            images, keys, colour=data.colour, strength=data.colour_strength, light=data.lighting
        )
        images = self._scaled(images)
        if not data.mixup:
            return images, batch.label
        return augment.mixup(
            images, batch.label, batch.weight, keys, alpha=data.mixup, classes=len(self.class_names)
        )

    def prepare_evaluation(self, images: jax.Array) -> jax.Array:
        """Returns scaled images, on the accelerator."""
        self._assert_pixels(images)
        return self._scaled(images)

    def _scaled(self, images: jax.Array) -> jax.Array:
        """Returns scaled images.

        A network of one channel gets the first; the three of a grey image are equal.
        """
        if self.config.data.binarize:
            images = jnp.where(images > 127, 255, 0)
        return augment.scale_pixels(images, self.config.data.scaling)[
            ..., : self.network.architecture.channels
        ]

    def unscale_images(self, images: jax.Array) -> jax.Array:
        """Returns prepared images as uint8, for display."""
        return augment.unscale_pixels(images, self.config.data.scaling)

    def _assert_pixels(self, images: jax.Array) -> None:
        size = self.config.data.image_size
        chex.assert_shape(images, (None, size, size, 3))
        chex.assert_type(images, jnp.uint8)

    @cached_property
    def compute_gradients(self):
        """Returns (state, batch) -> ((loss, (sums, batch_stats)), gradients), not compiled.

        It accumulates over microbatches where `examples_per_device` demands it.
        """
        loss = partial(
            objective.classification_loss,
            label_smoothing=self.config.objective.label_smoothing,
            aux_weight=self.config.objective.aux_weight,
        )
        whole = partial(
            compute_gradients, network=self.network, objective=loss, prepare=self.prepare_training,
            seed=self.config.seed, gather_params=self.placement.gather_params,
            l2=self.config.optimizer.l2, is_masked=self._is_masked,
        )  # fmt: skip
        group = self.config.norm.examples_per_group or 1
        return (
            whole
            if self.num_microbatches == 1
            else accumulate_gradients(
                whole,
                num_microbatches=self.num_microbatches,
                group=group,
                is_masked=self._is_masked,
            )
        )

    @property
    def _is_masked(self) -> bool:
        """Whether batch statistics leave out examples of weight 0, which format 1 does not."""
        return self.may_skip and self.config.format > 1

    @cached_property
    def num_microbatches(self) -> int:
        """Returns the number of microbatches of a batch."""
        normed = bool(self.abstract_state().batch_stats) and not self.config.norm.frozen
        group = self.config.norm.examples_per_group if normed else 1
        return self.placement.count_microbatches(
            self.config.batch_size, self.config.examples_per_device, group
        )

    @cached_property
    def train_step(self):
        """Returns (state, batch) -> (state, sums), compiled; it donates its input state."""
        step = partial(
            train_step, optimizer=self.optimizer, compute_gradients=self.compute_gradients,
            average_decay=self.config.optimizer.average_decay,
            skip_not_finite=self.config.on_not_finite == "skip_and_count",
        )  # fmt: skip
        return self.placement.compile(step, state=self.abstract_state())

    @cached_property
    def eval_step(self):
        """Returns (variables, batch) -> sums over the batch, compiled."""
        return self.placement.compile(
            partial(eval_step, network=self.network, prepare=self.prepare_evaluation)
        )

    @cached_property
    def log_probability_step(self):
        """Returns (variables, images) -> log-probabilities of the classes [B, K], compiled."""
        return self.placement.compile(
            partial(log_probability_step, network=self.network, prepare=self.prepare_evaluation)
        )

    @cached_property
    def predict_step(self):
        """Returns (variables, images) -> class probabilities [B, K], compiled."""
        return self.placement.compile(
            partial(predict_step, network=self.network, prepare=self.prepare_evaluation)
        )

    @cached_property
    def _initialise(self):
        size = self.config.data.image_size
        return partial(
            make_initial_state, network=self.network, optimizer=self.optimizer,
            image_shape=(size, size, self.network.architecture.channels),
            is_averaged=self.config.optimizer.average_decay > 0,
        )  # fmt: skip

    def initial_state(self) -> State:
        """Returns the state before the first step, made on the devices."""
        return self.placement.initialize_sharded(self._initialise, make_seed_key(self.config.seed))

    def abstract_state(self) -> State:
        """Returns the shapes, dtypes and shardings of the state."""
        return self._abstract_state

    @cached_property
    def _abstract_state(self) -> State:
        return self.placement.make_abstract(
            jax.eval_shape(self._initialise, make_seed_key(self.config.seed))
        )
