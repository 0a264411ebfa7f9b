"""Inception-v3 with a modern large-batch recipe: momentum, cosine, warm-up, mixup.

    inception-jax train inception_v3_large_batch

Source: GluonCV, image classification model zoo
Data: ImageNet 2012 (`inception-jax data prepare imagenet2012`), 1,281,167 training and 50,000
validation images.
Hardware: eight GPUs.
Published: 78.0 to 78.8 % top-1 (model zoo).
Measured here: not yet run.
"""

from dataclasses import replace

from inception_jax.config import Model, Norm, Objective, Optimizer, Schedule

from .recipes import IMAGENET_299, RETHINKING

config = replace(
    RETHINKING,
    model=Model("inception_v3", "torchvision"),
    norm=Norm(examples_per_group=128, decay=0.9),
    data=replace(
        IMAGENET_299,
        crop="area",
        crop_min_area=0.08,
        colour="jitter",
        lighting=0.1,
        mixup=0.2,
        scaling="imagenet",
        test_crop="square",
    ),
    optimizer=Optimizer("momentum", learning_rate=0.4, momentum=0.9, l2=1e-4),
    schedule=Schedule("cosine", warmup_epochs=5),
    objective=Objective(label_smoothing=0.1),
    batch_size=1024,
    epochs=200,
)
assumptions = {"model.aux": "not described; left out"}
