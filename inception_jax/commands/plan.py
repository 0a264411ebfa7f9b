"""`inception-jax plan`: what a recipe will do, before anything is trained."""

from inception_jax.commands.line import configured, named
from inception_jax.recipes import members, recipe


def plan(arguments: list[str]) -> None:
    """Say what a recipe will do, and which of its values were never published. RECIPE [--field value ...]"""
    from inception_jax.experiment import Run
    from inception_jax.mesh import everything
    from inception_jax.plan.outline import outline

    name, fields = named(arguments)
    for i, member in enumerate(members(name)):
        config = configured("plan", [member, *fields])
        print("\n" * (i > 0) + f"{recipe(member).name}:")
        for line in outline(Run(config, everything()), recipe(member).stand_in):
            print(line)
