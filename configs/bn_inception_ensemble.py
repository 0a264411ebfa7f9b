"""The six networks of the batch normalisation paper's ensemble: BN-x30 with some of three changes.

    inception-jax train bn_inception_ensemble      # the six in turn
    inception-jax train bn_inception_ensemble:1    # one of them, :1 to :6
    inception-jax evaluate runs/bn_inception_ensemble --crops 144

Source: arXiv:1502.03167, section 4.2.3
Data: ImageNet 2012 (`inception-jax data prepare imagenet2012`), 1,281,167 training and 50,000
validation images.
Hardware: the paper: many asynchronous CPU workers (DistBelief). Here any number of devices; one
synchronous batch.
Published: 20.1 % top-1, 4.9 % top-5 error, 144 crops (figure 4); 4.82 % top-5 on the test set.
Measured here: not yet run.
"""

from dataclasses import replace

from inception_jax.config import Experiment

from .bn_x30 import config as bn_x30
from .recipes import BN_PAPER_ASSUMPTIONS


def member(
    seed: int, init_scale: float, dropout_rate: float, per_activation_in: tuple[str, ...]
) -> Experiment:
    return replace(
        bn_x30,
        model=replace(bn_x30.model, init_scale=init_scale, dropout_rate=dropout_rate),
        norm=replace(bn_x30.norm, per_activation_in=per_activation_in),
        seed=seed,
    )


LAST = ("Mixed_5b", "Mixed_5c")
members = (
    member(0, 1.5, 0.0, ()),
    member(1, 1.0, 0.05, ()),
    member(2, 1.0, 0.1, LAST),
    member(3, 1.5, 0.05, ()),
    member(4, 1.0, 0.05, LAST),
    member(5, 1.5, 0.1, LAST),
)
assumptions = BN_PAPER_ASSUMPTIONS | {
    "steps": "each network peaked after about 6e6",
    "model.init_scale": "larger initial weights are printed, how much larger is not; 1.5",
    "model.dropout_rate": "5 or 10 % is printed, which network has which is not",
    "norm.per_activation_in": (
        "the last hidden layers are printed; here the last two modules, in three of the six"
    ),
}
