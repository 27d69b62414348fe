"""What a launch compiles to, with no GPU: registers, shared memory, spills, vector width, tensor-core use.

Only a worker of its own imports this: Triton's driver and parts of torch.cuda are replaced while a learner's
host function runs, and TRITON_INTERPRET must be unset.
"""

import contextlib
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from operator import index
from types import SimpleNamespace
from unittest.mock import patch

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.backends.driver import DriverBase
from triton.compiler import CompiledKernel
from triton.runtime import Autotuner

from . import ptx
from .devices import SHARED, TYPICAL, Device


@dataclass(frozen=True)
class Launch:
    """One `kernel[grid](...)`, compiled, not launched; `kernel.asm` has ttir, ttgir, llir, ptx and cubin."""

    kernel: CompiledKernel
    grid: tuple[int, int, int]

    @property
    def shared(self) -> int:
        return self.kernel.metadata.shared


@contextlib.contextmanager
def capture(arch: int) -> Iterator[list[Launch]]:
    """Compile for sm_`arch` (80, 86, 89 or 90) whatever is launched inside, in order, and launch nothing.

    Tensors are on the meta device or the CPU; their alignment and strides specialize the kernel as on a GPU.
    An autotuned kernel is compiled with the first configuration (after pruning) that fits the device's shared
    memory, or the one that needs least. Errors of the compiler pass through as Triton raises them.
    """
    device, launches = TYPICAL[arch], []

    def run(kernel: CompiledKernel) -> Callable:
        return lambda x, y, z, *_: launches.append(Launch(kernel, (index(x), index(y), index(z))))

    def autotune(tuner: Autotuner, *args, **kwargs) -> CompiledKernel:
        tried = []
        for _, launch in configurations(tuner, launches, args, kwargs):
            tried.append(launch)
            if launch.shared <= device.shared_per_block:
                break
        launches.append(min(tried, key=lambda launch: launch.shared))
        return launches[-1].kernel

    with (
        patch.object(triton.runtime.driver, "_active", Driver(device)),
        # Before a launch Triton loads the binary into the GPU, even only to tell a profiler of it.
        patch.object(CompiledKernel, "_init_handles", lambda kernel: None),
        patch.object(CompiledKernel, "run", property(run)),
        patch.object(Autotuner, "run", autotune),
        patch.multiple(torch.cuda, **cuda(device)),
    ):
        yield launches


def configurations(tuner: Autotuner, launches: list, args, kwargs) -> Iterator[tuple[triton.Config, Launch]]:
    """Compiles a call with one configuration after the other that the tuner's pruning leaves."""
    tuner.nargs = dict(zip(tuner.arg_names, args, strict=False))
    for config in tuner.prune_configs(kwargs):
        tuner.best_config, chosen = config, config.all_kwargs()
        if config.pre_hook:
            config.pre_hook({**tuner.nargs, **kwargs, **chosen})
        tuner.fn.run(*args, **kwargs, **chosen)
        yield config, launches.pop()


class Driver(DriverBase):
    """What Triton asks of a driver before it launches, answered for a GPU that is not here."""

    def __init__(self, device: Device):
        self.device = device
        self.utils = SimpleNamespace(get_device_properties=self.properties)

    def properties(self, _device) -> dict[str, int]:
        return {
            "max_shared_mem": self.device.shared_per_block,
            "max_num_regs": self.device.registers_per_multiprocessor,
            "multiprocessor_count": self.device.multiprocessors,
            "warpSize": 32,
        }

    @classmethod
    def is_active(cls) -> bool:
        return True

    def map_python_to_cpp_type(self, ty: str) -> str:
        return ty

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", self.device.arch, 32)

    def get_current_device(self) -> int:
        # Triton caches compiled kernels by device, so every architecture is a device of its own.
        return self.device.arch

    def get_current_stream(self, _device=None) -> int:
        return 0

    def get_active_torch_device(self) -> torch.device:
        return torch.device("meta")

    def get_benchmarker(self):
        raise NotImplementedError("nothing runs here, so nothing can be timed")


def cuda(device: Device) -> dict[str, Callable]:
    """The functions of torch.cuda that a host function asks about its device, as `device` answers them."""
    capability = divmod(device.arch, 10)
    properties = SimpleNamespace(
        name=f"NVIDIA {device.name}",
        major=capability[0],
        minor=capability[1],
        total_memory=device.memory_gb * 10**9,
        multi_processor_count=device.multiprocessors,
        L2_cache_size=device.l2_bytes,
        shared_memory_per_block=48 * 1024,
        shared_memory_per_block_optin=device.shared_per_block,
        shared_memory_per_multiprocessor=device.shared_per_multiprocessor,
        regs_per_multiprocessor=device.registers_per_multiprocessor,
        max_threads_per_multi_processor=32 * device.warps_per_multiprocessor,
        warp_size=32,
    )
    return {
        "get_device_properties": lambda _device=None: properties,
        "get_device_capability": lambda _device=None: capability,
        "get_device_name": lambda _device=None: properties.name,
        "current_device": lambda: 0,
        "device": contextlib.nullcontext,
        "set_device": lambda _device: None,
        "synchronize": lambda _device=None: None,
    }


def arguments(described: list) -> list:
    """The arguments of a call, each tensor (shape, stride, dtype) without data."""

    def meta(a):
        return torch.empty_strided(a["shape"], a["stride"], dtype=getattr(torch, a["dtype"]), device="meta")

    return [meta(a) if isinstance(a, dict) else a for a in described]


