"""The configuration of a run: one experiment, its sections, and the rules for their fields.

The sections are frozen dataclasses with neutral defaults; a recipe in `configs/` sets the fields
that differ. Derived values are properties, so that they follow the command line too.

Each field is part of the run's identity, which a resumed run must keep, unless it is a
`changeable_field`.
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
    """Returns a field that may differ when a run resumes."""
    return field(default=default, metadata={"may_change": True})


def field_for(default: Any, *names: str) -> Any:
    """Returns a field that applies only if the `name` of its section is one of `names`."""
    return field(default=default, metadata={"only": names})


ABOVE_ZERO = (
    "batch_size", "data.image_size", "model.width_multiplier", "optimizer.learning_rate",
    "log_every_steps", "keep_checkpoints", "parameter_shards", "max_consecutive_skipped",
)  # fmt: skip
BELOW_ONE = (
    "norm.decay", "optimizer.decay", "optimizer.momentum", "optimizer.average_decay",
    "objective.label_smoothing", "model.dropout_rate", "data.holdout",
)  # fmt: skip
REMOVED_REWRITES = ("loop_repeats", "space_to_depth", "slice_pools")
"""Rewrites that were slower (docs/rewrites.md). A configuration that names them runs without."""


@dataclass(frozen=True)
class Model:
    name: str = "bn_inception"
    """Name of a registered network, as `inception-jax models` lists them."""
    variant: str | None = None
    """Variant of the network (paper, cadene, ...); the registry's first where not given."""
    width_multiplier: float = 1.0
    """Factor of the numbers of filters."""
    local_response_norm: bool = True
    """Use of the table's local response normalisation."""
    init_scale: float = 1.0
    """Factor of the deviation of the initial kernels of convolutions."""
    dropout_rate: float | None = None
    """Dropout rate before the main classifier instead of the table's; auxiliary heads keep their
    own (GoogLeNet's 0.7).
    """
    zero_init_residual: bool = False
    """Initialisation of every residual block as its shortcut: gamma 0 in the norm that ends its
    branch.
    """
    aux: bool = False
    """Training of the auxiliary heads."""
    dtype: Literal["float32", "bfloat16", "float64"] = "float32"
    """Dtype of the activations. Parameters, their gradients, statistics, logits and loss are at
    least float32.
    """
    recompute: tuple[str, ...] = changeable_field(())
    """Patterns of end points (Mixed_5*) whose activations the backward pass computes again
    instead of keeping them: less memory, more time.
    """
    rewrites: tuple[str, ...] | None = changeable_field(None)
    """Rewrites of docs/rewrites.md, which compute the same function at a lower cost; where not
    given, those that are faster on the platform.
    """

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
    """Number of examples that share batch statistics, on any number of devices; 0 for the whole
    batch.
    """
    decay: float = 0.9
    """Fraction of the running statistics that a step keeps; with 0.9997 the initial values fade
    over 10,000 steps.
    """
    running_variance: Literal["unbiased", "biased"] | None = None
    """Kind of running variance: unbiased as in TF and PyTorch, biased as in Keras and Flax; None
    for the variant's.
    """
    frozen: bool = False
    """Training with fixed running statistics, for fine-tuning with small batches."""
    per_activation_in: tuple[str, ...] = ()
    """End points whose norms keep statistics, gamma and beta for each position, not only for
    each channel.
    """


