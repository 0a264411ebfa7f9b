"""Scores by name: their numbers of images, bias, intervals and notes."""

from dataclasses import replace

import numpy as np
import pytest

from inception_jax.config import ConfigError
from inception_jax.data.source import DataError
from inception_jax.generative.feature_set import FeatureSet, ParkedBlocks
from inception_jax.generative.frechet import jackknife_distance, moments_from_rows
from inception_jax.generative.inception_score import Splits
from inception_jax.generative.kernel_distance import Subsets
from inception_jax.generative.metrics import (
    SET_METRICS,
    Sizes,
    check_sizes,
    compute_scores,
    list_needs,
    score_to_json,
)
from inception_jax.generative.presets import PRESETS, Neighbourhood
from inception_jax.generative.statistics import FeatureSums
from tests.generative.samples import EXPECTED, load

FEATURES = load("features_fixture")
PRESET = replace(PRESETS["torch-fidelity"], kid=Subsets(10, 100))


def sums(rows):
    return FeatureSums(len(rows), rows.sum(0), rows.T @ rows)


def make_set(rows, name="photos", blocks=0, **fields):
    own = [sums(rows[np.arange(len(rows)) % blocks == i]) for i in range(blocks)]
    parked = ParkedBlocks(sums(rows), own) if blocks else None
    return FeatureSet(name, moments_from_rows(rows), features=rows, blocks=parked, **fields)


def make_sets(blocks=0):
    real = make_set(FEATURES["real"], "real", blocks, labels=np.arange(300) % 3)
    fake = make_set(
        FEATURES["fake"], "fake", blocks, labels=np.arange(260) % 3, logits=FEATURES["fake_logits"]
    )
    return real, fake


def test_all_metrics_have_the_values_of_other_programs():
    names = [name for name in SET_METRICS if name != "sfid"]
    found = compute_scores(names, *make_sets(), PRESET)
    expected = {
        "fid": EXPECTED["fid"]["pytorch-fid 0.3.0"],
        "kid": EXPECTED["kid"][
            "torch-fidelity 0.4.0: 10 subsets of 100, RandomState(2020), fake drawn first"
        ][0],
        "inception_score": EXPECTED["inception_score"][
            "torch-fidelity 0.4.0, 10 splits, shuffle=True"
        ][0],
        "precision": 226 / 260,
        "recall": 135 / 300,
        "density": EXPECTED["prdc"]["prdc 0.2, nearest_k=5"]["density"],
        "coverage": EXPECTED["prdc"]["prdc 0.2, nearest_k=5"]["coverage"],
    }
    for name, value in expected.items():
        assert found[name].value == pytest.approx(value, rel=1e-12), name
    assert set(found) - set(expected) == {
        "fid_infinity", "classwise_fid", "conditional_fid", "authenticity",
        "memorisation_distance",
    }  # fmt: skip
    for score in found.values():
        assert score.num_fake == 260
        assert score.num_real in (300, None)


def test_the_interval_is_the_block_jackknife_of_both_sets():
    real, fake = make_sets(blocks=10)
    score = compute_scores(["fid"], real, fake, PRESET)["fid"]

    def leave_out(rows):
        return lambda block: moments_from_rows(rows[np.arange(len(rows)) % 10 != block])

    expected = jackknife_distance(
        score.value, leave_out(FEATURES["real"]), leave_out(FEATURES["fake"]), 10
    )
    # The blocks are float32, and a bias is nine times a small difference.
    assert score.bias == pytest.approx(expected.bias, rel=1e-4)
    assert score.deviation == pytest.approx(expected.deviation, rel=1e-4)
    assert score.bias > 0


def test_against_a_reference_without_blocks_the_generated_set_alone_is_left_out():
    real, fake = make_sets(blocks=10)
    real.blocks = None
    score = compute_scores(["fid"], real, fake, PRESET)["fid"]
    assert score.deviation is not None
    assert any("the reference is held fixed" in note for note in score.notes)


def test_few_images_have_an_interval_from_their_rows_and_a_note():
    rows = load("rank_deficient_fixture")
    sets = [FeatureSet(name, moments_from_rows(rows[name])) for name in "ab"]
    score = compute_scores(["fid"], *sets, PRESET)["fid"]
    assert score.value == pytest.approx(61.90668318569289, rel=1e-12)
    assert score.bias is not None
    assert sum("64 images for 512 features" in note for note in score.notes) == 2


def test_a_set_against_itself_is_0_and_says_so():
    digests = np.random.default_rng(0).integers(0, 256, (300, 16), np.uint8)
    real = make_set(FEATURES["real"], "real", digests=digests)
    again = make_set(FEATURES["real"][::-1], "again", digests=digests[::-1])
    score = compute_scores(["fid"], real, again, PRESET)["fid"]
    assert score.value == 0
    assert "both sets have the same images" in score.notes
    again.digests = None
    score = compute_scores(["fid"], real, again, PRESET)["fid"]
    assert score.value == 0
    assert "the sets are alike to rounding, which gives 0" in score.notes


def test_stylegans_preset_takes_its_own_ddof():
    score = compute_scores(["fid"], *make_sets(), PRESETS["stylegan"])["fid"]
    assert score.value == pytest.approx(EXPECTED["fid"]["StyleGAN3 form (ddof 0)"], rel=1e-12)


