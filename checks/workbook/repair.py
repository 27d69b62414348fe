"""Triton's interpreter made right, for Triton 3.6 to 3.9 and numpy up to 2.5. Imported by a worker only.

The interpreter holds tensors in numpy arrays. numpy has no bfloat16 and no 8-bit floats, so it keeps
those as unsigned integers, and most operations then compute on the bits. Other faults are smaller. Each
repair below says what is wrong without it.
"""

import dataclasses
import warnings

import numpy as np
import torch
import triton.language as tl
from triton import knobs
from triton._C.libtriton import ir
from triton.runtime import interpreter
from triton.runtime.interpreter import (
    InterpreterBuilder,
    TensorHandle,
    interpreter_builder,
    interpreter_semantic,
)

from . import launching, libdevice

# The floats that numpy lacks, by Triton's name.
FOREIGN = {"bf16": torch.bfloat16, "fp8e4nv": torch.float8_e4m3fn, "fp8e5": torch.float8_e5m2}
NATIVE = {"fp16", "fp32", "fp64"}
INTEGER = {1: torch.int8, 2: torch.int16}

BINARY = "add sub mul truediv floordiv mod pow and or xor lshift rshift lt le gt ge eq ne".split()  # noqa: SIM905


def install() -> None:
    """Repair the interpreter of this process, once. TRITON_INTERPRET=1 must precede the import of Triton."""
    convert_foreign_floats()
    compute_foreign_floats_in_float32()
    reduce_as_a_tree()
    reduce_foreign_floats_in_float32()
    add_foreign_floats_atomically()
    multiply_and_add_rounding_once()
    ignore_nan_in_minimum_and_maximum()
    index_with_a_tensor()
    let_constants_meet_blocks()
    leave_masked_lanes_undefined()
    let_device_assert_fire()
    launching.install()
    libdevice.install()
    np.seterr(all="ignore")  # a GPU says nothing of a division by zero, least of all in a masked-off lane
    warnings.filterwarnings("ignore", "All-NaN", RuntimeWarning)  # nor of lanes that hold nothing else


def is_foreign(handle) -> bool:
    return isinstance(handle, TensorHandle) and handle.dtype.scalar.name in FOREIGN


def widen(handle):
    """A foreign handle as fp32, exactly; any other as it is."""
    if not is_foreign(handle):
        return handle
    dtype = FOREIGN[handle.dtype.scalar.name]
    integers = torch.from_numpy(handle.data.astype(f"i{dtype.itemsize}"))
    return TensorHandle(integers.view(dtype).float().numpy(), tl.float32)


def narrow(handle, dtype):
    """A numeric handle as the foreign ``dtype``, rounded to nearest even; fp8 saturates, as on a GPU."""
    target = FOREIGN[dtype.scalar.name]
    values = torch.from_numpy(np.array(handle.data, np.float32))
    if target.itemsize == 1:
        values = values.clamp(-torch.finfo(target).max, torch.finfo(target).max)
    bits = values.to(target).view(INTEGER[target.itemsize]).numpy().view(f"u{target.itemsize}")
    return TensorHandle(bits, dtype.scalar)


def convert_foreign_floats() -> None:
    """Without it fp32 to bf16 truncates, fp8 rounds wrongly, and integers turn into bf16's bits."""
    plain = InterpreterBuilder.create_fp_to_fp

    def cast_impl(self, src, dst_type):
        src = widen(src)
        if dst_type.scalar.name in FOREIGN:
            return narrow(src, dst_type)
        return TensorHandle(src.data.astype(interpreter._get_np_dtype(dst_type)), dst_type.scalar)

    def create_fp_to_fp(self, src, dst_type, rounding_mode):
        known = {src.dtype.scalar.name, dst_type.scalar.name} <= FOREIGN.keys() | NATIVE
        if known and rounding_mode != ir.ROUNDING_MODE.RTZ:
            return self.cast_impl(src, dst_type)
        return plain(self, src, dst_type, rounding_mode)

    def get_bf16(self, value):
        return narrow(self.get_fp32(value), tl.bfloat16)

    InterpreterBuilder.cast_impl = cast_impl
    InterpreterBuilder.create_fp_to_fp = create_fp_to_fp
    InterpreterBuilder.get_bf16 = get_bf16


def compute_foreign_floats_in_float32() -> None:
    """Without it arithmetic, comparisons and dot take the bits of bf16 and fp8 for integers."""

    def wrap(name):
        plain = getattr(InterpreterBuilder, name)

        def operation(self, *operands):
            if not is_foreign(operands[0]):
                return plain(self, *operands)
            result = plain(self, *map(widen, operands))
            if result.data.dtype == np.bool_:
                return TensorHandle(result.data, tl.int1)
            return narrow(result, operands[0].dtype)

        setattr(InterpreterBuilder, name, operation)

    for name in ("binary_op", "unary_op", "create_clampf"):
        wrap(name)

    dot = InterpreterBuilder.create_dot
    InterpreterBuilder.create_dot = lambda self, a, b, *rest: dot(self, widen(a), widen(b), *rest)


def reduce_foreign_floats_in_float32() -> None:
    """Without it tl.sum, tl.reduce and the scans add up the bits of a bf16 tensor."""

    def wrap(operation):
        plain = operation.apply

        def apply(self, operands):
            if not isinstance(operands, tuple) or not any(is_foreign(x.handle) for x in operands):
                return plain(self, operands)
            wide = tuple(interpreter_semantic.cast(x, tl.float32) if is_foreign(x.handle) else x for x in operands)
            return tuple(
                interpreter_semantic.cast(y, x.dtype) for x, y in zip(operands, plain(self, wide), strict=True)
            )

        operation.apply = apply

    wrap(interpreter.ReduceOps)
    wrap(interpreter.ScanOps)


