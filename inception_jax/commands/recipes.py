"""`inception-jax recipes`: what there is to train."""

from inception_jax.commands.line import new_parser
from inception_jax.files import json_text


def recipes(arguments: list[str]) -> None:
    """List the recipes, with the network and the data of each. [--json]"""
    parser = new_parser("recipes", recipes.__doc__)
    parser.add_argument("--json", action="store_true", help="for programs: a list with an object for each")
    options = parser.parse_args(arguments)
    from inception_jax.recipes import members, names, recipe

    found = []
    for name in names():
        every = members(name)
        one = recipe(every[0])
        about = one.description.partition("\n")[0]
        found.append(
            {"name": name, "members": len(every), "model": one.config.model.name, "data": one.config.data.name, "description": about}
        )
    if options.json:
        print(json_text(found, indent=1))
        return
    width = max(len(str(one["name"])) for one in found)
    for row in found:
        print(f"{row['name']:{width}}  {row['description']}")
