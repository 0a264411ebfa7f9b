"""What a run is made of: one experiment, its sections, and the rules that they must keep.

The sections are frozen dataclasses with neutral defaults; a recipe in `configs/` names what it changes. Nothing derived
is stored: what follows from other fields is a property, so that it also follows the command line.

Each field is part of the run's identity, unless its metadata says `changeable_field`: a run that is resumed with another
identity would not be the same run.
"""

import dataclasses
import difflib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import inf
from operator import attrgetter
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from inception_jax import old_names
from inception_jax.errors import ExitCode, UserError


class ConfigError(UserError, ValueError):
    """A configuration that cannot be run; the message says which field, and what it may be."""

    exit_code = ExitCode.CONFIG


def changeable_field(default: Any) -> Any:
    """A field that a resumed run may give another value."""
    return field(default=default, metadata={"may_change": True})


def field_for(default: Any, *names: str) -> Any:
    """A field that has a meaning under these values of its section's `name` alone."""
    return field(default=default, metadata={"only": names})


ABOVE_ZERO = (
    "batch_size", "data.image_size", "model.width_multiplier", "optimizer.learning_rate", "log_every_steps", "keep_checkpoints",
    "parameter_shards", "max_consecutive_skipped",
)  # fmt: skip
BELOW_ONE = (
    "norm.decay", "optimizer.decay", "optimizer.momentum", "optimizer.average_decay", "objective.label_smoothing", "model.dropout_rate",
)  # fmt: skip
REMOVED_REWRITES = ("loop_repeats", "space_to_depth", "slice_pools")
"""Rules that lost by measurement (docs/rewrites.md): a configuration that names them is run without."""


@dataclass(frozen=True)
class Model:
    name: str = "bn_inception"
    """A registered network: `inception-jax models` lists them."""
    variant: str | None = None
    """Which form of it (paper, cadene, ...); the registry's first where not given."""
    width_multiplier: float = 1.0
    """Times the filters of the table."""
    local_response_norm: bool = True
    """False leaves out the table's local response normalisation."""
    init_scale: float = 1.0
    """Times the deviation of the initial kernels of convolutions."""
    dropout_rate: float | None = None
    """Instead of the table's before the main classifier; auxiliary heads keep theirs, GoogLeNet's 0.7."""
    zero_init_residual: bool = False
    """Begin with every residual block at its shortcut: gamma 0 in the norm that ends its branch."""
    aux: bool = False
    """Train with the auxiliary heads."""
    dtype: Literal["float32", "bfloat16", "float64"] = "float32"
    """Of the activations. Parameters, their gradients, statistics, logits and loss are at least float32."""
    recompute: tuple[str, ...] = changeable_field(())
    """End points whose inside is computed once more in the backward pass instead of kept, by patterns: Mixed_5*. Memory for time."""
    rewrites: tuple[str, ...] | None = changeable_field(None)
    """Rules of docs/rewrites.md by which the same function is computed for less; those that win on the platform where not given."""

    @property
    def known_rewrites(self) -> tuple[str, ...] | None:
        """Returns `rewrites` under their names of this version, without the removed ones."""
        if self.rewrites is None:
            return None
        kept = (name for name in self.rewrites if name not in REMOVED_REWRITES)
        return tuple(old_names.REWRITES.get(name, name) for name in kept)


@dataclass(frozen=True)
class Norm:
    examples_per_group: int = 0
    """Examples that share batch statistics, on any number of devices; 0 for the whole batch."""
    decay: float = 0.9
    """Fraction of the running statistics kept by a step: 0.9997 needs 10,000 steps to forget its start."""
    running_variance: Literal["unbiased", "biased"] | None = None
    """unbiased as TF and PyTorch keep it, biased as Keras and Flax do; None for what the model's variant does."""
    frozen: bool = False
    """Train under the running statistics, which stay as they are: for fine-tuning with small batches."""
    per_activation_in: tuple[str, ...] = ()
    """End points whose norms keep statistics, gamma and beta for each position too, and not only for each channel."""


