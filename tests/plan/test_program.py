"""Kernels and bytes of programs: counted here by hand, and beside XLA's own count for the CPU."""

import jax
import jax.numpy as jnp
import pytest

from inception_jax.plan.hlo import count_shape_bytes, parse_program, parse_shape
from inception_jax.plan.program import KERNEL_KINDS, count_program, list_kernels, list_violations


def make_array(*shape, dtype=jnp.float32):
    return jax.ShapeDtypeStruct(shape, dtype)


X = make_array(64, 32)
BYTES = 64 * 32 * 4
ROW = 32 * 4
INDEX = make_array(dtype=jnp.int32)


def convolve(x, kernel):
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def pool(x):
    return jax.lax.reduce_window(
        x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), padding="VALID"
    )


CASES = {
    "an addition": (lambda x, y: x + y, (X, X), "elementwise", 3 * BYTES, 3 * BYTES),
    "a chain": (lambda x, y: jnp.tanh(x * y) + x, (X, X), "elementwise", 3 * BYTES, 3 * BYTES),
    "a product": (
        lambda x, y: x @ y, (X, make_array(32, 16)), "matrix_product",
        BYTES + 4 * (32 * 16 + 64 * 16), BYTES + 4 * (32 * 16 + 64 * 16),
    ),
    "a transposition": (lambda x: x.T, (X,), "copy", 2 * BYTES, 2 * BYTES),
    "a conversion": (lambda x: x.astype(jnp.bfloat16), (X,), "copy", 1.5 * BYTES, 1.5 * BYTES),
    "a slice": (lambda x: x[3:5] * 2, (X,), "elementwise", BYTES + 2 * ROW, 4 * ROW),
    "two slices": (lambda x: x[3:5] * x[9:11], (X,), "elementwise", BYTES + 2 * ROW, 6 * ROW),
    "a slice by an index": (
        lambda x, i: jax.lax.dynamic_slice(x, (i, 0), (2, 32)) * 2, (X, INDEX), "elementwise",
        BYTES + 4 + 2 * ROW, 4 * ROW + 4,
    ),
    "an update in place": (
        lambda x, y: jax.lax.dynamic_update_slice(x, y * 2, (3, 0)), (X, make_array(2, 32)),
        "elementwise", 2 * BYTES + 2 * ROW, 4 * ROW,
    ),
    "a convolution": (
        convolve, (make_array(2, 8, 8, 4), make_array(3, 3, 4, 8)), "convolution",
        4 * (2 * 64 * (4 + 8) + 9 * 4 * 8), 4 * (2 * 64 * (4 + 8) + 9 * 4 * 8),
    ),
    "a pool": (pool, (make_array(2, 8, 8, 4),), "pooling", 4 * (513 + 128), 4 * (513 + 128)),
}  # fmt: skip
"""Function, its arguments, the kind of its one kernel, its bytes in full and refined."""


def compile_text(function, arguments, **options):
    program = jax.jit(function, **options).lower(*arguments).compile()
    return program.as_text(), program.cost_analysis()["bytes accessed"]


@pytest.mark.parametrize("name", CASES)
def test_kernels_and_bytes_match_counts_by_hand_and_the_count_of_xla(name):
    function, arguments, kind, full, refined = CASES[name]
    options = {"donate_argnums": 0} if name == "an update in place" else {}
    text, counted_by_xla = compile_text(function, arguments, **options)
    count = count_program(parse_program(text))
    assert count.kernels_by_kind == {kind: 1}
    assert (count.full_bytes, count.refined_bytes) == (full, refined)
    assert count.bytes_by_kind == {kind: refined}
    assert count.refined_bytes == counted_by_xla


def test_bytes_of_several_kernels_are_those_of_xla_without_the_tuple_of_results():
    text, counted_by_xla = compile_text(lambda x, y: (x + y, (x @ y.T).sum()), (X, X))
    count = count_program(parse_program(text))
    # XLA counts pointers of the tuple, of 8 bytes: two in jaxlib 0.10, one in 0.12.
    assert counted_by_xla - count.refined_bytes in (8, 16)
    assert count.kernels >= 2