def reduce_as_a_tree() -> None:
    """Without it a combine function is folded one element after the other, which takes long and rounds far worse than
    a GPU's tree, and tl.argmax treats NaN as numpy does. Neighbours are combined, so that the order is kept."""
    plain = interpreter.ReduceOps.apply_impl
    in_numpy = {tl.standard._sum_combine, tl.standard._elementwise_max, tl.standard._elementwise_min}

    def apply_impl(self, operands):
        if self.combine_fn in in_numpy:
            return plain(self, operands)
        parts, axis = self.unravel(operands, self.axis)
        dimensions = operands[0].handle.data.ndim
        blocks = [np.moveaxis(x.handle.data, axis, 0) for x in parts]

        def tensors(step):
            return [self.to_tensor(block[step], x.dtype) for block, x in zip(blocks, parts, strict=True)]

        while len(blocks[0]) > 1:
            try:
                combined = self.combine_fn.fn(*tensors(slice(0, None, 2)), *tensors(slice(1, None, 2)))
            except ValueError:  # `and`, `or` and `if` ask for the truth of a single number
                return plain(self, operands)
            combined = combined if isinstance(combined, tuple) else (combined,)
            blocks = [y.handle.data.reshape(len(blocks[0]) // 2, *blocks[0].shape[1:]) for y in combined]
        if self.keep_dims:
            kept = range(dimensions) if self.axis is None else axis
            return [self.to_tensor(np.expand_dims(b[0], kept), x.dtype) for b, x in zip(blocks, parts, strict=True)]
        return [self.to_tensor(b[0], x.dtype) for b, x in zip(blocks, parts, strict=True)]

    interpreter.ReduceOps.apply_impl = apply_impl


def add_foreign_floats_atomically() -> None:
    """Without it tl.atomic_add on bf16 adds up the bits."""
    plain = InterpreterBuilder.create_atomic_rmw
    memory = interpreter._interpreter

    def create_atomic_rmw(self, op, pointers, values, mask, *rest):
        if not is_foreign(values):
            return plain(self, op, pointers, values, mask, *rest)
        at, result = pointers.data.ravel(), np.zeros(pointers.data.size, values.data.dtype)
        waiting = np.flatnonzero(mask.data)
        while waiting.size:
            _, first = np.unique(at[waiting], return_index=True)  # lanes that share an address take turns
            turn = waiting[first]
            everywhere = np.ones(turn.size, bool)
            result[turn] = memory.load(at[turn], everywhere, result[turn], result.dtype)
            old = TensorHandle(result[turn], values.dtype.scalar)
            new = self.binary_op(old, TensorHandle(values.data.ravel()[turn], old.dtype), np.add)
            memory.store(at[turn], new.data, everywhere)
            waiting = np.delete(waiting, first)
        return TensorHandle(result.reshape(pointers.data.shape), values.dtype.scalar)

    InterpreterBuilder.create_atomic_rmw = create_atomic_rmw


def multiply_and_add_rounding_once() -> None:
    """Without it tl.fma rounds the product too (before 3.9), and fails on bf16."""

    def create_fma(self, x, y, z):
        x, y, wide = (self.cast_impl(operand, tl.float64) for operand in (x, y, z))
        return self.cast_impl(TensorHandle(x.data * y.data + wide.data, tl.float64), z.dtype)

    InterpreterBuilder.create_fma = create_fma


def ignore_nan_in_minimum_and_maximum() -> None:
    """Without it (before 3.8) tl.minimum and tl.maximum return NaN where a GPU returns the other operand."""
    InterpreterBuilder.create_minnumf = lambda self, lhs, rhs: self.binary_op(lhs, rhs, np.fmin)
    InterpreterBuilder.create_maxnumf = lambda self, lhs, rhs: self.binary_op(lhs, rhs, np.fmax)


def index_with_a_tensor() -> None:
    """Without it range(n) with a run-time n fails on Triton 3.6: numpy 2.4 refuses int() of a 1-d array."""
    plain = interpreter._patch_lang_tensor

    def patch(tensor, scope):
        plain(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.item()))

    interpreter._patch_lang_tensor = patch


def let_constants_meet_blocks() -> None:
    """Without it what comes of a global tl.constexpr and a block, in this order, is a constant that holds a block."""

    def mended(plain):
        def operate(constant, other):
            result = plain(constant, other)
            block = isinstance(result, tl.constexpr) and isinstance(result.value, tl.tensor)
            return result.value if block else result

        return operate

    for name in BINARY:
        setattr(tl.constexpr, f"__{name}__", mended(getattr(tl.constexpr, f"__{name}__")))


def leave_masked_lanes_undefined() -> None:
    """Without it a lane that its mask leaves out holds 0 where no `other` is given; on a GPU it may hold anything."""
    plain = InterpreterBuilder.create_masked_load

    def load(builder, pointers, mask, other, *rest, **more):
        if other is None:
            dtype = pointers.get_element_ty()
            anything = np.zeros(pointers.data.shape, interpreter._get_np_dtype(dtype))
            anything.view(np.uint8).fill(1 if dtype == tl.int1 else 0xFF)  # NaN, in a float of any kind
            other = TensorHandle(anything, dtype)
        return plain(builder, pointers, mask, other, *rest, **more)

    InterpreterBuilder.create_masked_load = load


def let_device_assert_fire() -> None:
    """Without it tl.device_assert does nothing: it only fires in debug mode.

    Debug mode would also check every integer operation for overflow, at twice the time, where a GPU wraps around: it
    does with TRITON_DEBUG=1, as on a GPU.
    """
    options = dataclasses.replace(interpreter_builder.options, debug=True, sanitize_overflow=knobs.runtime.debug)
    interpreter_builder.options = options
