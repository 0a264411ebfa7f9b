"""GoogLeNet (Inception-v1), as its paper describes it.

    inception-jax train googlenet

Source: arXiv:1409.4842, sections 5 and 6
Data: ImageNet 2012 (`inception-jax data prepare imagenet2012`), 1,281,167 training and 50,000
validation images.
Hardware: the paper: asynchronous CPU workers (DistBelief), "a few high-end GPUs within a week" as
an estimate.
Published: 10.07 % top-5 error, single crop, one network (table 3).
Measured here: not yet run.
"""

from dataclasses import replace

from inception_jax.config import Experiment, Model, Objective, Optimizer, Schedule

from .recipes import IMAGENET_224

config = Experiment(
    model=Model("googlenet", aux=True),
    data=replace(IMAGENET_224, colour="slim"),
    optimizer=Optimizer(
        "momentum", learning_rate=0.01, momentum=0.9, l2=2e-4, average_decay=0.9999
    ),
    schedule=Schedule("exponential", decay_rate=0.96, decay_epochs=8),
    objective=Objective(aux_weight=0.3),
    batch_size=32,
    epochs=250,
)
assumptions = {
    "optimizer.learning_rate": "not printed; Caffe's",
    "optimizer.l2": "not printed; Caffe's",
    "optimizer.average_decay": (
        "Polyak averaging is named without a value; 0.9999 is TensorFlow's Inception-v3's"
    ),
    "batch_size": "not printed; Caffe's",
    "epochs": "not printed; what Caffe's step policy takes",
    "data.colour": "Howard's distortions are named without their ranges; TF-Slim's",
}
