"""Pictures of a run. Reads files only, and runs where JAX is not installed."""
