"""Vectors of 16 floats or integers for kernels compiled by numba.

numba compiles plain loops, but its vectoriser gives up on the indirect loads of a projector. Here the vector types and
operations of LLVM are handed to it by hand. LLVM lowers them to whatever the processor has: one AVX-512 register, two
of AVX2, four of SSE or NEON; no compiler is needed on the user's machine. All arithmetic is that of float32, with
contraction to fused multiply-add allowed.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import llvmlite.binding
from llvmlite import ir
from numba.core import cgutils, config, types
from numba.core.datamodel import models
from numba.core.extending import intrinsic, lower_builtin, register_model
from numba.core.typing.templates import AbstractTemplate, infer_global, signature

LANES = 16
WINDOW = 2 * LANES
"""Floats that `lookup` chooses from."""

_FLOATS = ir.VectorType(ir.FloatType(), LANES)
_INTS = ir.VectorType(ir.IntType(32), LANES)
_BITS = ir.VectorType(ir.IntType(1), LANES)
_PAIR = ir.VectorType(ir.FloatType(), 2)
_I32 = ir.IntType(32)
_FAST = ("fast",)
_ALIGN = ir.Constant(_I32, 4)


class Lanes(types.Type):
    """numba's type of one vector; `element` is "float" or "int"."""

    def __init__(self, element: str) -> None:
        self.element = element
        super().__init__(name=f"Lanes({element})")


FLOATS, INTS = Lanes("float"), Lanes("int")


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, lanes: Lanes) -> None:
        super().__init__(manager, lanes, _FLOATS if lanes.element == "float" else _INTS)


def _arithmetic(symbol: Callable[..., Any], float_name: str, int_name: str) -> None:
    """Let an operator of Python work on two vectors of one kind."""

    class Template(AbstractTemplate):
        key = symbol

        def generic(self, args: Any, kws: Any) -> Any:
            if not kws and len(args) == 2 and isinstance(args[0], Lanes) and args[0] == args[1]:
                return signature(args[0], *args)
            return None

    infer_global(symbol)(Template)

    @lower_builtin(symbol, Lanes, Lanes)
    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        del context
        if sig.args[0].element == "float":
            return getattr(builder, float_name)(*args, flags=_FAST)
        return getattr(builder, int_name)(*args)


_arithmetic(operator.add, "fadd", "add")
_arithmetic(operator.sub, "fsub", "sub")
_arithmetic(operator.mul, "fmul", "mul")


def _constant_indices(indices: list[int]) -> Any:
    return ir.Constant(ir.VectorType(_I32, len(indices)), indices)