@dataclass(frozen=True)
class Data:
    name: str = "digits"
    """digits, folder (a folder for each class), records (what `inception-jax data prepare` wrote), synthetic, any
    image-classification set of TFDS, or one that an imported package registers."""
    train_split: str = "train"
    """Or a part of it: train[:1000], train[:90%]."""
    test_split: str = "test"
    shuffle_block: int = 1
    """Examples that stay together and in order when the set is shuffled: 1 shuffles it thoroughly."""
    image_size: int = 32
    """Height and width in pixels that the network sees."""
    orientation: Literal["apply", "ignore"] = "apply"
    """Whether images are turned as their EXIF orientation says, as photographs need it; published scores on ImageNet are of images that are
    not, so its recipes ignore it, unless data.name is changed to folder."""
    resize: Literal[
        "bilinear", "area", "antialias", "bicubic_antialias", "tf1_bilinear", "nearest"
    ] = "bilinear"
    """OpenCV's bilinear or area filter, Pillow's antialiased ones, TensorFlow 1's bilinear, or Pillow's nearest pixel."""
    margin: int = 0
    """Black pixels around each image, within image_size: room for what augmentation moves and turns."""
    crop: Literal["none", "area", "height", "scale"] = "none"
    """The part of each training image: area uniform (GoogLeNet, torchvision), height uniform (TensorFlow), or image_size
    pixels out of a shorter side of 256 to 480, in proportion to 224 (ResNet)."""
    crop_min_area: float = 0.08
    """Of the image: 0.08 in GoogLeNet, torchvision and the ResNets on TPU, 0.05 in TF-Slim."""
    test_crop: Literal["none", "central", "square"] = "none"
    """The part of each held-out image: of both sides (TF-Slim), or a square of the shorter side (torchvision, timm)."""
    test_crop_fraction: float = 0.875
    """Of each side that test_crop keeps: 299 / 342 with torchvision's Inception-v3."""
    translate: float = 0.0
    """Move each training image by up to so many pixels, up or down and left or right."""
    scale: float = 0.0
    """Scale height and width of each training image, each by up to exp(+-scale)."""
    rotate: float = 0.0
    """Turn each training image by up to so many degrees, either way."""
    shear: float = 0.0
    """Lean upright lines of each training image by up to so many degrees, either way."""
    flip: bool = False
    """Mirror every other training image."""
    pad_and_crop: int = 0
    """Pad each training image by so many pixels and crop it at random: 4 on CIFAR."""
    pad_with: Literal["zeros", "reflection"] = "zeros"
    """Zeros as in the ResNets, reflection as in the wide ones."""
    colour: Literal["none", "slim", "slim_fast", "original", "tpu", "jitter"] = "none"
    """Photometric distortion: TF-Slim's four orders of four operations, its fast mode, the two orders of the first release,
    the TPU's offsets in YCbCr, or torchvision's jitter."""
    colour_strength: float = 1.0
    """Times the ranges of the distortion; the batch normalisation paper distorts less."""
    lighting: float = 0.0
    """Deviation of AlexNet's steps along the principal components of ImageNet's colours; 0.1 in its successors."""
    binarize: bool = False
    """Pixels above half to white, the others to black."""
    mixup: float = 0.0
    """Blend training images in pairs, with shares from Beta(mixup, mixup); 0 for none."""
    scaling: Literal[
        "inception",
        "imagenet",
        "vgg",
        "caffe",
        "googlenet",
        "cadene",
        "facenet",
        "cifar10",
        "cifar100",
    ] = "inception"
    """Pixels to [-1, 1], or less the mean and over the deviation of a set's channels, or of those of released weights."""
    on_bad_example: Literal["stop", "skip_and_count"] = changeable_field("stop")
    """What an image that cannot be read does to the run: ends it with its name, or weighs 0, is named and counted."""
    changed: Literal["refuse", "accept"] = changeable_field("refuse")
    """Whether a run goes on where its data have other classes, sizes or files than those that it was begun with."""
    directory: str | None = changeable_field(None)
    """Where the images are: TFDS's folder of datasets (its own default where not given), or <split>/<class>/<image>."""
    threads: int = changeable_field(2)
    """Decoding threads, through Grain; 0 decodes in the training loop's own thread, without Grain."""


@dataclass(frozen=True)
class Optimizer:
    name: Literal["rmsprop", "momentum"] = "rmsprop"
    """RMSProp as TensorFlow 1 had it (accumulator from 1, epsilon inside the root), or momentum SGD."""
    learning_rate: float = 0.045
    """Before the schedule's decay."""
    momentum: float = 0.9
    nesterov: bool = False
    decay: float = field_for(0.9, "rmsprop")
    """Of the mean square."""
    epsilon: float = field_for(1.0, "rmsprop")
    """Added to the mean square."""
    l2: float = 0.0
    """The loss gains l2 / 2 * sum(kernel^2), through its gradient; biases, gammas and betas are left out."""
    clip_norm: float | None = None
    """Scale the gradient down to this global norm; L2 included, as TensorFlow's losses have it."""
    average_decay: float = 0.0
    """Moving average of parameters and statistics, evaluated instead of them; 0 for none."""
    freeze: tuple[str, ...] = ()
    """Parameters that stay as they are, by patterns of their paths: Conv2d_*, Mixed_5b."""


