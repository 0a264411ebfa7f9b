"""Values that several recipes share, to `replace` from; each recipe's docstring has its sources.

`assumptions` of a recipe says which of its values the source never published, and where they come
from instead.
"""

from inception_jax.config import Data, Experiment, Model, Norm, Objective, Optimizer, Schedule

# ImageNet, cropped by GoogLeNet's law (arXiv:1409.4842, section 6) and evaluated on the central
# crop.
IMAGENET_224 = Data(
    "imagenet2012",
    test_split="validation",
    orientation="ignore",
    image_size=224,
    crop="area",
    flip=True,
    test_crop="square",
    threads=16,
)

# ImageNet as TensorFlow's releases read it (slim/preprocessing/inception_preprocessing.py).
IMAGENET_299 = Data(
    "imagenet2012", test_split="validation", orientation="ignore", image_size=299, crop="height",
    crop_min_area=0.05, flip=True, colour="slim", test_crop="central", threads=16,
)  # fmt: skip

# "Batch Normalization", section 4.2: SGD with momentum, mini-batches of 32.
BN_PAPER = Experiment(
    norm=Norm(examples_per_group=32, decay=0.9997),
    data=IMAGENET_224,
    optimizer=Optimizer("momentum", momentum=0.9),
    batch_size=32,
    evaluate_every_epochs=1,
)
BN_PAPER_ASSUMPTIONS = {
    "optimizer.momentum": "no value is printed; 0.9 is GoogLeNet's",
    "optimizer.l2": "no value is printed, only that BN-x5 has a fifth; 2e-4 is Caffe's GoogLeNet's",
    "schedule.decay_rate": (
        "no rate is printed, only that BN-x5 decays six times faster; 0.96 in 8 epochs is "
        "GoogLeNet's"
    ),
    "data.colour": "no ranges are printed; TF-Slim's, and its fast mode for less distortion",
    "norm.decay": (
        "no moving average is described, only its population statistics; 0.9997 is TF-Slim's"
    ),
    "model.aux": "not described; left out",
    "batch_size": (
        "32 for each of the asynchronous workers, whose number is not printed; here one "
        "synchronous batch"
    ),
}

# "Rethinking the Inception Architecture", section 8: 50 replicas of 32, RMSProp, an averaged model.
RETHINKING = Experiment(
    norm=Norm(examples_per_group=32, decay=0.9997),
    data=IMAGENET_299,
    optimizer=Optimizer(
        "rmsprop",
        learning_rate=0.045,
        momentum=0.9,
        decay=0.9,
        epsilon=1.0,
        l2=4e-5,
        clip_norm=2.0,
        average_decay=0.9999,
    ),
    schedule=Schedule("exponential", decay_rate=0.94, decay_epochs=2),
    objective=Objective(label_smoothing=0.1, aux_weight=0.4),
    batch_size=1600,
    epochs=100,
)
RETHINKING_ASSUMPTIONS = {
    "optimizer.momentum": "the text names none for RMSProp; 0.9 is the release's",
    "optimizer.l2": "not in the text; the release's",
    "optimizer.average_decay": "the text says a running average; 0.9999 is the release's",
    "objective.aux_weight": "not in the text; the release's",
    "norm.decay": "not in the text; the release's",
    "optimizer.clip_norm": (
        "2.0 is printed, which norm is not; the global one here (the release clips nothing)"
    ),
}

# fb.resnet.torch: 90 epochs, Nesterov momentum, colour jitter and lighting.
RESNET = Experiment(
    model=Model("resnet50"), norm=Norm(examples_per_group=32, decay=0.9),
    data=Data(
        "imagenet2012", test_split="validation", orientation="ignore", image_size=224,
        resize="bicubic_antialias", crop="area", flip=True, colour="jitter", lighting=0.1,
        scaling="imagenet", test_crop="square", threads=16,
    ),
    optimizer=Optimizer("momentum", learning_rate=0.1, momentum=0.9, nesterov=True, l2=1e-4),
    schedule=Schedule("piecewise", decay_rate=0.1, at_epochs=(30, 60)), batch_size=256, epochs=90,
)  # fmt: skip
RESNET_ASSUMPTIONS = {
    "data.resize": "Torch's bicubic; Pillow's is the nearest here",
    "optimizer.l2": (
        "1e-4 as released, but on kernels alone, where the release has it on gammas and biases too"
    ),
}

# "Wide Residual Networks", section 3, on CIFAR.
WIDE = Experiment(
    model=Model("wrn_28_10"),
    norm=Norm(decay=0.9),
    data=Data(
        "cifar10",
        image_size=32,
        pad_and_crop=4,
        pad_with="reflection",
        flip=True,
        scaling="cifar10",
    ),
    optimizer=Optimizer("momentum", learning_rate=0.1, momentum=0.9, nesterov=True, l2=5e-4),
    schedule=Schedule("piecewise", decay_rate=0.2, at_epochs=(60, 120, 160)),
    batch_size=128,
    epochs=200,
)
WIDE_ASSUMPTIONS = {"optimizer.l2": "5e-4 as printed, but on kernels alone"}