def _address(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    data = cgutils.create_struct_proxy(array_type)(context, builder, array).data
    return builder.gep(data, [index])


class _Addresses(ir.instructions.Instruction):  # type: ignore[misc]  # llvmlite has no annotations
    """The address of base[indices[lane]] for every lane; llvmlite's own instruction takes scalar indices only."""

    def __init__(self, block: Any, base: Any, indices: Any) -> None:
        result = ir.VectorType(ir.PointerType(), indices.type.count)
        super().__init__(block, result, "getelementptr", [base, indices])

    def descr(self, buf: list[str]) -> None:
        base, indices = self.operands
        buf.append(
            f"getelementptr float, {base.type} {base.get_reference()}, {indices.type} {indices.get_reference()}\n"
        )


def _gathered(builder: Any, base: Any, indices: Any) -> Any:
    addresses = _Addresses(builder.block, base, indices)
    builder._insert(addresses)
    kind = ir.FunctionType(_FLOATS, [addresses.type, _I32, _BITS, _FLOATS])
    function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.masked.gather.v{LANES}f32.v{LANES}p0")
    everywhere = ir.Constant(_BITS, [1] * LANES)
    return builder.call(function, [addresses, _ALIGN, everywhere, ir.Constant(_FLOATS, ir.Undefined)])


def _has_avx512() -> bool:
    """Whether numba compiles for a processor with AVX-512 (a target set by hand is not trusted to have it)."""
    settings: Any = config
    if settings.CPU_NAME or settings.CPU_FEATURES:
        return False
    return bool(llvmlite.binding.get_host_cpu_features().get("avx512f", False))


@intrinsic
def splat(typing: Any, value: Any) -> Any:
    """The same float32 or int32 in every lane."""
    kinds = {types.float32: (FLOATS, _FLOATS), types.int32: (INTS, _INTS)}
    if value not in kinds:
        return None
    lanes, vector = kinds[value]

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        undefined = ir.Constant(vector, ir.Undefined)
        first = builder.insert_element(undefined, args[0], ir.Constant(_I32, 0))
        return builder.shuffle_vector(first, undefined, _constant_indices([0] * LANES))

    return lanes(value), generate


@intrinsic
def lane_numbers(typing: Any) -> Any:
    """0, 1, 2, ... as floats."""
    return FLOATS(), lambda context, builder, sig, args: ir.Constant(_FLOATS, [float(i) for i in range(LANES)])


@intrinsic
def load(typing: Any, array: Any, start: Any) -> Any:
    """array[start : start + 16] of a 1-D float32 or int32 array."""
    lanes, vector = (INTS, _INTS) if array.dtype == types.int32 else (FLOATS, _FLOATS)

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        address = _address(context, builder, sig.args[0], args[0], args[1])
        return builder.load(builder.bitcast(address, vector.as_pointer()), align=4)

    return lanes(array, types.intp), generate


@intrinsic
def store(typing: Any, array: Any, start: Any, value: Any) -> Any:
    """array[start : start + 16] = value, for floats in a float32 and for integers in an int32 array."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        address = _address(context, builder, sig.args[0], args[0], args[1])
        builder.store(args[2], builder.bitcast(address, args[2].type.as_pointer()), align=4)
        return context.get_dummy_value()

    return types.none(array, types.intp, value), generate


@intrinsic
def store_pairs(typing: Any, array: Any, start: Any, first: Any, second: Any) -> Any:
    """array[start : start + 32] = first[0], second[0], first[1], second[1], ..."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        address = _address(context, builder, sig.args[0], args[0], args[1])
        order = [lane + LANES * which for lane in range(LANES) for which in range(2)]
        pairs = builder.shuffle_vector(args[2], args[3], _constant_indices(order))
        builder.store(pairs, builder.bitcast(address, pairs.type.as_pointer()), align=4)
        return context.get_dummy_value()

    return types.none(array, types.intp, first, second), generate


@intrinsic
def transpose(typing: Any, source: Any, start: Any, pitch: Any, target: Any, where: Any, target_pitch: Any) -> Any:
    """target[where + i * target_pitch + j] = source[start + j * pitch + i] for i and j in 0..15, in registers."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        from_array, begin, step, to_array, place, to_step = args

        def rows(array_type: Any, array: Any, base: Any, pitch: Any) -> list[Any]:
            at = [builder.add(base, builder.mul(pitch, ir.Constant(base.type, i))) for i in range(LANES)]
            addresses = (_address(context, builder, array_type, array, index) for index in at)
            return [builder.bitcast(address, _FLOATS.as_pointer()) for address in addresses]

        lines = [builder.load(address, align=4) for address in rows(sig.args[0], from_array, begin, step)]
        # Squares of growing size swap their off-diagonal halves.
        for size in (1, 2, 4, 8):
            low = _constant_indices([i if not i & size else LANES + (i ^ size) for i in range(LANES)])
            high = _constant_indices([i ^ size if not i & size else LANES + i for i in range(LANES)])
            for i in range(LANES):
                if not i & size:
                    pair = lines[i], lines[i | size]
                    lines[i], lines[i | size] = (builder.shuffle_vector(*pair, order) for order in (low, high))
        for line, address in zip(lines, rows(sig.args[3], to_array, place, to_step), strict=True):
            builder.store(line, address, align=4)
        return context.get_dummy_value()

    return types.none(source, types.intp, types.intp, target, types.intp, types.intp), generate


@intrinsic
def add_pair(typing: Any, array: Any, start: Any, pairs: Any, which: Any) -> Any:
    """array[start] += pairs[which]; array[start + 1] += pairs[which + 1]: two floats in one go."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        target = _address(context, builder, sig.args[0], args[0], args[1])
        source = _address(context, builder, sig.args[2], args[2], args[3])
        target, source = (builder.bitcast(p, _PAIR.as_pointer()) for p in (target, source))
        total = builder.fadd(builder.load(target, align=4), builder.load(source, align=4))
        builder.store(total, target, align=4)
        return context.get_dummy_value()

    return types.none(array, types.intp, pairs, types.intp), generate


def _chosen(predicate: str) -> Any:
    @intrinsic
    def choose(typing: Any, first: Any, second: Any) -> Any:
        def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            return builder.select(builder.fcmp_ordered(predicate, *args, flags=_FAST), *args)

        return FLOATS(first, second), generate

    return choose


smaller = _chosen("<")
"""The smaller of two vectors, lane by lane."""
larger = _chosen(">")
"""The larger of two vectors, lane by lane."""


@intrinsic
def magnitude(typing: Any, value: Any) -> Any:
    """|value|."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind = ir.FunctionType(_FLOATS, [_FLOATS])
        function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.fabs.v{LANES}f32")
        return builder.call(function, args)

    return FLOATS(value), generate


@intrinsic
def truncated(typing: Any, value: Any) -> Any:
    """Floats to integers, towards zero."""
    return INTS(value), lambda context, builder, sig, args: builder.fptosi(args[0], _INTS)


@intrinsic
def as_float(typing: Any, value: Any) -> Any:
    """Integers to floats."""
    return FLOATS(value), lambda context, builder, sig, args: builder.sitofp(args[0], _FLOATS)


@intrinsic
def total(typing: Any, value: Any) -> Any:
    """Sum over the lanes."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind = ir.FunctionType(ir.FloatType(), [ir.FloatType(), _FLOATS])
        function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.vector.reduce.fadd.v{LANES}f32")
        return builder.call(function, [ir.Constant(ir.FloatType(), 0.0), args[0]], fastmath=_FAST)

    return types.float32(value), generate


@intrinsic
def gather(typing: Any, array: Any, start: Any, indices: Any) -> Any:
    """array[start + indices[lane]] of a 1-D float32 array."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _gathered(builder, _address(context, builder, sig.args[0], args[0], args[1]), args[2])

    return FLOATS(array, types.intp, indices), generate


@intrinsic
def lookup(typing: Any, array: Any, start: Any, indices: Any) -> Any:
    """array[start + indices[lane]] where all indices are in 0..31: two loads and a permutation on AVX-512.

    All of array[start : start + 32] must exist.
    """

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        address = _address(context, builder, sig.args[0], args[0], args[1])
        if not _has_avx512():
            return _gathered(builder, address, args[2])
        low = builder.load(builder.bitcast(address, _FLOATS.as_pointer()), align=4)
        upper = builder.gep(address, [ir.Constant(_I32, LANES)])
        high = builder.load(builder.bitcast(upper, _FLOATS.as_pointer()), align=4)
        kind = ir.FunctionType(_FLOATS, [_FLOATS, _INTS, _FLOATS])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.avx512.vpermi2var.ps.512")
        return builder.call(function, [low, args[2], high])

    return FLOATS(array, types.intp, indices), generate


@intrinsic
def prefetch(typing: Any, array: Any, index: Any) -> Any:
    """Ask for the cache line of array[index]; any index is allowed."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        address = _address(context, builder, sig.args[0], args[0], args[1])
        kind = ir.FunctionType(ir.VoidType(), [address.type, _I32, _I32, _I32])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        read, keep, data = (ir.Constant(_I32, v) for v in (0, 3, 1))
        builder.call(function, [address, read, keep, data])
        return context.get_dummy_value()

    return types.none(array, types.intp), generate
