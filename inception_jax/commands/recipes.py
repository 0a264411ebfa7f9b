"""`inception-jax recipes`: the recipes to train."""

from inception_jax.atomic_io import format_json
from inception_jax.commands.cli_utils import new_parser


def recipes(arguments: list[str]) -> None:
    """List the recipes, with the network and the data of each. [--json]"""
    parser = new_parser("recipes", recipes.__doc__)
    parser.add_argument(
        "--json", action="store_true", help="for programs: a list with an object for each"
    )
    options = parser.parse_args(arguments)
    from inception_jax.recipes import list_recipe_members, list_recipes, load_recipe

    found = []
    for name in list_recipes():
        every = list_recipe_members(name)
        one = load_recipe(every[0])
        about = one.description.partition("\n")[0]
        found.append(
            {
                "name": name,
                "members": len(every),
                "model": one.config.model.name,
                "data": one.config.data.name,
                "description": about,
            }
        )
    if options.json:
        print(format_json(found, indent=1))
        return
    width = max(len(str(one["name"])) for one in found)
    for row in found:
        print(f"{row['name']:{width}}  {row['description']}")