def test_adms_preset_takes_the_first_reference_images_alone():
    preset = replace(PRESETS["adm"], neighbourhood=Neighbourhood(reference=200))
    found = compute_scores(["pr"], *make_sets(), preset)
    assert found["recall"].num_real == 200
    assert any("the first 200 reference images" in note for note in found["recall"].notes)


def test_a_preset_without_a_kernel_distance_takes_all_pairs_and_says_so():
    score = compute_scores(["kid"], *make_sets(), PRESETS["adm"])["kid"]
    expected = EXPECTED["kid"]["all pairs, unbiased (nicefid's form)"]
    assert score.value == pytest.approx(expected, rel=1e-12)
    assert score.notes == ("all pairs",)
    assert score.bias == 0
    assert score.deviation > 0


def test_spatial_features_have_their_own_distance():
    real, fake = make_sets()
    with pytest.raises(DataError, match="sfid needs spatial features, which real has not"):
        compute_scores(["sfid"], real, fake, PRESET)
    real.spatial, fake.spatial = real.moments, fake.moments
    score = compute_scores(["sfid"], real, fake, PRESET)["sfid"]
    assert score.value == pytest.approx(EXPECTED["fid"]["pytorch-fid 0.3.0"], rel=1e-12)


def test_classes_are_matched_by_name():
    real, fake = make_sets()
    real.class_names, fake.class_names = ("cat", "dog", "fox"), ("dog", "fox", "cat")
    fake.labels = (fake.labels + 2) % 3
    plain = compute_scores(["class"], *make_sets(), PRESET)
    named = compute_scores(["class"], real, fake, PRESET)
    assert named["classwise_fid"].value == plain["classwise_fid"].value
    fake.class_names = ("dog", "wolf", "cat")
    with pytest.raises(DataError, match="classes that real has not, wolf"):
        compute_scores(["class"], real, fake, PRESET)


@pytest.mark.parametrize(
    ("metrics", "sizes", "message"),
    [
        (["fid"], (1, 100), "fid needs 2 images of each set, and the reference has 1"),
        (["fid", "kid"], (5000, 100), "subsets of 1,000 images, and a set has 100"),
        (["is"], (None, 5), "5 images were to be split into 10"),
        (["pr"], (3, 100), "pr needs 4 images"),
        (["dc"], (100, 5), "dc needs 6 images"),
    ],
)
def test_sets_that_are_too_small_are_refused_before_anything_is_computed(metrics, sizes, message):
    with pytest.raises(DataError, match=message):
        check_sizes(metrics, PRESETS["torch-fidelity"], Sizes(*sizes))


def test_clean_fids_subsets_shrink_with_the_set():
    check_sizes(["kid"], PRESETS["clean-fid"], Sizes(100, 50))


def test_a_large_and_a_small_set_have_a_kernel_distance_without_an_interval():
    real = make_set(np.random.default_rng(0).normal(size=(5001, 64)), "real")
    fake = make_set(FEATURES["fake"][:11], "fake")
    score = compute_scores(["kid"], real, fake, PRESETS["adm"])["kid"]
    assert np.isfinite(score.value)
    assert score.deviation is None
    with pytest.raises(DataError, match="fewer than two to a block"):
        check_sizes(["kid"], replace(PRESET, kid="blocks"), Sizes(50_000, 60))


def test_labels_may_be_any_numbers_and_some_classes_may_lack():
    real, fake = make_sets()
    real.labels, fake.labels = real.labels * 12_345_678, fake.labels * 12_345_678
    plain = compute_scores(["class"], *make_sets(), PRESET)
    found = compute_scores(["class"], real, fake, PRESET)
    assert found["conditional_fid"].value == plain["conditional_fid"].value
    real, fake = make_sets()
    real.class_names, fake.class_names = ("cat", "dog", "fox"), ("dog", "fox")
    fake.labels = np.arange(260) % 2
    assert compute_scores(["class"], real, fake, PRESET)["classwise_fid"].value > 0


def test_the_same_images_under_two_presets_are_not_0():
    digests = np.random.default_rng(0).integers(0, 256, (260, 16), np.uint8)
    real, fake = make_set(FEATURES["real"][:260], digests=digests), make_sets()[1]
    fake.digests = digests
    real.facts, fake.facts = {"preset": "adm/1"}, {"preset": "clean-fid/1"}
    score = compute_scores(["fid"], real, fake, PRESET)["fid"]
    assert score.value > 1
    assert "both sets have the same images" in score.notes


def test_what_has_to_be_kept_is_known_and_unknown_metrics_are_refused():
    assert list_needs(["fid"]) == set()
    assert list_needs(["kid", "is", "sfid"]) == {"features", "logits", "spatial"}
    with pytest.raises(ConfigError, match="there is no metric 'fld': there are fid"):
        list_needs(["fld"])


def test_a_score_as_json_has_its_interval():
    score = compute_scores(["is"], *make_sets(), replace(PRESET, splits=Splits()))
    found = score_to_json(score["inception_score"])
    low, high = found["interval"]
    assert low < found["value"] < high
    assert high - low == pytest.approx(2 * 1.96 * found["deviation"])