def test_a_loop_of_known_length_counts_as_often_as_it_runs_and_that_of_unknown_length_once():
    weights = make_array(5, 16, 16)
    text, _ = compile_text(
        lambda x, w: jax.lax.scan(lambda c, one: (jnp.tanh(c @ one), None), x, w)[0],
        (make_array(16, 16), weights),
    )
    known = count_program(parse_program(text))
    assert (known.kernels_by_kind["matrix_product"], known.unknown_loops) == (5, 0)
    without = count_program(parse_program(text.replace("known_trip_count", "no_count")))
    assert (without.kernels_by_kind["matrix_product"], without.unknown_loops) == (1, 1)
    assert without.refined_bytes < known.refined_bytes < 5 * without.refined_bytes


# Programs for GPUs, as XLA writes them, with shorter names.
CONVOLUTIONS = """
HloModule jit_step, is_scheduled=true

%scalar_add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %add.1 = f32[] add(%a, %b)
}

%fused_reduce (p: bf16[8,32,32,64]) -> (f32[64], f32[64]) {
  %p = bf16[8,32,32,64]{3,2,1,0} parameter(0)
  %wide = f32[8,32,32,64]{3,2,1,0} convert(%p)
  %zero = f32[] constant(0)
  %sum = f32[64]{0} reduce(%wide, %zero), dimensions={0,1,2}, to_apply=%scalar_add
  %square = f32[8,32,32,64]{3,2,1,0} multiply(%wide, %wide)
  %sums = f32[64]{0} reduce(%square, %zero), dimensions={0,1,2}, to_apply=%scalar_add
  ROOT %both = (f32[64]{0}, f32[64]{0}) tuple(%sum, %sums)
}

%fused_transpose (p: f32[3,3,64,64]) -> bf16[64,3,3,64] {
  %p = f32[3,3,64,64]{3,2,1,0} parameter(0)
  %narrow = bf16[3,3,64,64]{3,2,1,0} convert(%p)
  ROOT %turned = bf16[64,3,3,64]{3,2,1,0} transpose(%narrow), dimensions={3,0,1,2}
}

%gemm_computation (l: bf16[16,64], r: bf16[64,16]) -> f32[16,16] {
  %l = bf16[16,64]{1,0} parameter(0)
  %r = bf16[64,16]{1,0} parameter(1)
  ROOT %dot.1 = f32[16,16]{1,0} dot(%l, %r), lhs_contracting_dims={1}, rhs_contracting_dims={0}
}

ENTRY %main (x: bf16[8,32,32,64], k: f32[3,3,64,64], l: bf16[16,64]) -> f32[16,16] {
  %x = bf16[8,32,32,64]{3,2,1,0} parameter(0)
  %k = f32[3,3,64,64]{3,2,1,0} parameter(1)
  %l = bf16[16,64]{1,0} parameter(2)
  %input_transpose_fusion.3 = bf16[64,3,3,64]{3,2,1,0} fusion(%k), kind=kInput, \
calls=%fused_transpose, metadata={op_name="jit(step)/conv (a name)/transpose"}
  %cudnn-conv.1 = (bf16[8,32,32,64]{3,2,1,0}, u8[1024]{0}) custom-call(%x, \
/*index=1*/%input_transpose_fusion.3), window={size=3x3 pad=1_1x1_1}, dim_labels=b01f_o01i->b01f, \
custom_call_target="__cudnn$convForward", metadata={op_name="jit(step)/conv"}
  %y = bf16[8,32,32,64]{3,2,1,0} get-tuple-element(%cudnn-conv.1), index=0
  %input_reduce_fusion = (f32[64]{0}, f32[64]{0}) fusion(%y), kind=kInput, calls=%fused_reduce
  %cudnn-conv-bw-input.1 = (bf16[8,32,32,64]{3,2,1,0}, u8[0]{0}) custom-call(%y, \
%input_transpose_fusion.3), custom_call_target="__cudnn$convBackwardInput"
  %cudnn-conv-bw-filter.1 = (bf16[64,3,3,64]{3,2,1,0}, u8[0]{0}) custom-call(%x, %y), \
custom_call_target="__cudnn$convBackwardFilter"
  %copy.1 = f32[3,3,64,64]{2,1,0,3} copy(%k)
  %turn = bf16[64,16]{0,1} bitcast(%l)
  ROOT %gemm_fusion_dot.2 = f32[16,16]{1,0} fusion(%l, %turn), kind=kCustom, \
calls=%gemm_computation, backend_config={"fusion_backend_config":{"kind":"__triton_gemm"}}
}
"""


