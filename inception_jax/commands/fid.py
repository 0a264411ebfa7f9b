"""`inception-jax fid`: the distance between two sets of images, and its kin."""

import argparse
import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inception_jax.atomic_io import format_json, write_atomically
from inception_jax.commands.cli_utils import (
    check_trained,
    import_figures,
    new_parser,
    parse_output_path,
    parse_positive,
    require_unused_path,
)
from inception_jax.compilation_cache import use_compilation_cache
from inception_jax.config import ConfigError
from inception_jax.data.source import DataError
from inception_jax.errors import escape_control_characters
from inception_jax.monitoring.progress import log_line
from inception_jax.preemption import PreemptionHandler

if TYPE_CHECKING:
    from inception_jax.generative.extractor import Extractor
    from inception_jax.generative.feature_set import FeatureSet
    from inception_jax.generative.image_sets import ImageSet
    from inception_jax.generative.metrics import Labels
    from inception_jax.generative.presets import Preset
    from inception_jax.generative.scores import Score

WEIGHTS = "fid/2015-12-05"
REPORT = "fid_report"
INPUTS = (
    "a folder, .zip, .tar, .npz or .npy of images; idx:DIRECTORY/SPLIT, records:DIRECTORY/SPLIT or "
    "tfds:NAME/SPLIT; or statistics, .safetensors of `fid statistics`, .npz, .pt or .pkl of others"
)


def fid(arguments: list[str]) -> None:
    """Score generated images against real ones: FID, KID, IS, precision and recall, ...

    REAL FAKE [--preset NAME] [--metrics fid kid is pr dc sfid ...] [--json]; `fid statistics SET
    --output F.safetensors` saves the statistics of a set; `fid compare A B C --reference REAL`
    compares several sets with one reference.
    """
    commands = {"statistics": _save_statistics, "compare": _compare}
    if arguments and arguments[0] in commands:
        commands[arguments[0]](arguments[1:])
        return
    parser = _make_parser("fid", fid.__doc__)
    parser.add_argument("real", help=f"the reference: {INPUTS}")
    parser.add_argument("fake", help="the generated images, likewise")
    _add_score_flags(parser)
    options = parser.parse_args(arguments)
    _check_report(options)
    with _open_session(options, [options.real, options.fake]) as session:
        real, fake = session.inputs
        session.check([(real, fake)])
        own, others = session.collect(real, is_real=True), session.collect(fake)
        scores = session.score(own, others)
        if not session.is_primary:
            return
        facts = {"real": own.facts, "fake": others.facts}
        _print_scores(options, session.preset, {"": scores}, facts, [own, others])
        if not options.no_report:
            from inception_jax.generative.page import write_score_page

            images = (real.images, fake.images)
            page = write_score_page(options.output, scores, session.preset, (own, others), images)
            _save_scores(options, session.preset, {"": scores}, facts)
            log_line(f"report: {page}")


def _save_statistics(arguments: list[str]) -> None:
    """Save the statistics of a set of images, which later scores take instead of its images."""
    parser = _make_parser("fid statistics", _save_statistics.__doc__)
    parser.add_argument("images", help=INPUTS)
    parser.add_argument("--output", type=parse_output_path, help="F.safetensors")
    parser.add_argument(
        "--keep-features", action="store_true",
        help="keep what KID, IS, precision and recall need of each image: 8 KB for features",
    )  # fmt: skip
    parser.add_argument("--metrics", nargs="+", default=["fid"], help="with sfid for its features")
    options = parser.parse_args(arguments)
    name = Path(options.images.rstrip("/")).name.partition(".")[0].replace(":", "_") or "images"
    output = options.output or Path(f"{name}.stats.safetensors")
    if output.suffix != ".safetensors":
        raise ConfigError(f"--output {output}: statistics are kept in files called .safetensors")
    require_unused_path(output)
    from inception_jax.generative.statistics_file import save_statistics

    if not options.keep_features and set(options.metrics) - {"fid", "sfid"}:
        raise ConfigError(
            f"--metrics {' '.join(options.metrics)}: features of all images are saved with "
            "--keep-features, and mean and covariance without it"
        )
    with _open_session(options, [options.images]) as session:
        (given,) = session.inputs
        found = session.collect(given)
        if session.is_primary:
            save_statistics(output, found, keep_features=options.keep_features)
            for note in found.notes:
                log_line(f"{found.name}: {note}")
            count = "?" if found.count is None else f"{found.count:,}"
            size = f"{found.moments.size:,}"
            print(f"{output}: {count} images, {size} features, preset {session.preset.id}")


