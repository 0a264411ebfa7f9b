"""`inception-jax finetune`: a trained network for the classes of a folder of images."""

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inception_jax.atomic_io import format_json, wrap_read_errors, write_atomically
from inception_jax.commands.cli_utils import (
    check_trained,
    format_scores,
    require_unused_path,
    shorten_path,
)
from inception_jax.compilation_cache import use_compilation_cache
from inception_jax.config import ConfigError, Experiment
from inception_jax.errors import escape_control_characters
from inception_jax.monitoring.progress import discard_line, log_line
from inception_jax.preemption import PreemptionHandler

if TYPE_CHECKING:
    from inception_jax.evaluation.predictions import Predictions
    from inception_jax.experiment import Run
    from inception_jax.finetuning.recipe import FineTuning
    from inception_jax.weights.trained_network import TrainedNetwork

HEAD_FILE, HEAD_FACTS = "head.safetensors", "head.json"


def finetune(arguments: list[str]) -> None:
    """Fine-tune a trained network on a folder of images; the same line goes on where it ended.

    WEIGHTS FOLDER [--output FILE] [--head-only] [--field value ...]

    FOLDER holds <class>/<image>, of which a part is held out, or {train,test}/<class>/<image>. A
    new classifier is fitted on the network's features first, then all layers are trained.
    """
    import tyro

    from inception_jax.checkpointing.run_record import collect_shared_facts
    from inception_jax.distributed.processes import join_processes, supervise_subprocess
    from inception_jax.finetuning.recipe import FineTuning, find_layout

    fields = tyro.cli(
        FineTuning, args=arguments, prog="inception-jax finetune", description=finetune.__doc__
    )
    fields.check()
    layout = find_layout(fields.folder)
    check_trained(fields.weights)
    output = fields.output or Path(f"{fields.name}.safetensors")
    require_unused_path(output)
    supervise_subprocess()
    with (
        PreemptionHandler() as preemption,
        join_processes(facts=collect_shared_facts) as processes,
        use_compilation_cache(),
    ):
        if processes:
            preemption.coordinate(processes.request_stop, processes.should_stop)
        from inception_jax.weights.trained_network import load_trained

        trained = load_trained(fields.weights)
        from inception_jax.finetuning.recipe import make_experiment

        config = make_experiment(fields, trained.card, layout)
        config = replace(config, workdir=fields.workdir or f"runs/{fields.name}")
        if Path(str(config.workdir)).resolve().is_relative_to(fields.folder.resolve()):
            raise ConfigError(
                f"the workdir {config.workdir} is in {fields.folder}, where it would be taken for "
                "a class: give a --workdir outside"
            )
        _finetune(fields, config, trained, output, preemption)


def _finetune(
    fields: "FineTuning",
    config: Experiment,
    trained: "TrainedNetwork",
    output: Path,
    preemption: PreemptionHandler,
) -> None:
    from etils import epath

    from inception_jax.checkpointing.workdir import create_workdir
    from inception_jax.commands.train import draw_run, keep_worst_examples, train_experiment
    from inception_jax.distributed.mesh import all_devices_placement
    from inception_jax.experiment import Run
    from inception_jax.finetuning.recipe import set_length
    from inception_jax.trainer.runs import find_best_step, open_run
    from inception_jax.weights.export.exporter import export_weights
    from inception_jax.weights.trained_network import load_trained

    assert config.workdir
    workdir = Path(config.workdir)
    run = Run(config, all_devices_placement())
    config = set_length(config, fields, len(run.train_source))
    is_primary = run.placement.is_primary
    tell = log_line if is_primary else discard_line
    run.check_test_data()
    if is_primary:
        create_workdir(epath.Path(workdir))
    tell(_format_images(fields, run))
    head_score = _prepare_head(fields, run, trained, workdir)
    tell(f"the new classifier alone: held-out {format_scores(head_score, len(run.class_names))}")
    best, score, where = workdir / HEAD_FILE, head_score, ""
    if not fields.head_only:
        config = replace(config, init_from=str(workdir / HEAD_FILE))
        splits = {
            config.data.train_split: run.train_source,
            config.data.test_split: run.test_source,
        }
        path, run = train_experiment(config, preemption, splits)
        step = find_best_step(str(path))
        where = f"; pictures in {shorten_path(path / 'report')}" if is_primary else ""
        tuned = open_run(f"{path}@{step}")
        tuned_score = _score(keep_worst_examples(path, run, tuned.state))
        if is_primary:
            draw_run(path)  # anew, with the mistakes of the best step instead of the last
        if tuned_score["top1"] >= head_score["top1"]:
            best, score = Path(f"{path}@{step}"), tuned_score
        else:
            tell(
                f"training all layers ends below the classifier alone (top-1 "
                f"{tuned_score['top1']:.2%}): the weights are those of the classifier alone"
            )
    if is_primary:
        export_weights(load_trained(str(best)), output)
        print(
            escape_control_characters(
                f"{output}: held-out {format_scores(score, len(run.class_names))}, the classifier "
                f"alone {head_score['top1']:.2%}{where}"
            )
        )