@dataclass(frozen=True)
class Data:
    name: str = "digits"
    """Dataset: digits, folder (a folder for each class), idx (the files of MNIST and its like),
    records (written by `inception-jax data prepare`), synthetic, an image-classification set of
    TFDS, or one that an imported package registers.
    """
    train_split: str = "train"
    """Training split, or a part of it: train[:1000], train[:90%]."""
    test_split: str = "test"
    holdout: float = 0.0
    """Fraction of each class that is held out of a folder without splits, <class>/<image>: train
    and test are then its parts; 0 for data with splits.
    """
    holdout_seed: int = 0
    """Random seed for the images that are held out."""
    shuffle_block: int = 1
    """Number of examples that stay together and in order in the shuffled stream; 1 shuffles
    single examples.
    """
    image_size: int = 32
    """Height and width of the network's input in pixels."""
    orientation: Literal["apply", "ignore"] = "apply"
    """Use of the EXIF orientation, which photographs need. Published scores on ImageNet are of
    images without it, so its recipes ignore it, unless data.name is changed to folder.
    """
    resize: Literal[
        "bilinear", "area", "antialias", "bicubic_antialias", "tf1_bilinear", "nearest"
    ] = "bilinear"
    """Resize filter: OpenCV's bilinear or area, Pillow's antialiased ones, TensorFlow 1's
    bilinear, or Pillow's nearest.
    """
    margin: int = 0
    """Black pixels around each image, within image_size, so that augmentation does not cut it
    off.
    """
    crop: Literal["none", "area", "height", "scale"] = "none"
    """Crop of each training image: area uniform (GoogLeNet, torchvision), height uniform
    (TensorFlow), or image_size pixels of a shorter side of 256 to 480, in proportion to 224
    (ResNet).
    """
    crop_min_area: float = 0.08
    """Smallest fraction of the image's area: 0.08 in GoogLeNet, torchvision and the ResNets on
    TPU, 0.05 in TF-Slim.
    """
    test_crop: Literal["none", "central", "square"] = "none"
    """Crop of each held-out image: of both sides (TF-Slim), or a square of the shorter side
    (torchvision, timm).
    """
    test_crop_fraction: float = 0.875
    """Fraction of each side that test_crop keeps: 299 / 342 with torchvision's Inception-v3."""
    translate: float = 0.0
    """Largest distance in pixels by which a training image moves along each axis."""
    scale: float = 0.0
    """Largest logarithm of the factors that scale height and width of a training image:
    exp(+-scale).
    """
    rotate: float = 0.0
    """Largest angle in degrees by which a training image rotates."""
    shear: float = 0.0
    """Largest angle in degrees by which upright lines of a training image lean."""
    flip: bool = False
    """Mirroring of half of the training images."""
    pad_and_crop: int = 0
    """Pixels of padding around each training image before a random crop: 4 on CIFAR."""
    pad_with: Literal["zeros", "reflection"] = "zeros"
    """Padding: zeros as in the ResNets, reflection as in the wide ones."""
    colour: Literal["none", "slim", "slim_fast", "original", "tpu", "jitter"] = "none"
    """Photometric distortion: TF-Slim's four orders of four operations, its fast mode, the two
    orders of the first release, the TPU's offsets in YCbCr, or torchvision's jitter.
    """
    colour_strength: float = 1.0
    """Factor of the ranges of the distortion; the batch normalisation paper distorts less."""
    lighting: float = 0.0
    """Deviation of AlexNet's steps along the principal components of ImageNet's colours; 0.1 in
    later recipes.
    """
    binarize: bool = False
    """Thresholding of pixels at half to white or black."""
    mixup: float = 0.0
    """Parameter of Beta(mixup, mixup), from which the shares of blended pairs of training images
    are drawn; 0 for none.
    """
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
    """Scaling of pixels: to [-1, 1], or by the mean and deviation of a dataset's channels, or of
    released weights.
    """
    on_bad_example: Literal["stop", "skip_and_count"] = changeable_field("stop")
    """Handling of an image that cannot be read: the run stops and names it, or it gets weight 0,
    a warning and a count.
    """
    changed: Literal["refuse", "accept"] = changeable_field("refuse")
    """Handling of data whose classes, sizes or files changed since the run began."""
    directory: str | None = changeable_field(None)
    """Folder of the data: TFDS's folder of datasets (its own default where not given),
    <split>/<class>/<image>, or the one that holds IDX files or records.
    """
    threads: int = changeable_field(2)
    """Number of decoding threads of Grain; 0 decodes in the thread of the training loop, without
    Grain.
    """


