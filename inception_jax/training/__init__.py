"""Training as pure functions: the objective, the optimizer, the state, the step. Nothing here knows of devices or files."""