def test_kinds_and_bytes_of_convolutions_fusions_and_products_match_counts_by_hand():
    program = parse_program(CONVOLUTIONS)
    kernels = {kernel.key: kernel for kernel in list_kernels(program)}
    image, kernel, narrow = 8 * 32 * 32 * 64 * 2, 9 * 64 * 64 * 4, 9 * 64 * 64 * 2
    assert {key: (one.kind, one.full_bytes) for key, one in kernels.items()} == {
        "fusion:input_transpose_fusion": ("copy", kernel + narrow),
        "__cudnn$convForward": ("convolution", 2 * image + narrow),  # without the workspace
        "fusion:input_reduce_fusion": ("reduction", image + 2 * 64 * 4),
        "__cudnn$convBackwardInput": ("input_gradient", 2 * image + narrow),
        "__cudnn$convBackwardFilter": ("kernel_gradient", 2 * image + narrow),
        "copy": ("copy", 2 * kernel),
        "fusion:gemm_fusion_dot": ("matrix_product", 2 * 16 * 64 * 2 + 16 * 16 * 4),
    }
    assert all(one.refined_bytes == one.full_bytes for one in kernels.values())
    assert kernels["__cudnn$convForward"].op_name == "jit(step)/conv"
    count = count_program(program)
    assert count.kernels == 7
    assert set(count.bytes_by_kind) < set(KERNEL_KINDS)
    assert list(count.bytes_by_kind.values()) == sorted(count.bytes_by_kind.values(), reverse=True)
    assert sum(count.bytes_by_kind.values()) == count.refined_bytes == count.full_bytes


def test_violations_are_float32_convolutions_and_scatters():
    assert list_violations(parse_program(CONVOLUTIONS)) == ([], [])
    wide = CONVOLUTIONS.replace(
        "custom-call(%x, /*index=1*/%input_transpose_fusion.3)", "custom-call(%x, %copy.1)"
    )
    assert list_violations(parse_program(wide)) == (["cudnn-conv.1 (jit(step)/conv)"], [])
    text, _ = compile_text(convolve, (make_array(2, 8, 8, 4), make_array(3, 3, 4, 8)))
    assert len(list_violations(parse_program(text)).float32_convolutions) == 1
    scattering = CONVOLUTIONS.replace("transpose(%narrow), ", "scatter(%narrow, %p, %narrow), ")
    assert list_violations(parse_program(scattering)) == ([], ["turned"])
    assert "scatter" in count_program(parse_program(scattering)).kernels_by_kind


PAIRS = """
HloModule jit_step, is_scheduled=true, num_partitions=8

%command_buffer (p: f32[100]) -> f32[100] {
  %p = f32[100]{0} parameter(0)
  %copy.2 = f32[100]{0} copy(%p)
  ROOT %copy.3 = f32[100]{0} copy(%copy.2)
}

%async_computation (p: f32[100]) -> f32[100] {
  %p = f32[100]{0} parameter(0)
  ROOT %cosine.1 = f32[100]{0} cosine(%p)
}

ENTRY %main (p: f32[100]) -> f32[800] {
  %p = f32[100]{0} parameter(0)
  %all-reduce-start = f32[100]{0} all-reduce-start(%p), replica_groups={}, to_apply=%add
  %all-reduce-done = f32[100]{0} all-reduce-done(%all-reduce-start)
  %reduce-scatter-start = ((f32[800]{0}), f32[100]{0}) reduce-scatter-start(%g), dimensions={0}
  %reduce-scatter-done = f32[100]{0} reduce-scatter-done(%reduce-scatter-start)
  %copy-start.1 = (f32[100]{0:S(5)}, f32[100]{0}, u32[]) copy-start(%all-reduce-done)
  %copy-done.1 = f32[100]{0:S(5)} copy-done(%copy-start.1)
  %call = f32[100]{0} call(%copy-done.1), to_apply=%command_buffer
  %cosine-start = ((f32[100]{0}), f32[100]{0}) async-start(%call), calls=%async_computation
  %cosine-done = f32[100]{0} async-done(%cosine-start)
  %all-gather-start = (f32[100]{0}, f32[800]{0}) all-gather-start(%cosine-done), dimensions={0}
  ROOT %all-gather-done = f32[800]{0} all-gather-done(%all-gather-start)
}
"""


