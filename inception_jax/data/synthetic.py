"""Images that are made, not read: learnable, of any number, the same for ever."""

import numpy as np

from inception_jax.data.source import DataError, Example


class SyntheticSource:
    """Stripes in ten directions under noise, 64x64 pixels: learnable, the same for ever.

    The splits are `train` (a million) and `test` (10,000); `train[:5000]` is a part.
    """

    class_names = tuple(f"{18 * label} degrees" for label in range(10))

    def __init__(self, split: str, directory: str | None):
        lengths = {"train": 1_000_000, "test": 10_000}
        if split not in lengths:
            raise DataError(
                f"synthetic has no split {split!r}; it has train and test, and parts like "
                "train[:5000]"
            )
        self._length = lengths[split]
        self._split = list(lengths).index(split)

    def __len__(self) -> int:
        return self._length

    def fingerprint(self) -> str:
        """Returns the number of this form of the stripes."""
        return "stripes 1"

    def __getitem__(self, index: int) -> Example:
        words = np.random.Philox(key=[self._split, index]).random_raw(1 + 64 * 64 // 8)
        label, phase = int(words[0] % np.uint64(10)), float(words[0] >> np.uint64(32)) / 2**32
        rows, columns = np.mgrid[:64, :64]
        angle = np.pi * label / 10
        wave = np.sin(2 * np.pi * ((rows * np.cos(angle) + columns * np.sin(angle)) / 8 + phase))
        noise = words[1:].view(np.uint8).reshape(64, 64)
        return Example((0.5 * noise + 63 * (1 + wave)).astype(np.uint8), label)
