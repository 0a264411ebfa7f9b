"""`inception-jax recipes`: the recipes to train."""

from typing import Any

from inception_jax.atomic_io import format_json
from inception_jax.commands.cli_utils import new_parser


def recipes(arguments: list[str]) -> None:
    """List the recipes, with the network, the data and the published score of each. [--json]"""
    parser = new_parser("recipes", recipes.__doc__)
    parser.add_argument(
        "--json", action="store_true", help="for programs: a list with an object for each"
    )
    options = parser.parse_args(arguments)
    from inception_jax.report.tables import align_columns

    found = collect_recipes()
    if options.json:
        print(format_json(found, indent=1))
        return
    header = ("recipe", "network", "data", "top-1 error", "top-5 error", "published in")
    rows = []
    for one in found:
        score = one["published"] or {}
        errors = [score.get(name) for name in ("top1_error", "top5_error")]
        cells = ["" if error is None else f"{error} %" for error in errors]
        rows.append((one["name"], one["model"], one["data"], *cells, score.get("source", "")))
    print(align_columns(header, rows))


def collect_recipes() -> list[dict[str, Any]]:
    """Returns the name, network, data, published score and description of each recipe.

    The score is a row of `report/published.json`, None where there is none.
    """
    from inception_jax.recipes import list_recipe_members, list_recipes, load_recipe
    from inception_jax.report.published import read_published

    published = {row["key"]: row for row in read_published()}
    found = []
    for name in list_recipes():
        members = list_recipe_members(name)
        recipe = load_recipe(members[0])
        found.append(
            {
                "name": name,
                "members": len(members),
                "model": recipe.config.model.name,
                "data": recipe.config.data.name,
                "published": published.get(name),
                "description": recipe.description.partition("\n")[0],
            }
        )
    return found
