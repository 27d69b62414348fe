"""What torch.compile makes of an operator with no GPU: one graph, in which its kernels are nodes, or none.

Only a worker that compiles imports this; torch's compiler, which takes a second or two, only where it is asked.
"""

from collections.abc import Callable
from unittest.mock import patch

import torch
import triton

from .codegen import Driver
from .devices import TYPICAL


def kernels(entry: Callable, args: list, arch: int) -> tuple[int, int]:
    """How many of Triton's kernels the graph of a call has: of the call alone, and of the call with its backward.

    args: tensors without data, and others. Raises what torch.compile raises where it cannot take the call whole.
    """
    with patch.object(triton.runtime.driver, "_active", Driver(TYPICAL[arch])):
        alone = traced(entry, args)
        leaves = [a.requires_grad_() if isinstance(a, torch.Tensor) and a.is_floating_point() else a for a in args]
        return alone, traced(entry, leaves)


def traced(entry: Callable, args: list) -> int:
    """Nodes that are kernels in the graph of a call; where the arguments want gradients, of its backward too."""
    from functorch.compile import make_boxed_func
    from torch._dynamo.backends.common import aot_autograd
    from torch._functorch.partitioners import default_partition
    from torch._higher_order_ops.triton_kernel_wrap import triton_kernel_wrapper_functional

    graphs = []

    def take(module, _inputs):
        graphs.append(module.graph)
        return make_boxed_func(module.forward)

    def part(joint, *inputs, **more):
        graphs.append(joint.graph)  # of the forward and the backward, which are the next to be taken
        return default_partition(joint, *inputs, **more)

    torch._dynamo.reset()
    backend = aot_autograd(fw_compiler=take, bw_compiler=take, partition_fn=part)
    torch.compile(lambda *args: entry(*args), fullgraph=True, backend=backend)(*args)
    return sum(node.target is triton_kernel_wrapper_functional for node in graphs[0].nodes)
