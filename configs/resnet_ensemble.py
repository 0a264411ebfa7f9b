"""Six ResNets of different depths, averaged: the entry that won ILSVRC 2015.

    inception-jax train resnet_ensemble      # the six in turn
    inception-jax train resnet_ensemble:1    # one of them, :1 to :6
    inception-jax evaluate runs/resnet_ensemble --crops 6 --sizes 224 256 384 480 640

Source: arXiv:1512.03385, section 4.1, table 5
Data: ImageNet 2012 (`inception-jax data prepare imagenet2012`), 1,281,167 training and 50,000
validation images.
Hardware: not printed; eight GPUs in facebook/fb.resnet.torch.
Published: 3.57 % top-5 error on the test set.
    The paper runs its networks fully convolutionally over whole images; the line above over the
    three squares that cover each.
Measured here: not yet run.
"""

from dataclasses import replace

from inception_jax.config import Model

from .recipes import RESNET, RESNET_ASSUMPTIONS

NETWORKS = (
    ("resnet34", "paper"),
    ("resnet34", "shortcut_c"),
    ("resnet50", "paper"),
    ("resnet101", "paper"),
    ("resnet152", "paper"),
)
members = (
    *(replace(RESNET, model=Model(name, variant)) for name, variant in NETWORKS),
    replace(RESNET, model=Model("resnet152", "paper"), seed=1),
)
assumptions = RESNET_ASSUMPTIONS | {
    "model.name": (
        "six models of different depth, two of 152 layers, are printed; the others here are those "
        "of table 4"
    ),
    "epochs": "not printed for these; the 90 of fb.resnet.torch",
}