@dataclass(frozen=True)
class Optimizer:
    name: Literal["rmsprop", "momentum"] = "rmsprop"
    """Optimizer: RMSProp as in TensorFlow 1 (accumulator from 1, epsilon inside the root), or
    momentum SGD.
    """
    learning_rate: float = 0.045
    """Learning rate before the schedule's decay."""
    momentum: float = 0.9
    nesterov: bool = False
    decay: float = field_for(0.9, "rmsprop")
    """Decay of the mean square."""
    epsilon: float = field_for(1.0, "rmsprop")
    """Number added to the mean square."""
    l2: float = 0.0
    """Weight of L2: the loss gains l2 / 2 * sum(kernel^2) through its gradient, without biases,
    gammas and betas.
    """
    clip_norm: float | None = None
    """Largest global norm of the gradient; L2 included, as in TensorFlow's losses."""
    average_decay: float = 0.0
    """Decay of the moving averages of parameters and statistics, which are evaluated; 0 for
    none.
    """
    freeze: tuple[str, ...] = ()
    """Patterns of the paths of parameters that stay unchanged: Conv2d_*, Mixed_5b."""


@dataclass(frozen=True)
class Schedule:
    name: Literal["constant", "exponential", "piecewise", "polynomial", "cosine"] = "constant"
    """Schedule of the learning rate. polynomial and cosine end at the run's last step, so that
    its length is then part of its identity.
    """
    decay_rate: float = field_for(0.94, "exponential", "piecewise")
    decay_epochs: float = field_for(2.0, "exponential")
    """Epochs in which the rate is multiplied by decay_rate once."""
    staircase: bool = field_for(True, "exponential")
    """Decay at once at the end of decay_epochs, instead of a little at each step."""
    floor: float = field_for(0.0, "exponential")
    """Fraction of the initial rate below which it does not fall."""
    at_epochs: tuple[float, ...] = field_for((), "piecewise")
    """Epochs of the run at which the rate is multiplied by decay_rate."""
    power: float = field_for(1.0, "polynomial")
    """Exponent of (1 - the elapsed part of the run)."""
    warmup_epochs: float = 0.0
    """Epochs of a linear rise from 0."""


@dataclass(frozen=True)
class Objective:
    label_smoothing: float = 0.0
    """Share of the target that is spread evenly over all classes."""
    aux_weight: float = 0.3
    """Weight of each auxiliary head's loss."""