def test_both_halves_of_an_asynchronous_kernel_count_once_and_calls_as_what_they_call():
    kernels = list_kernels(parse_program(PAIRS))
    assert [(kernel.key, kernel.full_bytes) for kernel in kernels] == [
        ("all-reduce", 800),
        ("reduce-scatter", 400),  # its operand is not in this text
        ("copy", 800),
        ("copy", 800),
        ("copy", 800),
        ("cosine", 800),
        ("all-gather", 400 + 3200),
    ]
    assert count_program(parse_program(PAIRS)).kernels_by_kind == {
        "collective": 3, "copy": 3, "elementwise": 1,
    }  # fmt: skip


NESTED = """
HloModule jit_step

%inner (s: (s32[], f32[10])) -> (s32[], f32[10]) {
  %s = (s32[], f32[10]{0}) parameter(0)
  %x = f32[10]{0} get-tuple-element(%s), index=1
  %i = s32[] get-tuple-element(%s), index=0
  %negate.1 = f32[10]{0} negate(%x)
  ROOT %t = (s32[], f32[10]{0}) tuple(%i, %negate.1)
}

%condition (s: (s32[], f32[10])) -> pred[] {
  %s = (s32[], f32[10]{0}) parameter(0)
  %i = s32[] get-tuple-element(%s), index=0
  ROOT %less = pred[] compare(%i, %i), direction=LT
}

%outer (s: (s32[], f32[10])) -> (s32[], f32[10]) {
  %s = (s32[], f32[10]{0}) parameter(0)
  ROOT %while.1 = (s32[], f32[10]{0}) while(%s), condition=%condition, body=%inner, \
backend_config={"known_trip_count":{"n":"3"},"known_init_step":{"init":"0","step":"1"}}
}

%small (x: (f32[10])) -> (f32[10]) {
  %x = (f32[10]{0}) parameter(0)
  ROOT %same = (f32[10]{0}) tuple(%x)
}

%large (x: (f32[10])) -> (f32[10]) {
  %x = (f32[10]{0}) parameter(0)
  %e = f32[10]{0} get-tuple-element(%x), index=0
  %sine.1 = f32[10]{0} sine(%e)
  ROOT %same.1 = (f32[10]{0}) tuple(%sine.1)
}

ENTRY %main (s: (s32[], f32[10]), p: pred[], x: (f32[10])) -> (s32[], f32[10]) {
  %s = (s32[], f32[10]{0}) parameter(0)
  %p = pred[] parameter(1)
  %x = (f32[10]{0}) parameter(2)
  %two = (f32[10]{0}) conditional(%p, %x, %x), true_computation=%small, false_computation=%large
  %more = (f32[10]{0}) conditional(%p, %x, %x), branch_computations={%large, %small}
  ROOT %while.2 = (s32[], f32[10]{0}) while(%s), condition=%condition, body=%outer, \
backend_config={"known_trip_count":{"n":"4"}}
}
"""


def test_nested_loops_multiply_and_the_branch_with_the_most_bytes_counts():
    kernels = list_kernels(parse_program(NESTED))
    assert [(kernel.key, kernel.runs) for kernel in kernels] == [
        ("sine", 1), ("sine", 1), ("negate", 12),
    ]  # fmt: skip
    assert count_program(parse_program(NESTED)).full_bytes == 80 * 14
    # Of unknown length: the body once, and the condition, which reads a number twice.
    unknown = count_program(parse_program(NESTED.replace('{"n":"4"}', "{}")))
    assert (unknown.unknown_loops, unknown.full_bytes) == (1, 80 * 5 + 9)


