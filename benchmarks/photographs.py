"""JPEGs of 500x375 pixels, quality 92: random crops of the two photographs of scikit-learn."""

import io
from collections.abc import Iterator

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images


def photographs(count: int, seed: int = 0) -> Iterator[tuple[bytes, int]]:
    """Yields `count` times (JPEG, number of the photograph: 0 or 1)."""
    whole = [Image.fromarray(photograph) for photograph in load_sample_images().images]
    rng = np.random.default_rng(seed)
    for _ in range(count):
        which = int(rng.integers(2))
        width = int(rng.uniform(400, 560))
        height = width * 3 // 4
        left, top = (
            int(rng.integers(0, whole[which].width - width)),
            int(rng.integers(0, whole[which].height - height)),
        )
        cut = (
            whole[which]
            .crop((left, top, left + width, top + height))
            .resize((500, 375), Image.Resampling.LANCZOS)
        )
        file = io.BytesIO()
        cut.save(file, "JPEG", quality=92)
        yield file.getvalue(), which
