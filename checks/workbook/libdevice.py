"""libdevice in Triton's interpreter: NVIDIA's functions, computed by torch. Imported by a worker only."""

import numpy as np
import torch
import triton.language as tl
from triton.language.extra import libdevice
from triton.language.extra.cuda import libdevice as cuda_libdevice
from triton.runtime import interpreter
from triton.runtime.interpreter import InterpreterBuilder, TensorHandle, interpreter_semantic

# fmt: off
SAME_IN_TORCH = (
    "abs", "acos", "acosh", "asin", "asinh", "atan", "atan2", "atanh", "ceil", "copysign", "cos",
    "cosh", "erf", "erfc", "erfinv", "exp", "exp2", "expm1", "floor", "fmod", "hypot", "isinf",
    "isnan", "lgamma", "log", "log10", "log1p", "log2", "nextafter", "pow", "rsqrt", "signbit", "sin",
    "sinh", "sqrt", "tan", "tanh", "trunc",
)
# fmt: on

# libdevice's functions by the name of their symbol, less __nv_ and the f or d that tells the width.
LIBDEVICE = {
    **{name: getattr(torch, name) for name in SAME_IN_TORCH},
    **{f"fast_{name}": getattr(torch, name) for name in ("cos", "exp", "log", "log10", "log2", "pow", "sin", "tan")},
    "fast_tanh": torch.tanh,
    "fast_fdivide": torch.div,
    "fast_exp10": lambda x: torch.pow(10, x),
    "exp10": lambda x: torch.pow(10, x),
    "fabs": torch.abs,
    "fma": lambda x, y, z: (x.double() * y.double() + z.double()).to(x.dtype),
    "nearbyint": torch.round,
    "normcdf": torch.special.ndtr,
    "powi": torch.pow,
    "rint": torch.round,
    "round": lambda x: torch.copysign(torch.floor(x.double().abs() + 0.5), x).to(x.dtype),  # ties away from zero
    "saturate": lambda x: x.clamp(0, 1),
}


def install() -> None:
    """Without it libdevice's functions return None, or fail, where the compiler links NVIDIA's library.

    Triton's own declarations check the types and broadcast, so that what compiles not is refused here too.
    """

    def create_extern_elementwise(self, library, path, symbol, operands, result_type, is_pure):
        name = symbol.removeprefix("__nv_")
        function = LIBDEVICE.get(name) or (LIBDEVICE.get(name[:-1]) if name[-1] in "fd" else None)
        if function is None:
            raise NotImplementedError(f"libdevice's {symbol} cannot be interpreted, only compiled for a GPU")
        result = function(*(torch.from_numpy(np.array(operand.data)) for operand in operands)).numpy()
        return TensorHandle(result.astype(interpreter._get_np_dtype(result_type)), result_type.scalar)

    def with_semantic(function):
        def call(*operands, _semantic=None):
            try:
                return function(*operands, _semantic=interpreter_semantic)
            except KeyError as error:
                given = ", ".join(map(str, error.args[0]))
                raise TypeError(
                    f"libdevice.{function.__name__} takes no {given}: convert with .to(tl.float32) first"
                ) from None

        return call

    InterpreterBuilder.create_extern_elementwise = create_extern_elementwise
    for name in [name for name in dir(libdevice) if not name.startswith("_")]:
        declaration = getattr(cuda_libdevice, name, None)
        if tl.core.is_builtin(declaration):
            function = with_semantic(declaration)
            setattr(libdevice, name, function)
            setattr(cuda_libdevice, name, function)