SLICES = """
HloModule jit_step

%fused (p0: f32[100], p1: f32[100], p2: f32[100], p3: f32[100]) -> (f32[100], f32[100], f32[10]) {
  %p0 = f32[100]{0} parameter(0)
  %p1 = f32[100]{0} parameter(1)
  %p2 = f32[100]{0} parameter(2)
  %p3 = f32[100]{0} parameter(3)
  %slice.1 = f32[10]{0} slice(%p0), slice={[0:10]}
  %narrow = bf16[100]{0} convert(%p1)
  %slice.2 = bf16[10]{0} slice(%narrow), slice={[0:10]}
  %wide = f32[10]{0} convert(%slice.2)
  %slice.3 = f32[10]{0} slice(%p3), slice={[0:10]}
  %add.1 = f32[10]{0} add(%slice.1, %wide)
  %i = s32[] constant(7)
  %view = f32[100]{0} bitcast(%p2)
  %update = f32[100]{0} dynamic-update-slice(%view, %add.1, %i)
  %all = f32[100]{0} sine(%p3)
  ROOT %results = (f32[100]{0}, f32[100]{0}, f32[10]{0}) tuple(%update, %all, %slice.3)
}

ENTRY %main (a: f32[100]) -> (f32[100], f32[100], f32[10]) {
  %a = f32[100]{0} parameter(0)
  ROOT %fusion.1 = (f32[100]{0}, f32[100]{0}, f32[10]{0}) fusion(%a, %a, %a, %a), kind=kLoop, \
calls=%fused
}
"""


def test_a_fusion_reads_slices_through_conversions_and_writes_only_an_update_in_place():
    (kernel,) = list_kernels(parse_program(SLICES))
    assert kernel.full_bytes == 4 * 400 + 840
    # Slices of p0 and p1, nothing of p2, all of p3; an update of 40 bytes, the rest in full.
    assert kernel.refined_bytes == (40 + 40 + 0 + 400) + (40 + 400 + 40)
    # An update that another operation reads is no result, and needs the whole array.
    inner = SLICES.replace("sine(%p3)", "sine(%update)").replace("tuple(%update,", "tuple(%all,")
    (kernel,) = list_kernels(parse_program(inner))
    assert kernel.refined_bytes == (40 + 40 + 400 + 40) + 840


def test_a_fusion_that_only_converts_reads_its_operand():
    text = """
%fused (p: f32[100]) -> bf16[100] {
  %p = f32[100]{0} parameter(0)
  ROOT %narrow = bf16[100]{0} convert(%p)
}
ENTRY %main (a: f32[100]) -> bf16[100] {
  %a = f32[100]{0} parameter(0)
  ROOT %fusion.1 = bf16[100]{0} fusion(%a), kind=kLoop, calls=%fused
}
"""
    (kernel,) = list_kernels(parse_program(text))
    assert (kernel.kind, kernel.refined_bytes) == ("copy", 600)


@pytest.mark.parametrize(
    ("shape", "count"),
    [
        ("f32[2,3]{1,0}", 24),
        ("f32[]", 4),
        ("pred[7]{0}", 7),
        ("s4[5]{0:E(4)}", 3),
        ("f8e4m3fn[10]{0}", 10),
        ("f8e5m2[10]", 10),
        ("c64[2]", 16),
        ("bf16[0,7]{1,0}", 0),
        ("token[]", 0),
        ("f32[<=5,2]{1,0}", 40),
        ("((f32[8]{0}, (bf16[2]{0:T(8,128)(2,1)}, token[])), /*index=2*/u32[], s8[3]{0})", 43),
    ],
)
def test_bytes_of_a_shape_follow_the_width_of_its_dtypes(shape, count):
    assert count_shape_bytes(shape) == count


def test_shapes_of_nested_tuples_are_parsed_in_order():
    arrays = parse_shape("((f32[512,4]{1,0}), pred[], /*index=2*/f8e5m2[3]{0})")
    assert [(array.dtype_name, array.sides) for array in arrays] == [
        ("float32", (512, 4)), ("bool", ()), ("f8e5m2", (3,)),
    ]  # fmt: skip


def test_a_text_without_an_entry_is_an_error():
    with pytest.raises(ValueError, match="no entry computation"):
        parse_program("HloModule jit_step\n")
