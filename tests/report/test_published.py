import json
import re

import pytest

from inception_jax.cli import main
from inception_jax.recipes import list_recipe_members, list_recipes, load_recipe
from inception_jax.report.published import format_published_comparison, read_published

ROWS = {row["key"]: row for row in read_published()}
# Our own recipes, and two whose paper has curves without a printed score.
WITHOUT_SCORE = {"digits", "photos", "mnist", "mnist_bn"}


def test_published_rows_have_the_same_fields_and_unique_keys():
    assert len(ROWS) == len(read_published())
    fields = {
        "key",
        "model",
        "source",
        "top1_error",
        "top5_error",
        "crops",
        "models",
        "image_size",
        "images",
    }
    for row in read_published():
        assert fields <= row.keys() <= fields | {"steps_to_72_2", "learning_rate"}
        assert row["top1_error"] or row["top5_error"]


def test_the_published_steps_give_bn_x5_a_speed_up_of_14_8():
    """31.0e6 over 2.1e6 steps is 14.8; the abstract says 14 times (arXiv:1502.03167)."""
    speed_up = ROWS["inception"]["steps_to_72_2"] / ROWS["bn_x5"]["steps_to_72_2"]
    assert speed_up == pytest.approx(14.8, abs=0.05)
    assert ROWS["bn_x30"]["learning_rate"] / ROWS["inception"]["learning_rate"] == pytest.approx(30)


@pytest.mark.parametrize("name", sorted(set(list_recipes()) - WITHOUT_SCORE))
def test_the_description_of_a_recipe_contains_its_published_score(name):
    """The score is an error or an accuracy, in percent."""
    row = ROWS[name]
    text = load_recipe(list_recipe_members(name)[0]).description
    published = text[text.index("Published:") : text.index("Measured here:")]
    printed = [float(number) for number in re.findall(r"\d+(?:\.\d+)?", published)]
    for error in (row["top1_error"], row["top5_error"]):
        assert error is None or {round(error, 2), round(100 - error, 2)} & set(printed), error


def test_report_compares_runs_with_the_published_scores(tmp_path, capsys):
    run = tmp_path / "bn_x5"
    run.mkdir()
    (run / "metrics.jsonl").write_text(
        "".join(
            json.dumps({"step": step, "val/top1": top1}) + "\n"
            for step, top1 in ((1, 0.5), (2, 0.7312))
        )
    )
    assert main(["report", "--published", str(run)]) == 0
    lines = capsys.readouterr().out.splitlines()
    (line,) = [line for line in lines if line.startswith("bn_x5 ")]
    assert re.search(r"27(\.0)? .*26\.88", line)
    assert sum("not run" in line for line in lines) == len(ROWS) - 1
    assert format_published_comparison(read_published(), {}).count("not run") == len(ROWS)
    assert main(["report"]) == 78
    assert main(["report", "--published", str(tmp_path)]) == 78
