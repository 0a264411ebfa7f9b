import os
import subprocess
import sys

import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

from inception_jax.data.prepare import Preparation
from tests.conftest import ROOT


@pytest.mark.nightly
@pytest.mark.skipif(
    not os.path.exists("/proc/self/status"), reason="resident size is read from Linux's /proc"
)
def test_the_input_pipeline_uses_no_more_memory_after_2000_batches_than_after_200(tmp_path):
    for which, photograph in enumerate(load_sample_images().images):
        for i in range(40):
            file = tmp_path / "tree" / "train" / str(which) / f"{i}.jpg"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(photograph[i : i + 375, 2 * i : 2 * i + 500]).save(file, quality=92)
    preparation = Preparation(tmp_path / "tree", tmp_path / "records")
    for shard in preparation.shards:
        preparation.write(shard)
    preparation.finish()
    out = subprocess.run(
        [sys.executable, "-m", "tests.resident", str(tmp_path / "records")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        check=True,
    )
    early, late = map(int, out.stdout.split())
    assert late < 1.1 * early, (early, late)
