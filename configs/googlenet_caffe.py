"""GoogLeNet as Caffe trained it: the quick solver.

    inception-jax train googlenet_caffe

Source: BVLC/caffe, models/bvlc_googlenet
Data: ImageNet 2012 (`inception-jax data prepare imagenet2012`), 1,281,167 training and 50,000
validation images.
Hardware: one GPU.
Published: 68.7 % top-1, 88.9 % top-5, central crop (its README).
Measured here: not yet run.
"""

from dataclasses import replace

from inception_jax.config import Experiment, Model, Objective, Optimizer, Schedule

from .recipes import IMAGENET_224

config = Experiment(
    model=Model("googlenet", "caffe", aux=True),
    data=replace(IMAGENET_224, crop="none"),
    optimizer=Optimizer("momentum", learning_rate=0.01, momentum=0.9, l2=2e-4),
    schedule=Schedule("polynomial", power=0.5),
    objective=Objective(aux_weight=0.3),
    batch_size=32,
    steps=2_400_000,
)
assumptions = {
    "data.crop": (
        "256x256 images and random crops of 224 in the release; whole images resized to 224 here"
    )
}