@dataclass(frozen=True)
class Schedule:
    name: Literal["constant", "exponential", "piecewise", "polynomial", "cosine"] = "constant"
    """polynomial and cosine end at the run's last step, so the run's length is then part of its identity."""
    decay_rate: float = field_for(0.94, "exponential", "piecewise")
    decay_epochs: float = field_for(2.0, "exponential")
    """Multiply by decay_rate once in so many epochs."""
    staircase: bool = field_for(True, "exponential")
    """All at once at the end of decay_epochs, not a little at each step."""
    floor: float = field_for(0.0, "exponential")
    """The fraction of the rate that it does not fall below."""
    at_epochs: tuple[float, ...] = field_for((), "piecewise")
    """Multiply by decay_rate at these epochs of the run."""
    power: float = field_for(1.0, "polynomial")
    """(1 - the part of the run that is over) to this power."""
    warmup_epochs: float = 0.0
    """Rise linearly from 0 first."""


@dataclass(frozen=True)
class Objective:
    label_smoothing: float = 0.0
    """Share of the target spread evenly over all classes."""
    aux_weight: float = 0.3
    """Of each auxiliary head's loss."""


@dataclass(frozen=True)
class Experiment:
    """One run, resolved: what the recipe and the command line say together."""

    model: Model = Model()
    norm: Norm = Norm()
    data: Data = Data()
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    objective: Objective = Objective()
    batch_size: int = 64
    """Examples in one step, over all devices together."""
    epochs: float = 1.0
    """Passes over the training set; given on the line, instead of a recipe's steps."""
    steps: int | None = None
    """Updates of the parameters; instead of epochs where given."""
    seed: int = 0
    """Of the initial weights, the order of the examples, their augmentation and dropout; below 2^63."""
    format: Literal[1, 2, 3] = 3
    """Meaning of the fields, for runs that were begun by an earlier version. Before 3 there was no data.orientation.
    1 is what runs had before formats were noted: there the periods, boundaries and warm-up of a schedule are whole steps, logits are
    computed at the platform's default precision, and an image that could not be read is a black one in the statistics of its batch."""
    examples_per_device: int | None = changeable_field(None)
    """At most so many pass through a device at once: where its share of the batch is larger, gradients are accumulated. Groups of
    norm.examples_per_group stay whole; dropout draws otherwise."""
    parameter_shards: int = changeable_field(1)
    """Devices over which parameters, optimizer state and averages are spread; 1 keeps them whole on each."""
    require: str | None = changeable_field(None)
    """Devices without which the run does not begin: tpu:32, gpu:8, cpu; all processes' together."""
    log_every_steps: int = changeable_field(20)
    profile_steps: str | None = changeable_field(None)
    """Steps to profile, 100:110, for TensorBoard's profiler or xprof: it finds them in the workdir's tensorboard/."""
    evaluate_every_epochs: float = changeable_field(1.0)
    """0 evaluates at the end alone."""
    checkpoint_every_epochs: float = changeable_field(1.0)
    """0 saves at the end alone."""
    from_scratch: bool = changeable_field(False)
    """Begin again from the first step where every checkpoint of the run is damaged, instead of ending with 65."""
    keep_checkpoints: int = changeable_field(2)
    """The newest ones."""
    keep_best: int = changeable_field(0)
    """And so many of those with the highest held-out top-1."""
    on_not_finite: Literal["stop", "skip_and_count"] = changeable_field("stop")
    """What becomes of a run whose loss or gradient is NaN or infinite: it ends, or the step changes nothing and is counted."""
    max_consecutive_skipped: int = changeable_field(50)
    """Steps in a row that are skipped, after which the run ends all the same."""
    init_from: str | None = changeable_field(None)
    """The workdir of another run, or a file of weights, to begin from; arrays of the same name and shape are taken over, a head of other
    classes is new."""
    workdir: str | None = changeable_field(None)
    """Where the run lives; runs/<recipe> where not given."""

    @property
    def profile_span(self) -> tuple[int, int] | None:
        """The first and the last step to profile."""
        if self.profile_steps is None:
            return None
        first, _, last = self.profile_steps.partition(":")
        if not (first.isdecimal() and last.isdecimal() and 0 < int(first) <= int(last)):
            raise ConfigError(
                f"profile_steps is {self.profile_steps!r}: give the first and the last step, as "
                "100:110"
            )
        return int(first), int(last)

    @property
    def old_format_note(self) -> str:
        """Says which fields mean something else than in a new run of this version, or nothing any more; empty where none does."""
        notes = []
        if removed := [name for name in self.model.rewrites or () if name in REMOVED_REWRITES]:
            notes.append(
                f"model.rewrites: {', '.join(removed)} lost by measurement and is no longer there: "
                "run without, to the same function"
            )
        for name in self.model.rewrites or ():
            if new := old_names.REWRITES.get(name):
                notes.append(f"model.rewrites: {name} is now called {new}")
        if self.format <= 2:
            more = (
                ""
                if self.format > 1
                else "; periods are whole steps, and the precision of logits is the platform's"
            )
            notes.append(
                "begun by an earlier version: its fields keep their meaning (format "
                f"{self.format}): images are not turned by EXIF{more}"
            )
        return "; ".join(notes)

    @property
    def length_may_change(self) -> bool:
        """Whether the length of the run may be changed on resume: nothing but its end depends on it."""
        return self.schedule.name not in ("polynomial", "cosine")

    def check(self) -> None:
        """Holds every field against the rules.

        Raises:
          ConfigError: the first rule that is broken.
        """
        for name, value in self._numbers():
            if not 0 <= value < inf:
                raise ConfigError(f"{name} is {value}: it must be a number from 0")
        for name in ABOVE_ZERO:
            if not attrgetter(name)(self) > 0:
                raise ConfigError(f"{name} is {attrgetter(name)(self)}: it must be above 0")
        for name in BELOW_ONE:
            if (attrgetter(name)(self) or 0) >= 1:
                raise ConfigError(f"{name} is {attrgetter(name)(self)}: it must be below 1")
        if self.schedule.name == "piecewise" and not self.schedule.at_epochs:
            raise ConfigError(
                "schedule.at_epochs is empty: give the epochs at which the rate drops"
            )
        if self.schedule.name == "exponential" and not self.schedule.decay_epochs:
            raise ConfigError(
                "schedule.decay_epochs is 0: give the epochs after which the rate decays"
            )
        if self.steps is None and self.schedule.warmup_epochs > self.epochs:
            raise ConfigError(
                f"schedule.warmup_epochs are {self.schedule.warmup_epochs}, and the run has "
                f"{self.epochs}: give fewer of them"
            )
        if self.seed >= 2**63:
            raise ConfigError(f"seed is {self.seed}: it must be below 2^63")
        _ = self.profile_span
        if self.examples_per_device == 0:
            raise ConfigError(
                "examples_per_device is 0: it must be above 0, or None for all at once"
            )
        for name in ("data.crop_min_area", "data.test_crop_fraction"):
            if not 0 < attrgetter(name)(self) <= 1:
                raise ConfigError(
                    f"{name} is {attrgetter(name)(self)}: it is a fraction, above 0 and at most 1"
                )
        if 2 * self.data.margin >= self.data.image_size:
            raise ConfigError(
                f"data.margin {self.data.margin} leaves nothing of data.image_size "
                f"{self.data.image_size}"
            )
        if self.data.shuffle_block < 1:
            raise ConfigError(
                "data.shuffle_block is 0: give the examples that stay together, 1 for a thorough "
                "shuffle"
            )
        if self.optimizer.clip_norm == 0:
            raise ConfigError(
                "optimizer.clip_norm is 0, which stops all learning: give a norm above 0, or None "
                "for no clipping"
            )
        group = self.norm.examples_per_group
        if group and self.batch_size % group:
            raise ConfigError(
                f"batch_size {self.batch_size} is not a multiple of norm.examples_per_group "
                f"{group}: change either"
            )
        for section in ("optimizer", "schedule"):
            self._check_section(section, getattr(self, section))

    def _check_section(self, path: str, section: Any) -> None:
        for item in list_inapplicable_fields(section):
            if getattr(section, item.name) != item.default:
                raise ConfigError(
                    f"{path}.{item.name} is set to {getattr(section, item.name)}, but {path}.name "
                    f"is {section.name}: "
                    f"it has a meaning for {', '.join(item.metadata['only'])} alone; leave it out, "
                    f"or change {path}.name"
                )

    def _numbers(self) -> Iterator[tuple[str, float]]:
        for name, value in _leaves(self):
            if isinstance(value, int | float) and not isinstance(value, bool):
                yield name, value

    def identity(self) -> dict[str, Any]:
        """The fields, by dotted name, that a resumed run must have unchanged."""
        free = {name for name, item in _items(self) if item.metadata.get("may_change")}
        if self.length_may_change:
            free |= {"epochs", "steps"}
        return {name: value for name, value in _leaves(self) if name not in free}


