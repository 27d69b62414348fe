"""Launches in Triton's interpreter made right: what they take, refuse and copy. Part of repair.py."""

import numpy as np
import torch
import triton.language as tl
from triton import knobs
from triton.runtime import interpreter
from triton.runtime.autotuner import Autotuner
from triton.runtime.interpreter import TensorHandle

WARPS = (1, 2, 4, 8, 16, 32)


def install() -> None:
    pass_booleans()
    share_arguments()
    refuse_impossible_launches()
    refuse_narrow_products()
    tune_without_a_driver()
    launch_what_is_wrapped()


def pass_booleans() -> None:
    """Without it (before 3.9) a launch with True or False among its arguments fails."""
    plain = interpreter._implicit_cvt

    def convert(argument):
        if isinstance(argument, bool):
            return tl.tensor(TensorHandle(np.array([argument]), tl.int1), tl.int1)
        return plain(argument)

    interpreter._implicit_cvt = convert


def share_arguments() -> None:
    """Without it a launch ends by copying each storage, here the whole shared arena, onto itself."""
    interpreter.GridExecutor._init_args_hst = lambda self, args, kwargs: (args, kwargs)
    interpreter.GridExecutor._restore_args_dev = lambda self, args, host_args, kwargs, host_kwargs: None


def refuse_impossible_launches() -> None:
    """Without it any number of warps will do."""
    plain = interpreter.GridExecutor.__call__

    def launch(executor, *args, **kwargs):
        if (warps := kwargs.get("num_warps", 4)) not in WARPS:
            raise ValueError(f"num_warps is {warps}, it has to be one of {', '.join(map(str, WARPS))}")
        return plain(executor, *args, **kwargs)

    interpreter.GridExecutor.__call__ = launch


def refuse_narrow_products() -> None:
    """Without it tl.dot takes blocks that are narrower along k than an instruction of the tensor cores."""
    interpreter.interpreter_builder.codegen_fns["min_dot_size"] = lambda lhs, rhs: (
        (1, 1, 32) if lhs.scalar.primitive_bitwidth == 8 else (1, 1, 16)
    )


def tune_without_a_driver() -> None:
    """Without it triton.autotune wants a GPU's clock. Here the sizes of a call choose, one sort of call another."""

    def bench(tuner, *args, config, **meta):
        sizes = [value for value in tuner.nargs.values() if isinstance(value, int)]
        return [float((tuner.configs.index(config) - sum(sizes)) % len(tuner.configs))] * 3

    Autotuner._bench = bench
    knobs.autotuning.print = False  # nothing was measured


def launch_what_is_wrapped() -> None:
    """Without it torch.library.wrap_triton (before torch 2.13) refuses a kernel that is interpreted."""
    torch.library.wrap_triton = lambda kernel: kernel