def facts(launch: Launch) -> dict:
    """What `launch` compiled to, ready for JSON.

    - kernel, line (of its def), grid, arch; warps and threads of a block; stages of its pipelined loops
    - registers and stack (bytes) of a thread
    - shared: bytes of a block, and limit: what the architecture allows, which the compiler does not enforce
    - spills: bytes that a thread stores to and loads from local memory, each instruction counted once
    - access: {line, op, bits, count} for each line that touches global memory: op is load, store or atomic,
      bits the widest access of one thread, count the instructions; tma: the lines that TMA copies
    - instructions: how many of each kind that matters, such as {"ld.128": 4, "st.32": 8, "atomic": 1,
      "cp.async": 24, "mma": 64, "wgmma": 4, "tma": 3, "bar": 2, "mbarrier": 1}
    """
    return {"line": line_of_def(launch.kernel.src.fn), "grid": launch.grid, **figures(launch.kernel)}


def figures(kernel: CompiledKernel) -> dict:
    """The facts that follow from the compiled kernel alone."""
    metadata, text = kernel.metadata, kernel.asm["ptx"]
    arch = metadata.target.arch
    access, copied, instructions = ptx.read(text)
    registers, stack, spills = resources(kernel.asm["cubin"])
    return {
        "kernel": metadata.name,
        "arch": arch,
        "registers": registers,
        "shared": metadata.shared,
        "limit": SHARED[arch],
        "spills": spills,
        "stack": stack,
        "warps": metadata.num_warps,
        "stages": metadata.num_stages,
        "threads": int(re.search(r"\.reqntid (\d+)", text)[1]),
        "access": access,
        "tma": copied,
        "instructions": instructions,
    }


OPTIONS = "num_warps num_stages num_ctas maxnreg enable_fp_fusion launch_cooperative_grid launch_pdl".split()  # noqa: SIM905


def options(launch: Launch) -> dict:
    """The compiler's options of a launch, ready for JSON."""
    metadata, ttgir = launch.kernel.metadata, launch.kernel.asm["ttgir"]
    found = {name: getattr(metadata, name) for name in OPTIONS if hasattr(metadata, name)}
    # where warps are specialised, the metadata count those too that were added
    return found | {"num_warps": int(re.search(r'"ttg.num-warps" = (\d+)', ttgir)[1])}


def source(launch: Launch) -> tuple[str, bytes]:
    """The first intermediate code that a kernel became, by the name of its stage: Gluon begins at ttgir."""
    stage = next(stage for stage in ("ttir", "ttgir") if stage in launch.kernel.asm)
    return stage, launch.kernel.asm[stage].encode()


def again(text: bytes, stage: str, options: dict, arch: int) -> CompiledKernel:
    """Intermediate code compiled for sm_`arch`. Raises what Triton raises."""
    if stage not in ("ttir", "ttgir") or not options.keys() <= set(OPTIONS):
        raise ValueError("no kernel that Triton made")
    with (
        tempfile.NamedTemporaryFile(suffix=f".{stage}") as file,
        patch.object(triton.runtime.driver, "_active", Driver(TYPICAL[arch])),
        patch.object(CompiledKernel, "_init_handles", lambda kernel: None),
    ):
        file.write(text)
        file.flush()
        return triton.compile(file.name, target=GPUTarget("cuda", arch, 32), options=options)


def texts(kernel: CompiledKernel) -> dict[str, str]:
    """What the kernel became, stage by stage: ttir (not of Gluon), ttgir, ptx, and sass, which names its lines."""
    return {
        **{stage: kernel.asm[stage] for stage in ("ttir", "ttgir", "ptx") if stage in kernel.asm},
        "sass": disassembled(kernel.asm["cubin"], "-c", "-g"),
    }


def line_of_def(function) -> int:
    """The line of `def` in the learner's file, below any decorators."""
    above = next(i for i, line in enumerate(function.raw_src) if line.lstrip().startswith("def "))
    return function.starting_line_number + above


def resources(cubin: bytes) -> tuple[int, int, int]:
    """Registers, bytes of stack, and bytes spilled (stores and loads, each instruction once) of a thread."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        usage = tool(triton.knobs.nvidia.cuobjdump.path, "-res-usage", file.name)
        registers, stack = map(int, re.search(r"REG:(\d+) STACK:(\d+)", usage).groups())
    # Spilled registers live on the stack. To disassemble takes half a second: only where there is one.
    sass = disassembled(cubin, "-c", "-ndf") if stack else ""
    spilled = re.findall(r"\b(?:LDL|STL)(?:\.\w+)*?(?:\.(8|U8|S8|16|U16|S16|64|128))?\s", sass)
    return registers, stack, sum(int(bits.lstrip("US") or 32) // 8 for bits in spilled)


def disassembled(cubin: bytes, *options: str) -> str:
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        return tool(triton.knobs.nvidia.nvdisasm.path, *options, file.name)


def tool(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@triton.jit
def empty_kernel(x_ptr):
    pass


def warm_up() -> None:
    """Does once, in the process that workers are forked from, what is slow the first time (1.5 s)."""
    with capture(80) as launches:
        empty_kernel[(1,)](torch.empty_like(torch.empty(1, device="meta")))
    facts(launches[0])