def list_inapplicable_fields(section: Any) -> list[dataclasses.Field]:
    """Returns the fields of a section that have no meaning under its `name`."""
    return [
        item
        for item in dataclasses.fields(section)
        if section.name not in item.metadata.get("only", (section.name,))
    ]


def list_differences(old: Experiment, new: Experiment) -> list[str]:
    """A line for each identity field that changed: `optimizer.learning_rate: 0.045 -> 0.1`."""
    before, after = old.identity(), new.identity()
    names = [*before, *(name for name in after if name not in before)]
    pairs = [(name, attrgetter(name)(old), attrgetter(name)(new)) for name in names]
    return [f"{name}: {one!r} -> {other!r}" for name, one, other in pairs if one != other]


def to_json(experiment: Experiment) -> dict[str, Any]:
    return dataclasses.asdict(experiment)


def list_shared_fields(experiment: Experiment) -> dict[str, Any]:
    """The fields, by dotted name, that all processes of a run must have alike: not where a host has its data, nor its threads."""
    return {
        name: value
        for name, value in _leaves(experiment)
        if name not in ("data.directory", "data.threads")
    }


def from_json(fields: dict[str, Any]) -> Experiment:
    """The experiment that `to_json` wrote.

    Raises:
      ConfigError: a field that this version does not have, a value of another type, or one that breaks the rules.
    """
    if isinstance(fields, dict):
        fields = {"format": 1, **fields}  # it was not noted before there was a second
        if isinstance(fields.get("data"), dict):
            fields["data"] = {
                "orientation": "ignore",
                **fields["data"],
            }  # as images were read before there was a choice
    experiment: Experiment = build_section(Experiment, fields, "")
    experiment.check()
    return experiment


