"""Memory that grader and worker share: one arena, in which a tensor is (offset, shape, stride, dtype).

The grader fills the arena with random bytes. After a run every byte outside what the worker allocated must be
unchanged: that one rule finds stores past an end, into the holes of a strided tensor, and into an input. This is
the only module that both sides import.
"""

import ctypes
import fcntl
import mmap
import os

import torch
from torch._library.custom_ops import OPDEFS
from torch.utils._python_dispatch import TorchDispatchMode

ALIGN = 256  # bytes; what a CUDA allocation has, so that Triton specialises on the alignment as it does for users
GUARD = 16384  # bytes between two tensors
LARGE_PAGE = 2 << 20  # bytes; an allocation of another size is mapped in small pages by the process that opens it
IPC_LAZY = 1  # CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS


def span(shape, stride) -> int:
    """Elements from the first to one past the last of a strided tensor."""
    return 0 if 0 in shape else 1 + sum((n - 1) * s for n, s in zip(shape, stride, strict=True))


def describe(offset: int, t: torch.Tensor) -> dict:
    """The plain JSON that stands for a tensor which begins at a byte of the arena."""
    return {"offset": offset, "shape": list(t.shape), "stride": list(t.stride()), "dtype": str(t.dtype)[6:]}


def nbytes(d: dict) -> int:
    return span(d["shape"], d["stride"]) * getattr(torch, d["dtype"]).itemsize


def view(arena: torch.Tensor, d: dict) -> torch.Tensor:
    """The tensor that a description stands for. Raises ValueError where it does not lie in the arena."""
    dtype, size = getattr(torch, d["dtype"]), nbytes(d)
    if size == 0:  # torch gives an empty tensor no address
        return torch.empty_strided(d["shape"], d["stride"], dtype=dtype, device=arena.device)
    if not 0 <= d["offset"] <= d["offset"] + size <= arena.numel() or d["offset"] % dtype.itemsize:
        raise ValueError("the tensor does not lie in the arena")
    return arena[d["offset"] : d["offset"] + size].view(dtype).as_strided(d["shape"], d["stride"])


def raw(t: torch.Tensor) -> torch.Tensor:
    """The bytes of a contiguous tensor."""
    return t.reshape(-1).view(torch.uint8)


def write(arena: torch.Tensor, arguments, described) -> None:
    """Copies the tensors among a call's arguments to their places; an expanded one is stored once."""
    for a, d in zip(arguments, described, strict=True):
        if isinstance(a, torch.Tensor) and a.numel():
            place = view(arena, d)
            for dim in (i for i, stride in enumerate(a.stride()) if stride == 0):
                a, place = a.narrow(dim, 0, 1), place.narrow(dim, 0, 1)
            place.copy_(a)


