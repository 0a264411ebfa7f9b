"""BN-Inception of half the width on photographs of one's own, from nothing.

    inception-jax train photos --data.directory DIR

Source: none; fb.resnet.torch's momentum and weight decay, with a cosine schedule.
Data: a few thousand photographs in DIR/{train,test}/<class>/<image>; with `--data.holdout 0.2` in
DIR/<class>/<image>, of which a fifth of each class is held out.
Hardware: one GPU, or a CPU overnight.
Published: none.
Measured here: not yet run.
"""

from inception_jax.config import Data, Experiment, Model, Norm, Objective, Optimizer, Schedule

config = Experiment(
    # A quarter of the work of the full width, and fewer parameters for fewer images.
    model=Model("bn_inception", width_multiplier=0.5, dropout_rate=0.2),
    norm=Norm(examples_per_group=32),
    # Crops of a quarter of the area on: smaller ones often miss what is in a photograph.
    data=Data(
        "folder", image_size=160, resize="antialias", crop="area", crop_min_area=0.25, flip=True,
        colour="jitter", mixup=0.2, test_crop="square",
    ),
    optimizer=Optimizer("momentum", learning_rate=0.1, momentum=0.9, nesterov=True, l2=1e-4),
    schedule=Schedule("cosine", warmup_epochs=5),
    objective=Objective(label_smoothing=0.1),
    batch_size=64,
    epochs=60,
    evaluate_every_epochs=5,
    checkpoint_every_epochs=5,
)  # fmt: skip
