"""Plans: what a recipe costs in steps, memory and time, before it is trained."""