class Layout:
    """Places in an arena, one after the other, with guard bands between."""

    def __init__(self, at: int = 0):
        self.at = at

    def take(self, size: int) -> int:
        offset = self.at + GUARD
        self.at = -(-(offset + size) // ALIGN) * ALIGN
        return offset

    def place(self, arguments) -> list:
        """The arguments of a call, each tensor described in a place of its own."""

        def described(t):
            d = describe(0, t)
            past = t.storage_offset() * t.itemsize % ALIGN  # a view keeps its alignment
            return {**d, "offset": self.take(past + nbytes(d)) + past}

        return [described(a) if isinstance(a, torch.Tensor) else a for a in arguments]


def create(size: int) -> int:
    """A sealed file in memory, for a CPU arena."""
    fd = os.memfd_create("arena", os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
    os.ftruncate(fd, size)
    # a worker that could shrink the file would kill the grader with SIGBUS
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    return fd


def attach(fd: int) -> torch.Tensor:
    return torch.frombuffer(mmap.mmap(fd, 0), dtype=torch.uint8)


class IpcHandle(ctypes.Structure):
    _fields_ = [("reserved", ctypes.c_ubyte * 64)]


class DeviceArena:
    """The same on a GPU: device memory by the driver's own calls, for a handle of plain bytes that no pickle carries.

    tensor: uint8 [size]. handle: hex. Raises MemoryError where the device has not that much left.
    """

    def __init__(self, size: int = 0, handle: str | None = None):
        torch.cuda.current_stream().synchronize()  # the driver needs torch's context to be current
        self.driver, self.pointer, self.opened = ctypes.CDLL("libcuda.so.1"), ctypes.c_uint64(), handle is not None
        if handle is None:
            torch.cuda.empty_cache()
            ipc = IpcHandle()
            whole = -(-size // LARGE_PAGE) * LARGE_PAGE
            self._call("cuMemAlloc_v2", ctypes.byref(self.pointer), ctypes.c_size_t(whole))
            self._call("cuIpcGetMemHandle", ctypes.byref(ipc), self.pointer)
        else:
            ipc = IpcHandle.from_buffer_copy(bytes.fromhex(handle))
            self._call("cuIpcOpenMemHandle_v2", ctypes.byref(self.pointer), ipc, ctypes.c_uint(IPC_LAZY))
        self.handle = bytes(ipc).hex()
        self.__cuda_array_interface__ = {
            "shape": (size,),
            "typestr": "|u1",
            "data": (self.pointer.value, False),
            "version": 3,
        }
        self.tensor = torch.as_tensor(self, device="cuda")

    def close(self) -> None:
        torch.cuda.synchronize()
        del self.tensor
        self._call("cuIpcCloseMemHandle" if self.opened else "cuMemFree_v2", self.pointer)

    def _call(self, name, *arguments):
        if code := getattr(self.driver, name)(*arguments):
            raise MemoryError(f"{name} answered {code}" + (": out of GPU memory" if code == 2 else ""))


EMPTY = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided"}
FILLED = {"zeros", "zeros_like", "new_zeros", "ones", "ones_like", "new_ones", "full", "full_like", "new_full"}


def plain(function):
    """The function behind an operator that torch.library made, or a function as it is.

    An operator refuses a result that shares its storage with an argument, as all that lies in an arena does.
    """
    return getattr(function, "_init_fn", function)


class Heap(TorchDispatchMode):
    """While a graded call runs: new tensors come from the arena, and what torch itself does is written down.

    taken: (offset, bytes) of each allocation. operations: {name, bytes} of each call of torch that moves memory.
    quiet: a callable, true while Triton itself calls torch.
    """

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # skipping would import torch's compiler first, which takes 2 s

    @classmethod
    def ignore_compile_internals(cls) -> bool:
        return True  # otherwise torch.compile would compile nothing below this mode, and not say so

    def __init__(self, arena: torch.Tensor, start: int, end: int, quiet=lambda: False):
        super().__init__()
        self.arena, self.layout, self.end, self.quiet = arena, Layout(start), end, quiet
        self.taken, self.operations, self.elsewhere = [], [], 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if self.quiet():
            return func(*args, **kwargs)
        with self:  # what the learner's operators call is seen here too, and what torch's consist of, as in autograd
            if operator := OPDEFS.get(func._schema.name):
                return plain(operator)(*args, **kwargs)
            if (out := func.decompose(*args, **kwargs)) is not NotImplemented:
                return out
        name = func.overloadpacket.__name__
        out = func(*args, **kwargs)
        if name in EMPTY | FILLED and out.device.type == self.arena.device.type:
            place = self.allocate(out)
            if place is None:
                self.elsewhere += out.nbytes
                return out
            if name in FILLED:
                place.copy_(out)
                self.operations.append({"name": name, "bytes": out.nbytes})
            return place
        if not func.is_view and name != "_unsafe_view":
            self._note(name, args, kwargs, out)
        return out

    def allocate(self, like: torch.Tensor) -> torch.Tensor | None:
        """A tensor of the same shape, stride and dtype in the arena; None where it has no room."""
        d = describe(0, like)
        size = nbytes(d)
        d["offset"] = self.layout.take(size)
        if self.layout.at + GUARD > self.end:
            self.layout.at = d["offset"] - GUARD
            return None
        self.taken.append((d["offset"], size))
        return view(self.arena, d)

    def place(self, t: torch.Tensor) -> dict:
        """The description of a returned tensor, which is copied into the arena where it lies elsewhere.

        Raises MemoryError where the arena has no room for it.
        """
        if t.numel() == 0:
            return describe(0, t)
        offset = t.data_ptr() - self.arena.data_ptr()
        if t.device.type == self.arena.device.type and 0 <= offset < self.arena.numel():
            return describe(offset, t)
        copy = self.allocate(t)
        if copy is None:
            raise MemoryError(f"the result of {t.nbytes:,} bytes is larger than any that was asked for")
        copy.copy_(t)
        return describe(copy.data_ptr() - self.arena.data_ptr(), copy)

    def allocation_of(self, address: int) -> tuple[int, int] | None:
        """First and last byte (exclusive) of the allocation that holds an address."""
        base = self.arena.data_ptr()
        for offset, size in self.taken:
            if offset <= address - base < offset + size:
                return base + offset, base + offset + size
        return None

    def _note(self, name, args, kwargs, out):
        read, written = _sizes([*args, *kwargs.values()]), _sizes([out])
        if read | written:
            self.operations.append({"name": name, "bytes": sum((read | written).values())})
            self.elsewhere += sum(size for address, size in written.items() if address not in read)


def _sizes(values) -> dict[int, int]:
    """Address -> bytes of each tensor among the values, also in tuples and lists of them."""
    flat = [t for x in values for t in (x if isinstance(x, (tuple, list)) else [x])]
    return {t.data_ptr(): nbytes(describe(0, t)) for t in flat if isinstance(t, torch.Tensor) and t.numel()}
