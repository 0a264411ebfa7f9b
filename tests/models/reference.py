"""Reference counts of the tables.

(name, variant) -> parameters, statistics, multiply-adds, auxiliary parameters.

The counts are those at the source's input size and number of classes; the first three are without
auxiliary heads. The comment of each group names the source of the numbers: the released code, its
graph or its prototxt. Counts of networks that no release has are summed by hand here.
"""

UNITS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}


def projections(depth, option):
    """Returns parameters, statistics and multiply-adds of the 1x1 shortcuts of a ResNet at 224 px.

    Source: arXiv:1512.03385, section 4.1.
    """
    parameters = statistics = multiply_adds = 0
    inputs = 64
    for stage, units in enumerate(UNITS[depth]):
        outputs, grid = 64 * 2**stage * (4 if depth >= 50 else 1), 56 // 2**stage
        for _ in range(units):
            if option == "C" or inputs != outputs:
                parameters += inputs * outputs + 2 * outputs
                statistics += 2 * outputs
                multiply_adds += inputs * outputs * grid * grid
            inputs = outputs
    return parameters, statistics, multiply_adds


def shortcuts(depth, b):
    """Returns the counts of options A (no projection) and C (all projections) from those of B."""
    counts = {option: projections(depth, option) for option in "BC"}
    a = tuple(total - part for total, part in zip(b, counts["B"], strict=True))
    c = tuple(total + part for total, part in zip(a, counts["C"], strict=True))
    return {(f"resnet{depth}", "shortcut_a"): (*a, 0), (f"resnet{depth}", "shortcut_c"): (*c, 0)}


def plain(depth, b):
    return {(f"plain{depth}", "paper"): shortcuts(depth, b)[f"resnet{depth}", "shortcut_a"]}


V3_AUX, V3_AUX_BETA = 3_326_696, 3_325_800
RESNET_18, RESNET_34 = (11_689_512, 9_600, 1_814_073_344), (21_797_672, 17_024, 3_663_761_408)
RESNET_50, RESNET_101 = (25_557_032, 53_120, 3_857_973_248), (44_549_160, 105_344, 7_570_194_432)
RESNET_152 = (60_192_808, 151_424, 11_282_415_616)
# Figure 5 with GoogLeNet's auxiliary heads on its 576 channels: twice pool, 1x1 to 128 with norm,
# 2048 -> 1024 -> 1000.
BN_AUX = 2 * (576 * 128 + 2 * 128 + 2048 * 1024 + 1024 + 1024 * 1000 + 1000)