@dataclass(frozen=True)
class Experiment:
    """The resolved configuration of one run: the recipe with the command line's changes."""

    model: Model = Model()
    norm: Norm = Norm()
    data: Data = Data()
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    objective: Objective = Objective()
    batch_size: int = 64
    """Number of examples of a step, over all devices."""
    epochs: float = 1.0
    """Passes over the training set; on the command line they replace a recipe's steps."""
    steps: int | None = None
    """Number of updates of the parameters; replaces epochs where given."""
    seed: int = 0
    """Random seed for initialisation, order, augmentation and dropout, below 2^63."""
    format: Literal[1, 2, 3] = 3
    """Meaning of the fields, for runs of earlier versions. Formats before 3 have no
    data.orientation. Format 1 has periods, boundaries and warm-up in whole steps, logits at
    the platform's default precision, and black images in batch statistics for those that
    cannot be read.
    """
    examples_per_device: int | None = changeable_field(None)
    """Largest number of examples on a device at once; a larger share of the batch accumulates
    gradients. Groups of norm.examples_per_group stay whole; dropout masks differ.
    """
    parameter_shards: int = changeable_field(1)
    """Number of devices over which parameters, optimizer state and averages are sharded; 1
    replicates them.
    """
    require: str | None = changeable_field(None)
    """Devices that the run needs: tpu:32, gpu:8, cpu; of all processes together."""
    log_every_steps: int = changeable_field(20)
    profile_steps: str | None = changeable_field(None)
    """Steps to profile, 100:110, for TensorBoard's profiler or xprof, in the workdir's
    tensorboard/.
    """
    evaluate_every_epochs: float = changeable_field(1.0)
    """Period of evaluation in epochs; 0 evaluates only at the end."""
    checkpoint_every_epochs: float = changeable_field(1.0)
    """Period of checkpoints in epochs; 0 saves only at the end."""
    from_scratch: bool = changeable_field(False)
    """Restart from the first step if every checkpoint of the run is damaged, instead of exit
    code 65.
    """
    keep_checkpoints: int = changeable_field(2)
    """Number of the newest checkpoints to keep."""
    keep_best: int = changeable_field(0)
    """Number of checkpoints with the highest held-out top-1 to keep as well."""
    on_not_finite: Literal["stop", "skip_and_count"] = changeable_field("stop")
    """Handling of a NaN or infinite loss or gradient: the run stops, or the step changes nothing
    and is counted.
    """
    patience: int = changeable_field(0)
    """Number of evaluations in a row without a higher held-out top-1 after which the run ends; 0
    for none.
    """
    max_consecutive_skipped: int = changeable_field(50)
    """Number of skipped steps in a row that ends the run."""
    compilation_cache: str | None = changeable_field(None)
    """Folder of compiled programs, which the next start loads; off for none. The user's cache
    folder where not given, or none if several processes train.
    """
    init_from: str | None = changeable_field(None)
    """Workdir of another run, or weights file, to initialise from; arrays of equal name and
    shape are loaded, a head of other classes is new.
    """
    workdir: str | None = changeable_field(None)
    """Folder of the run; runs/<recipe> where not given."""

    @property
    def profile_span(self) -> tuple[int, int] | None:
        """Returns the first and the last step to profile; None for none."""
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
        """Returns a note about fields of an earlier version; empty where there are none."""
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
        """Whether the length of the run may change on resume, because no schedule depends on it."""
        return self.schedule.name not in ("polynomial", "cosine")

    def check(self) -> None:
        """Checks every field.

        Raises:
          ConfigError: A rule is broken; the message names the first one.
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
                    f"is {section.name}: it has a meaning for {', '.join(item.metadata['only'])} "
                    f"alone; leave it out, or change {path}.name"
                )

    def _numbers(self) -> Iterator[tuple[str, float]]:
        for name, value in _leaves(self):
            if isinstance(value, int | float) and not isinstance(value, bool):
                yield name, value

    def identity(self) -> dict[str, Any]:
        """Returns the fields, by dotted name, that must be the same when a run resumes."""
        free = {name for name, item in _items(self) if item.metadata.get("may_change")}
        if self.length_may_change:
            free |= {"epochs", "steps"}
        return {name: value for name, value in _leaves(self) if name not in free}


def list_inapplicable_fields(section: Any) -> list[dataclasses.Field]:
    """Returns the fields of a section that do not apply to its `name`."""
    return [
        item
        for item in dataclasses.fields(section)
        if section.name not in item.metadata.get("only", (section.name,))
    ]


def list_differences(old: Experiment, new: Experiment) -> list[str]:
    """Returns a line for each identity field that changed.

    A line is `optimizer.learning_rate: 0.045 -> 0.1`.
    """
    before, after = old.identity(), new.identity()
    names = [*before, *(name for name in after if name not in before)]
    pairs = [(name, attrgetter(name)(old), attrgetter(name)(new)) for name in names]
    return [f"{name}: {one!r} -> {other!r}" for name, one, other in pairs if one != other]


def to_json(experiment: Experiment) -> dict[str, Any]:
    """Returns the experiment in the form that `from_json` reads."""
    return dataclasses.asdict(experiment)


def list_shared_fields(experiment: Experiment) -> dict[str, Any]:
    """Returns the fields, by dotted name, that must be equal in all processes of a run.

    The folders of the data and of compiled programs, and the number of threads, may differ between
    hosts.
    """
    return {
        name: value
        for name, value in _leaves(experiment)
        if name not in ("data.directory", "data.threads", "compilation_cache")
    }


def from_json(fields: dict[str, Any]) -> Experiment:
    """Returns the experiment that `to_json` wrote.

    Raises:
      ConfigError: A field is unknown, has a value of another type, or breaks a rule.
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
    """Returns the configuration of the run in a workdir, on a disk or in an object store.

    Raises:
      ConfigError: There is none, or it cannot be read.
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
    """Returns the section of class `kind` with `fields`, read from JSON.

    Args:
      path: The dotted name of the section with a full stop, for messages.

    Raises:
      ConfigError: A field is unknown, or has a value of another type.
    """
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