def read_experiment(workdir: Any) -> Experiment:
    """The configuration that a workdir, on a disk or in an object store, was claimed with.

    Raises:
      ConfigError: there is none, or it cannot be read.
    """
    file = workdir / "experiment.json"
    try:
        return from_json(json.loads(file.read_bytes()))
    except (FileNotFoundError, NotADirectoryError):
        raise ConfigError(
            f"{workdir} is no workdir: it has no experiment.json; give the folder of a run"
        ) from None
    except ConfigError as error:
        raise ConfigError(f"{file}: {error}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{file} cannot be read ({error}): move the folder away") from error


def build_section(kind: Any, fields: Any, path: str) -> Any:
    if not isinstance(fields, dict):
        raise ConfigError(
            f"{path.removesuffix('.') or 'the configuration'} is {str(fields)[:60]!r}: it must be "
            "an object with fields"
        )
    fields = old_names.rename_fields(kind.__name__.lower(), fields)
    known = {item.name: item for item in dataclasses.fields(kind)}
    values: dict[str, Any] = {}
    for name, value in fields.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ConfigError(
                f"{path}{name}: {kind.__name__} has no such field{hint}; was it written by another "
                "version?"
            )
        nested = known[name].type
        if dataclasses.is_dataclass(nested):
            value = build_section(nested, value, f"{path}{name}.")
        elif not _fits(value := tuple(value) if isinstance(value, list) else value, nested):
            raise ConfigError(
                f"{path}{name} is {str(value)[:60]!r}: it must be "
                f"{getattr(nested, '__name__', nested)}"
            )
        values[name] = value
    return kind(**values)


def _fits(value: Any, kind: Any) -> bool:
    """Whether a value read from JSON is of a field's type."""
    arguments = get_args(kind)
    match get_origin(kind):
        case None:
            kinds = (int, float) if kind is float else (kind,)
            return isinstance(value, kinds) and (kind is bool or not isinstance(value, bool))
        case origin if origin is Literal:
            return any(value == one and type(value) is type(one) for one in arguments)
        case origin if origin is dict:
            return isinstance(value, dict)
        case origin if origin is tuple:
            return isinstance(value, tuple) and all(_fits(one, arguments[0]) for one in value)
        case _:
            return any(value is None if one is NoneType else _fits(value, one) for one in arguments)


def _items(section: Any, path: str = "") -> Iterator[tuple[str, dataclasses.Field]]:
    for item in dataclasses.fields(section):
        value = getattr(section, item.name)
        if dataclasses.is_dataclass(value):
            yield from _items(value, f"{path}{item.name}.")
        else:
            yield path + item.name, item


def _leaves(section: Any) -> Iterator[tuple[str, Any]]:
    for name, _ in _items(section):
        yield name, attrgetter(name)(section)