REFERENCE = {
    # BVLC/caffe, bvlc_googlenet/train_val.prototxt
    ("googlenet", "paper"): (6_998_552, 0, 1_582_671_872, 6_379_728),
    ("googlenet", "caffe"): (6_998_552, 0, 1_582_671_872, 6_379_728),
    # torchvision googlenet.py; tensorflow/models slim inception_v1.py
    ("googlenet", "torchvision"): (6_624_904, 14_560, 1_498_376_192, 6_379_984),
    ("googlenet", "tf_slim"): (6_617_624, 14_560, 1_498_376_192, 0),
    # Derived from table 1 of arXiv:1409.4842: gamma and beta for the biases; 2,712 weights for the
    # 9,408 of its first row.
    ("googlenet", "batch_norm"): (7_005_832, 14_560, 1_582_671_872, 13_385_816 - 7_005_832),
    ("googlenet", "separable"): (6_991_856, 0, 1_498_677_248, 13_371_584 - 6_991_856),
    # Summed in test_googlenet.py.
    ("googlenet", "naive"): (97_526_008, 0, 12_568_061_056, 6_748_368),
    # lim0606/caffe-googlenet-bn, deploy.prototxt: 9,952 normalised channels. Without norm, one bias
    # for each gamma and beta.
    ("inception", "paper"): (11_194_984 - 9_952, 0, 2_018_851_840, BN_AUX - 2 * 128),
    ("bn_baseline", "paper"): (11_194_984, 19_904, 2_018_851_840, BN_AUX),
    ("bn_x5", "paper"): (11_194_984, 19_904, 2_018_851_840, BN_AUX),
    ("bn_x30", "paper"): (11_194_984, 19_904, 2_018_851_840, BN_AUX),
    ("bn_x5_sigmoid", "paper"): (11_194_984, 19_904, 2_018_851_840, BN_AUX),
    ("bn_inception", "paper"): (11_194_984, 19_904, 2_018_851_840, BN_AUX),
    # Derived from figure 5 as printed; tensorflow/models slim inception_v2.py; Cadene
    # bninception.py
    ("bn_inception", "printed"): (11_278_528, 20_032, 1_948_605_440, BN_AUX + 32 * 128),
    ("bn_inception", "tf_slim"): (11_178_336, 19_776, 1_934_857_216, 0),
    ("bn_inception", "cadene"): (11_295_240, 20_032, 2_032_600_064, 0),
    # Our own; summed in test_bn_inception.py. Its heads: 144 channels on 4x4, pooled to 2x2, 1x1 to
    # 32, 256 units.
    ("bn_inception_small", "paper"): (
        641_770,
        4_976,
        9_806_080,
        2 * (144 * 32 + 2 * 32 + 4 * 32 * 256 + 256 + 256 * 10 + 10),
    ),
    # Derived from table 1 of arXiv:1512.00567 at the released widths; a bias for gamma and beta in
    # the head's last layer.
    ("inception_v2_rethinking", "paper"): (24_263_240, 35_072, 5_864_860_256, V3_AUX - 768),
    ("inception_v2_rethinking", "bn_auxiliary"): (24_263_240, 35_072, 5_864_860_256, V3_AUX),
    ("inception_v2_rethinking", "stem_7x7"): (23_667_880, 34_304, 5_119_252_672, V3_AUX - 768),
    ("inception_v2_rethinking", "five_17x17"): (25_954_248, 38_528, 6_352_562_784, V3_AUX - 768),
    ("inception_v2_rethinking", "double_3x3"): (24_374_216, 35_456, 6_000_335_456, V3_AUX - 768),
    ("inception_v2_rethinking", "released_stem"): (23_687_112, 34_432, 5_532_582_496, V3_AUX - 768),
    # torchvision inception.py and timm inception_v3.py; slim inception_v3.py; keras inception_v3.py
    ("inception_v3", "released"): (23_834_568, 34_432, 5_713_216_096, V3_AUX),
    ("inception_v3", "torchvision"): (23_834_568, 34_432, 5_713_216_096, V3_AUX),
    ("inception_v3", "timm"): (23_834_568, 34_432, 5_713_216_096, V3_AUX),
    ("inception_v3", "tf_slim"): (23_817_352, 34_432, 5_713_216_096, V3_AUX_BETA),
    ("inception_v3", "tf_2015"): (23_817_352, 34_432, 5_713_216_096, V3_AUX_BETA),
    ("inception_v3", "keras"): (23_817_352, 34_432, 5_713_216_096, 0),
    ("inception_v3", "fid"): (23_834_568, 34_432, 5_713_216_096, 0),
    # timm inception_v4.py; slim inception_v4.py; Cadene inceptionv4.py
    ("inception_v4", "paper"): (42_679_816, 63_168, 12_253_974_624, 3_359_464),
    ("inception_v4", "tf_slim"): (42_648_232, 63_168, 12_253_974_624, 3_358_568),
    ("inception_v4", "timm"): (42_679_816, 63_168, 12_253_974_624, 0),
    ("inception_v4", "cadene"): (42_679_816, 63_168, 12_253_974_624, 0),
    # Derived; its body was matched with davidsandberg/facenet (22,549,808 without gamma and head,
    # 6,306,805,856).
    ("inception_resnet_v1", "paper"): (22_756_328, 27_040, 6_206_361_696, 0),
    ("inception_resnet_v1", "facenet"): (24_357_096, 28_576, 6_308_597_856, 0),
    ("inception_resnet_v1", "facenet_embedding"): (
        22_549_808 + 1792 * 512 + 512 + 512 * 1000 + 1000,
        28_576 + 2 * 512,
        6_306_805_856 + 1792 * 512 + 512 * 1000,
        0,
    ),
    # The arrays of facenet-pytorch 2.6's InceptionResnetV1 with 1,000 people, summed; multiply-adds
    # as above.
    ("inception_resnet_v1", "facenet_pytorch"): (
        23_995_624,
        29_600,
        6_306_805_856 + 1792 * 512 + 512 * 1000,
        0,
    ),
    # timm inception_resnet_v2.py, Cadene; slim inception_resnet_v2.py; keras
    ("inception_resnet_v2", "released"): (55_843_464, 60_544, 13_155_794_016, 3_367_656),
    ("inception_resnet_v2", "timm"): (55_843_464, 60_544, 13_155_794_016, 0),
    ("inception_resnet_v2", "cadene"): (55_843_464, 60_544, 13_155_794_016, 0),
    ("inception_resnet_v2", "tf_slim"): (55_813_192, 60_544, 13_155_794_016, 3_366_760),
    ("inception_resnet_v2", "keras"): (55_813_192, 60_544, 13_155_794_016, 0),
    # Derived from the paper's widths; and 10 x 320 + 20 x 1088 + 10 x 2080 channels normalised once
    # more.
    ("inception_resnet_v2", "paper"): (32_433_928, 32_864, 9_257_953_632, 35_809_776 - 32_433_928),
    ("inception_resnet_v2", "paper_10_20_10"): (
        55_284_488,
        57_344,
        14_142_011_232,
        58_660_336 - 55_284_488,
    ),
    ("inception_resnet_v2", "norm_on_sum"): (
        55_843_464 + 2 * 45_760,
        60_544 + 2 * 45_760,
        13_155_794_016,
        3_367_656,
    ),
    # torchvision resnet.py
    ("resnet18", "torchvision"): (*RESNET_18, 0),
    ("resnet34", "torchvision"): (*RESNET_34, 0),
    ("resnet50", "torchvision"): (25_557_032, 53_120, 4_089_184_256, 0),
    ("resnet101", "torchvision"): (44_549_160, 105_344, 7_801_405_440, 0),
    ("resnet152", "torchvision"): (60_192_808, 151_424, 11_513_626_624, 0),
    ("wide_resnet50_2", "torchvision"): (68_883_240, 68_224, 11_398_021_120, 0),
    ("wide_resnet101_2", "torchvision"): (126_886_696, 137_856, 22_753_050_624, 0),
    # The stride in the first 1x1; three units of 101 move as those of 50 do, so the difference is
    # the same.
    ("wide_resnet50_2", "stride_in_1x1"): (68_883_240, 68_224, 10_935_599_104, 0),
    ("wide_resnet101_2", "stride_in_1x1"): (
        126_886_696,
        137_856,
        22_753_050_624 - (11_398_021_120 - 10_935_599_104),
        0,
    ),
    # KaimingHe/deep-residual-networks, prototxt: conv1 has a bias in 50 alone
    ("resnet18", "paper"): (*RESNET_18, 0),
    ("resnet34", "paper"): (*RESNET_34, 0),
    ("resnet50", "paper"): (*RESNET_50, 0),
    ("resnet101", "paper"): (*RESNET_101, 0),
    ("resnet152", "paper"): (*RESNET_152, 0),
    ("resnet50", "caffe"): (25_557_096, 53_120, 3_857_973_248, 0),
    ("resnet101", "caffe"): (*RESNET_101, 0),
    ("resnet152", "caffe"): (*RESNET_152, 0),
    # keras resnet.py; slim resnet_v1.py
    ("resnet50", "keras"): (25_583_592, 53_120, 3_857_973_248, 0),
    ("resnet101", "keras"): (44_601_832, 105_344, 7_570_194_432, 0),
    ("resnet152", "keras"): (60_268_520, 151_424, 11_282_415_616, 0),
    ("resnet50", "tf_slim"): (25_557_032, 53_120, 3_482_255_360, 0),
    ("resnet101", "tf_slim"): (44_549_160, 105_344, 7_194_476_544, 0),
    ("resnet152", "tf_slim"): (60_192_808, 151_424, 10_906_697_728, 0),
    **shortcuts(18, RESNET_18),
    **shortcuts(34, RESNET_34),
    **shortcuts(50, RESNET_50),
    **shortcuts(101, RESNET_101),
    **shortcuts(152, RESNET_152),
    **plain(18, RESNET_18),
    **plain(34, RESNET_34),
    # timm resnetv2.py; fb.resnet.torch preresnet.lua
    **{
        ("preact_resnet18", variant): (11_687_720, 7_808, 1_814_073_344, 0)
        for variant in ("paper", "facebook")
    },
    **{
        ("preact_resnet34", variant): (21_795_880, 15_232, 3_663_761_408, 0)
        for variant in ("paper", "facebook")
    },
    **{
        ("preact_resnet50", variant): (25_549_352, 45_440, 4_089_184_256, 0)
        for variant in ("paper", "facebook")
    },
    **{
        ("preact_resnet101", variant): (44_541_480, 97_664, 7_801_405_440, 0)
        for variant in ("paper", "facebook")
    },
    **{
        ("preact_resnet152", variant): (60_185_128, 143_744, 11_513_626_624, 0)
        for variant in ("paper", "facebook")
    },
    **{
        ("preact_resnet200", variant): (64_666_152, 168_320, 15_007_481_856, 0)
        for variant in ("paper", "facebook")
    },
    # slim resnet_v2.py; keras resnet_v2.py
    **{
        ("preact_resnet50", variant): (25_568_360, 45_440, 3_482_255_360, 0)
        for variant in ("tf_slim", "keras")
    },
    **{
        ("preact_resnet101", variant): (44_577_896, 97_664, 7_194_476_544, 0)
        for variant in ("tf_slim", "keras")
    },
    **{
        ("preact_resnet152", variant): (60_236_904, 143_744, 10_906_697_728, 0)
        for variant in ("tf_slim", "keras")
    },
    ("preact_resnet200", "tf_slim"): (64_726_120, 168_320, 14_400_552_960, 0),
    # arXiv:1512.03385, table 6 (0.27M to 1.7M); a shortcut of option A has no parameters, so a
    # plain network has as many.
    **{
        (f"cifar_{kind}20", "paper"): (269_722, 1_376, 40_551_040, 0)
        for kind in ("resnet", "plain")
    },
    **{
        (f"cifar_{kind}32", "paper"): (464_154, 2_272, 68_862_592, 0)
        for kind in ("resnet", "plain")
    },
    **{
        (f"cifar_{kind}44", "paper"): (658_586, 3_168, 97_174_144, 0)
        for kind in ("resnet", "plain")
    },
    **{
        (f"cifar_{kind}56", "paper"): (853_018, 4_064, 125_485_696, 0)
        for kind in ("resnet", "plain")
    },
    **{
        (f"cifar_{kind}110", "paper"): (1_727_962, 8_096, 252_887_680, 0)
        for kind in ("resnet", "plain")
    },
    ("cifar_preact_resnet110", "paper"): (1_730_522, 8_096, 253_149_824, 0),
    ("cifar_preact_resnet164", "paper"): (1_703_258, 24_224, 244_500_992, 0),
    # arXiv:1605.07146, tables 2 to 5 (11.0M, 36.5M, 8.9M)
    ("wrn_16_8", "paper"): (10_961_370, 7_200, 1_548_145_664, 0),
    ("wrn_28_10", "paper"): (36_479_194, 17_952, 5_243_328_768, 0),
    ("wrn_40_4", "paper"): (8_949_210, 10_784, 1_298_582_016, 0),
    # 784 -> 100 -> 100 -> 100 -> 10
    ("mnist", "paper"): (99_710, 0, 99_400, 0),
    ("mnist_bn", "paper"): (100_010, 600, 99_400, 0),
}