def _compare(arguments: list[str]) -> None:
    """Compare several sets of images with one reference: a table, and a picture."""
    parser = _make_parser("fid compare", _compare.__doc__)
    parser.add_argument("sets", nargs="+", help=INPUTS)
    parser.add_argument("--reference", help="the reference; the first set where not given")
    _add_score_flags(parser)
    options = parser.parse_args(arguments)
    sets = list(options.sets)
    reference = options.reference
    if reference is None:
        reference = sets.pop(0)
        log_line(f"reference: {reference}, the first set; --reference names another")
    _check_report(options)
    if len(set(sets)) < len(sets):
        raise ConfigError("a set is given twice: leave one of them out")
    if not sets:
        raise ConfigError("there is nothing to compare: give two sets or more, or a --reference")
    with _open_session(options, [reference, *sets]) as session:
        first, *others = session.inputs
        session.check([(first, one) for one in others])
        own = session.collect(first, is_real=True)
        scores, facts, found = {}, {"real": own.facts}, [own]
        for given in others:
            fake = session.collect(given)
            scores[given.text] = session.score(own, fake)
            facts[given.text] = fake.facts
            found.append(fake)
        if not session.is_primary:
            return
        _print_scores(options, session.preset, scores, facts, found)
        if not options.no_report:
            from inception_jax.generative.page import write_comparison

            page = write_comparison(options.output, own, scores, session.preset)
            _save_scores(options, session.preset, scores, facts)
            log_line(f"report: {page}")


def _make_parser(name: str, description: str | None) -> argparse.ArgumentParser:
    parser = new_parser(name, description)
    parser.add_argument(
        "--preset",
        help="the program whose settings are taken: pytorch-fid, torch-fidelity (where not given), "
        "torchmetrics, clean-fid, adm, stylegan or edm; own for features of any other network",
    )
    parser.add_argument(
        "--weights", default=WEIGHTS,
        help=f"a file of weights, or the id of a release; {WEIGHTS} where not given",
    )  # fmt: skip
    parser.add_argument(
        "--engine", choices=("auto", "xla", "onnx"), default="auto",
        help="what computes the network: ONNX Runtime on CPUs where it is installed, else XLA",
    )  # fmt: skip
    parser.add_argument("--batch-size", type=parse_positive, default=64, help="images of a step")
    parser.add_argument("--num", type=parse_positive, help="so many images of each set, at random")
    parser.add_argument("--seed", type=int, default=0, help="of --num")
    parser.add_argument(
        "--value-range", choices=("0..1", "-1..1", "0..255"), help="the range of arrays of floats"
    )
    parser.add_argument(
        "--skip-bad", action="store_true", help="leave out images that cannot be read, and say so"
    )
    parser.add_argument(
        "--blocks", type=_parse_count, default=10,
        help="blocks of the jackknife, behind intervals and bias; 0 for none",
    )  # fmt: skip
    return parser


