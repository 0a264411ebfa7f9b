"""From files to batches: what is read, in which order, and what happens to a pixel on the way."""
