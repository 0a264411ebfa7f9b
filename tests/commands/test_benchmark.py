import json

import pytest

from inception_jax.cli import main


@pytest.mark.slow
def test_benchmark_times_training_and_inference_and_layer_shares_add_up_to_one(capsys):
    assert (
        main(
            [
                "benchmark",
                "digits",
                "--model.name",
                "one",
                "--data.image-size",
                "16",
                "--rounds",
                "2",
                "--batch-size",
                "4",
                "--norm.examples-per-group",
                "2",
                "--json",
            ]
        )
        == 0
    )
    found = json.loads(capsys.readouterr().out)
    assert (found["batch_size"], found["examples_per_group"], found["rounds"]) == (4, 2, 2)
    assert found["rates"]["source"] == "measured here"
    for name in ("training", "inference"):
        about = found[name]
        low, high = about["spread"]
        assert 0 < low <= about["images_per_second"] <= high
        assert 0 < about["model_flops_utilization"] < about["of_roofline"]
        assert sum(layer["share"] for layer in about["layers"]) == pytest.approx(1)
    ratio = found["training"]["program_flops"] / found["inference"]["program_flops"]
    assert 2 < ratio < 6  # three times the products, and the optimizer
    assert found["training"]["layers"][0]["flops"] == 3 * found["inference"]["layers"][0]["flops"]


@pytest.mark.nightly
def test_benchmark_times_a_network_without_a_recipe_at_its_own_image_size(capsys):
    assert main(["benchmark", "one", "--rounds", "1"]) == 0
    said = capsys.readouterr()
    assert said.out.startswith(
        "one on 1 x cpu: 8 images of 16 px in float32, batch norm over 8, rewrites: "
        "project_before_pool\n"
    )
    assert "\ntraining " in said.out and "Stem/conv_3x3" in said.out  # noqa: PT018
    assert "compiling training" in said.err


@pytest.mark.parametrize(
    ("line", "code", "message"),
    [
        (["no_such"], 78, "no_such"),
        (["digits", "--rounds", "0"], 2, "rounds"),
        (["digits", "--model.rewrites", "faster"], 78, "no rewrite"),
    ],
)
def test_benchmark_refuses_unknown_networks_unknown_rewrites_and_zero_rounds(
    line, code, message, capsys
):
    try:
        found = main(["benchmark", *line])
    except SystemExit as exit_:
        found = exit_.code
    assert found == code
    assert message in capsys.readouterr().err