def _add_score_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--metrics", nargs="+", default=["fid"],
        help="fid, fid_infinity, kid, is, pr (precision, recall), dc (density, coverage), sfid, "
        "class (by class), copies (nearness to training images)",
    )  # fmt: skip
    parser.add_argument(
        "--kid", help="subsets, blocks or all (pairs); the preset's where not given"
    )
    parser.add_argument("--kid-subset-size", type=parse_positive, help="images of a random subset")
    parser.add_argument("--is-splits", type=parse_positive, help="splits of the Inception Score")
    parser.add_argument(
        "--anyway", action="store_true",
        help="compare sets of two presets or of two weights, and say so",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print all, as JSON")
    parser.add_argument(
        "--output", type=parse_output_path, default=Path(REPORT),
        help=f"the folder of the report, {REPORT} where not given",
    )  # fmt: skip
    parser.add_argument("--no-report", action="store_true", help="draw nothing")


def _check_report(options: argparse.Namespace) -> None:
    """Raises an error for a report that could not be written at the end.

    Raises:
      ConfigError: Its folder is a file, or matplotlib is not installed.
    """
    if options.no_report:
        return
    if options.output.exists() and not options.output.is_dir():
        raise ConfigError(f"--output {options.output} is a file: name a folder for the report")
    import_figures()


@dataclass
class _Input:
    """A set as it was given: statistics, images, or both."""

    text: str
    statistics: "FeatureSet | None"
    images: "ImageSet | None"

    @property
    def count(self) -> int | None:
        if self.images is not None:
            return len(self.images)
        assert self.statistics is not None
        return self.statistics.count

    def get_labels(self) -> "Labels":
        """Returns labels and names of classes, before any feature is computed."""
        from inception_jax.generative.metrics import Labels

        known = self.statistics if self.images is None else self.images
        assert known is not None
        return Labels(self.text, known.labels, known.class_names)


class _Session:
    """The inputs, the settings and the network of a command."""

    def __init__(self, options: argparse.Namespace, texts: Sequence[str]):
        from inception_jax.generative.metrics import list_needs

        self._options = options
        self._needs = list_needs(options.metrics)
        asked = set(self._needs)
        self._needs_of_fake = asked - list_needs(options.metrics, of_real=True)
        if getattr(options, "keep_features", False):
            self._needs |= {"features", "logits"}
        elif not getattr(options, "no_report", True) and not hasattr(options, "sets"):
            self._needs |= {"features"}  # for the pictures of two sets
            self._needs_of_fake -= {"features"}
        self.preset = _choose_preset(options, texts)
        given = None if options.preset is None else self.preset
        self.inputs = [_open_input(text, given, asked, options) for text in texts]
        self._extractor: Extractor | None = None
        self.is_primary = True

    def check(self, pairs: "Sequence[tuple[_Input, _Input]]") -> None:
        """Raises an error for sets that cannot be compared, before anything is computed."""
        from inception_jax.generative.evaluator import check_statistics
        from inception_jax.generative.metrics import Sizes, check_kept, check_sizes, match_labels
        from inception_jax.generative.statistics_file import check_comparable

        metrics, anyway = self._options.metrics, self._options.anyway
        for real, fake in pairs:
            check_sizes(metrics, self.preset, Sizes(real.count, fake.count))
            known = []
            for one in (real, fake):
                if one.statistics is not None:
                    known.append(one.statistics)
                    kept = metrics if one.images is None else set(metrics) & {"fid", "sfid"}
                    check_kept(kept, one.statistics, is_real=one is real)
                    preset = {"preset": self.preset.id}
                    check_comparable(one.statistics.facts, preset, anyway=anyway)
            if "labels" in self._needs:
                match_labels(real.get_labels(), fake.get_labels())
            if len(known) == 2:
                check_comparable(known[0].facts, known[1].facts, anyway=anyway)
        for pair in pairs:  # last, since the network is loaded for it
            if any(one.images is not None for one in pair):
                for one in pair:
                    if one.statistics is not None:
                        check_statistics(one.statistics, self.extractor, anyway=anyway)

    def list_sets(self) -> list[str]:
        """Returns each set with its number of images and a digest of their names.

        All processes must have the same.
        """
        from inception_jax.data.facts import hash_file_list

        names = [() if one.images is None else one.images.names for one in self.inputs]
        digests = [hash_file_list((name, 0) for name in given) for given in names]
        return [
            f"{one.text}: {one.count} images, {digest}"
            for one, digest in zip(self.inputs, digests, strict=True)
        ]

    @property
    def extractor(self) -> "Extractor":
        """Returns the network, which is loaded where images are given."""
        if self._extractor is None:
            import jax

            from inception_jax.generative.extractor import Extractor
            from inception_jax.weights.trained_network import load_trained

            check_trained(self._options.weights)
            trained = load_trained(self._options.weights)
            engine = self._options.engine
            if engine == "auto":
                is_alone = jax.process_count() == 1 and trained.run.placement.devices == 1
                is_cpu = trained.run.placement.platform == "cpu" and is_alone
                has_onnx = all(map(importlib.util.find_spec, ("onnx", "onnxruntime")))
                engine = "onnx" if is_cpu and has_onnx else "xla"
            self._extractor = Extractor(
                trained, self.preset, spatial="spatial" in self._needs, engine=engine
            )
            if self.is_primary:
                log_line(_format_settings(self._extractor))
        return self._extractor

    def collect(self, given: _Input, *, is_real: bool = False) -> "FeatureSet":
        """Returns the features of a set, from its file or from its images."""
        if given.images is None:
            assert given.statistics is not None
            return given.statistics
        from inception_jax.data.stage_timer import count_cores
        from inception_jax.generative.collecting import collect_images
        from inception_jax.generative.presets import RANGES

        options = self._options
        found = collect_images(
            given.images,
            self.extractor,
            batch_size=options.batch_size,
            needs=self._needs - self._needs_of_fake if is_real else self._needs,
            blocks=options.blocks,
            value_range=RANGES.get(options.value_range or ""),
            skip_bad=options.skip_bad,
            threads=count_cores(),
            is_primary=self.is_primary,
        )
        if given.statistics is not None:
            notes = [
                *found.notes,
                *given.statistics.notes,
                f"FID is of its mu and sigma, and all else of its {len(given.images):,} images",
            ]
            found = replace(found, blocks=None, spatial_blocks=None, notes=notes)
            found.moments, found.spatial = given.statistics.moments, given.statistics.spatial
        return found

    def score(self, real: "FeatureSet", fake: "FeatureSet") -> "dict[str, Score]":
        """Returns the scores of two sets."""
        from inception_jax.generative.feature_set import count_shared
        from inception_jax.generative.metrics import compute_scores
        from inception_jax.generative.statistics_file import check_comparable

        notes = check_comparable(real.facts, fake.facts, anyway=self._options.anyway)
        if shared := count_shared(real.digests, fake.digests):
            notes.append(f"{shared:,} of its images are in {real.name}, pixel for pixel")
        fake.notes += [note for note in notes if note not in fake.notes]
        if not self.is_primary:
            return {}
        return compute_scores(self._options.metrics, real, fake, self.preset, log_line)


def _format_settings(extractor: "Extractor") -> str:
    facts = extractor.collect_facts()
    release = facts["weights_release"]
    origin = release if release != "unknown" else f"{facts['weights'][:12]}, of no known release"
    return (
        f"preset {facts['preset']} ({extractor.preset.program}): resize {facts['resize']}, "
        f"weights {origin}, {facts['engine']} on {facts['device']}, float32"
    )


@contextmanager
def _open_session(options: argparse.Namespace, texts: Sequence[str]) -> "Iterator[_Session]":
    """Yields the session of a command, joined to the other processes."""
    import jax
    import numpy as np
    from jax.experimental import multihost_utils

    from inception_jax.checkpointing.run_record import collect_shared_facts
    from inception_jax.distributed.processes import join_processes, supervise_subprocess

    supervise_subprocess()
    session = _Session(options, texts)
    with (
        join_processes(facts=lambda: {**collect_shared_facts(), "sets": session.list_sets()}),
        PreemptionHandler(),  # which has nothing to save here
        use_compilation_cache(),
    ):
        session.is_primary = jax.process_index() == 0
        yield session
        if jax.process_count() > 1:  # the others wait while the primary scores and draws
            multihost_utils.broadcast_one_to_all(np.int32(0))


def _choose_preset(options: argparse.Namespace, texts: Sequence[str]) -> "Preset":
    """Returns the preset, with the settings that flags change, and says which.

    Where none is given it is that of a file of statistics among the sets.
    """
    from inception_jax.generative.kernel_distance import Subsets
    from inception_jax.generative.presets import DEFAULT_PRESET, get_preset
    from inception_jax.generative.statistics_file import read_preset

    recorded = next(filter(None, map(read_preset, texts)), None)
    preset = get_preset(options.preset or recorded or DEFAULT_PRESET)
    kid, size = getattr(options, "kid", None), getattr(options, "kid_subset_size", None)
    changes: dict[str, Any] = {}
    if kid is not None:
        if kid not in ("subsets", "blocks", "all"):
            raise ConfigError(f"--kid {kid}: there are subsets, blocks and all (pairs)")
        own = preset.kid if isinstance(preset.kid, Subsets) else Subsets()
        changes["kid"] = own if kid == "subsets" else kid
    if size is not None:
        drawn = changes.get("kid", preset.kid)
        if kid in ("blocks", "all") or size < 2:
            raise ConfigError(
                f"--kid-subset-size {size}: random subsets (--kid subsets) have a size, from 2 on"
            )
        changes["kid"] = replace(drawn if isinstance(drawn, Subsets) else Subsets(), size=size)
    if getattr(options, "is_splits", None):
        changes["splits"] = replace(preset.splits, count=options.is_splits, run=0)
    if changes:
        log_line(f"other settings than those of {preset.id}: {', '.join(changes)}")
    return replace(preset, **changes)


def _open_input(
    text: str, preset: "Preset | None", needs: set[str], options: argparse.Namespace
) -> _Input:
    """Returns a set: statistics if the file is of some, else images."""
    from inception_jax.generative.image_sets import (
        IMAGE_ARRAYS,
        open_image_set,
        open_npz,
        select_images,
    )
    from inception_jax.generative.statistics_file import is_statistics, read_statistics

    statistics, images = None, None
    if is_statistics(text):
        statistics = read_statistics(text, preset)
        has_both = text.endswith(".npz") and IMAGE_ARRAYS[0] in open_npz(Path(text))  # ADM's
        if has_both and needs & {"features", "logits"}:
            images = open_image_set(text)
    else:
        images = open_image_set(text, with_labels="labels" in needs)
    if images is not None and not images.is_float and options.value_range is not None:
        log_line(f"--value-range is not of {text}, whose images are bytes")
    if images is not None:
        images.check_range(options.value_range)
    if images is None and options.num is not None:
        raise ConfigError(f"--num is for images, and {text} has statistics: leave it out")
    if images is not None and options.num is not None:
        if options.num > len(images):
            raise DataError(
                f"{text} has {len(images):,} images, and --num asks for {options.num:,}"
            )
        images = select_images(images, _choose_images(len(images), options.num, options.seed))
    return _Input(text, statistics, images)


def _choose_images(count: int, num: int, seed: int) -> list[int]:
    """Returns the indices of a random part, sorted; StyleGAN's and EDM's choice for the seed."""
    import numpy as np

    indices = np.arange(count)
    np.random.RandomState(seed % 2**31).shuffle(indices)
    return sorted(indices[:num].tolist())


def _parse_count(text: str) -> int:
    """Returns the value of a flag, a number from 0."""
    if int(text) < 0:
        raise argparse.ArgumentTypeError(f"{text} is below 0")
    return int(text)


def _format_results(
    preset: "Preset", scores: "Mapping[str, Mapping[str, Score]]", facts: Mapping[str, Any]
) -> str:
    from inception_jax.generative.metrics import score_to_json

    found = {
        text: {name: score_to_json(score) for name, score in own.items()}
        for text, own in scores.items()
    }
    return format_json(
        {"preset": preset.id, "scores": found.get("", found), "sets": dict(facts)}, indent=1
    )


def _save_scores(
    options: argparse.Namespace,
    preset: "Preset",
    scores: "Mapping[str, Mapping[str, Score]]",
    facts: Mapping[str, Any],
) -> None:
    write_atomically(options.output / "scores.json", _format_results(preset, scores, facts))


def _print_scores(
    options: argparse.Namespace,
    preset: "Preset",
    scores: "Mapping[str, Mapping[str, Score]]",
    facts: Mapping[str, Any],
    sets: "Sequence[FeatureSet]",
) -> None:
    """Prints the scores on standard output, and the notes on standard error."""
    from inception_jax.generative.evaluator import format_score

    for one in sets:
        for note in one.notes:
            log_line(f"{one.name}: {note}")
    for text, own in scores.items():
        for name, score in own.items():
            for note in score.notes:
                log_line(f"{text} {name}: {note}".strip())
    if options.json:
        print(_format_results(preset, scores, facts))
        return
    for text, own in scores.items():
        label = f"{escape_control_characters(text)}: " if text else ""
        for name, score in own.items():
            print(f"{label}{name} {format_score(score)}")
