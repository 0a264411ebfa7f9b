"""Training as pure functions: objective, optimizer, state and steps, independent of devices."""