def _format_images(fields: "FineTuning", run: "Run") -> str:
    """Returns a line about the images, with what was guessed about them."""
    data, nested = run.config.data, getattr(run.train_source, "nested", 0)
    split = f"{fields.holdout:.0%} of each class, seed {fields.seed}" if data.holdout else "test"
    held_out = split if data.holdout else f"those in {data.test_split}"
    within = f"; {nested} are in folders within a class's folder" if nested else ""
    return (
        f"{fields.folder}: {len(run.class_names)} classes, {len(run.train_source):,} training "
        f"images, {len(run.test_source):,} held out ({held_out}){within}; {data.image_size} "
        f"pixels, crop {data.crop}, {'mirrored' if data.flip else 'not mirrored'}, norms "
        f"{'frozen' if run.config.norm.frozen else 'trained'}"
    )


def _prepare_head(
    fields: "FineTuning", run: "Run", trained: "TrainedNetwork", workdir: Path
) -> dict[str, float]:
    """Writes the trained network with a new classifier into the workdir; returns its scores.

    Raises:
      ConfigError: The workdir holds a run that began with other weights, images or fields.
    """
    from inception_jax.finetuning.classifier import fit_classifier
    from inception_jax.finetuning.head import (
        attach_head,
        collect_head_facts,
        load_or_compute_features,
        predict_with_head,
    )
    from inception_jax.trainer.runs import list_saved_steps
    from inception_jax.weights.export.exporter import export_weights

    if len(run.class_names) < 2:
        raise ConfigError(
            f"{fields.folder} has one class, {run.class_names[0]}: a classifier needs two or more"
        )
    facts = json.loads(format_json({**collect_head_facts(run, trained), "head_l2": fields.head_l2}))
    record, is_begun = workdir / HEAD_FACTS, bool(list_saved_steps(str(workdir)))
    if is_begun and (changed := _list_changes(record, facts)):
        raise ConfigError(
            f"{workdir} holds a fine-tuning that began with other {', '.join(changed)}: choose "
            "another --workdir, or move it away"
        )
    train, test = load_or_compute_features(run, trained, workdir)
    head = fit_classifier(train.features, train.labels, len(run.class_names), l2=fields.head_l2)
    if run.placement.is_primary and not is_begun:
        export_weights(attach_head(run, trained, head, run.class_names), workdir / HEAD_FILE)
        write_atomically(record, format_json(facts, indent=1))
    run.placement.broadcast_from_primary(0)  # the file is there for all
    return _score(predict_with_head(head, test))


def _list_changes(record: Path, facts: dict[str, Any]) -> list[str]:
    """Returns the names of the facts that differ from those of a record; all without one."""
    with wrap_read_errors(record, ConfigError, "choose another --workdir, or move it away"):
        recorded = json.loads(record.read_text()) if record.exists() else {}
        return [name for name in facts if recorded.get(name) != facts[name]]


def _score(found: "Predictions") -> dict[str, float]:
    """Returns top-1, top-5, loss and count of predictions."""
    from inception_jax.evaluation.predictions import compute_metrics

    metrics = compute_metrics(found)
    return {**metrics, "loss": metrics["nll"]}
