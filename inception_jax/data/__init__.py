"""The data of a run, from files to batches: sources, order, decoding, crops and augmentation."""