OTHER_DEPTHS = {
    # Networks that are not in the registry, such as cifar.wide_variants(40, 1)["paper"]().
    ("wide", 40, 1): (563_930, 2_720, 83_280_512),
    ("wide", 40, 2): (2_243_546, 5_408, 327_599_360),
    ("wide", 40, 8): (35_748_314, 21_536, 5_172_024_320),
    ("wide", 28, 12): (52_517_850, 21_536, 7_543_905_792),
    ("wide", 22, 8): (17_158_106, 10_784, 2_454_115_328),
    ("wide", 22, 10): (26_797_914, 13_472, 3_827_751_168),
    ("wide", 16, 4): (2_748_890, 3_616, 392_612_352),
    ("wide", 16, 10): (17_116_634, 8_992, 2_412_173_568),
    ("wide", 28, 2): (1_467_610, 3_616, 214_353_152),
    ("wide", 16, 1): (175_066, 928, 26_657_408),
    ("resnet", 1202): (19_421_274, 89_632, 2_829_238_912),
    ("preact_bottleneck", 1001): (10_327_706, 149_216, 1_487_849_984),
}

BY_CLASSES = {
    # (name, variant, classes): with the classes of the released files, no auxiliary heads; then
    # with them.
    ("inception_v3", "tf_slim", 1001): ((23_819_401, 5_713_218_144), (27_145_970, 36_224)),
    ("inception_v4", "tf_slim", 1001): ((42_649_769, 12_253_976_160), (46_009_106, 64_960)),
    ("inception_resnet_v2", "tf_slim", 1001): ((55_814_729, 13_155_795_552), (59_182_258, 62_336)),
    ("googlenet", "tf_slim", 1001): ((6_618_649, 1_498_377_216), (6_618_649, 14_560)),
    ("bn_inception", "tf_slim", 1001): ((11_179_361, 1_934_858_240), (11_179_361, 19_776)),
    ("wrn_28_10", "paper", 100): ((36_536_884, 5_243_386_368), (36_536_884, 17_952)),
    ("inception_resnet_v1", "facenet", 0): ((22_564_096, 6_306_805_856), (22_564_096, 28_576)),
}

AUX = {
    # (name, variant): multiply-adds and statistics of the auxiliary heads.
    ("googlenet", "paper"): (8_372_224, 0),
    ("googlenet", "torchvision"): (8_372_224, 15_072 - 14_560),
    ("googlenet", "batch_norm"): (8_372_224, 15_072 - 14_560),
    ("googlenet", "separable"): (8_372_224, 0),
    ("inception_v3", "released"): (5_683_200, 36_224 - 34_432),
    ("inception_v3", "tf_slim"): (5_683_200, 36_224 - 34_432),
    ("inception_v4", "paper"): (6_502_400, 64_960 - 63_168),
    ("inception_v4", "tf_slim"): (6_502_400, 64_960 - 63_168),
    ("inception_resnet_v2", "released"): (6_707_200, 62_336 - 60_544),
    ("inception_resnet_v2", "tf_slim"): (6_707_200, 62_336 - 60_544),
    ("inception_resnet_v2", "paper"): (6_912_000, 34_656 - 32_864),
    ("inception_resnet_v2", "paper_10_20_10"): (6_912_000, 59_136 - 57_344),
}
