"""Tools that explain a run: comparison, replay, inspection of data."""
