"""Draws rows.svg and epilogues.svg: what the kernels of stage 3 become, by the compiler, with no GPU.

Warps that a multiprocessor holds, registers and spilled bytes of a thread: of RMSNorm (3.1d) by the width of a row and
the warps of a program, and of a matmul by its epilogue and its tile (2.1b has none, 3.3a has four, and the tile of 3.3d
is two, side by side).
"""

import importlib.util
import sys
from pathlib import Path

import matplotlib
import torch
import triton
from workbook import catalog, codegen
from workbook.occupancy import occupancy

matplotlib.use("svg")
matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "fusion", "font.size": 9})
import matplotlib.pyplot as plt  # noqa: E402

GPUS = {80: "sm_80 (A100)", 90: "sm_90 (H100)"}
WIDTHS, WARPS = (2048, 4096, 8192, 16384, 32768, 65536), (4, 8, 16, 32)
TILES = {(128, 128, 64): "128 x 128 x 64", (128, 256, 64): "128 x 256 x 64"}
EPILOGUES = {
    "none": "none (2.1b)",
    "relu": "relu",
    "silu": "silu",
    "gelu": "gelu",
    "gelu_tanh": "gelu_tanh",
    "pair": "swiglu of two (3.3d)",
}


def solution(path: str):
    spec = importlib.util.spec_from_file_location(Path(path).stem, catalog.ROOT / "solutions" / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


norm = solution("3_fusion/1_layer_norm/d_rms_norm.py")
grouped = solution("2_memory_patterns/1_tiled_matmul/b_grouped.py")
linear = solution("3_fusion/3_feed_forward/a_linear_activation.py")
gated = solution("3_fusion/3_feed_forward/d_gated.py")


def tensor(*shape, dtype=torch.bfloat16):
    return torch.empty(shape, dtype=dtype, device="meta")


def forward(n: int, warps: int):
    x, w, rstd = tensor(128, n), tensor(n), tensor(128, dtype=torch.float32)
    norm.forward_kernel[(1,)](x, None, w, x, None, rstd, n, n, 0, 1e-6, BLOCK=n, num_warps=warps)


def backward(n: int, warps: int):
    x, w, rstd, partial = tensor(128, n), tensor(n), tensor(128, dtype=torch.float32), tensor(1, n, dtype=torch.float32)
    strides = n, 1, 0, 0, n
    norm.backward_kernel[(1,)](x, None, x, w, rstd, x, partial, 128, n, *strides, BLOCK=n, num_warps=warps)


def matmul(epilogue: str, tile: tuple[int, int, int]):
    x, bias = tensor(4096, 4096), tensor(4096)
    sizes = 3 * (4096,) + 2 * x.stride()
    launch = dict(zip(("TILE_M", "TILE_N", "TILE_K"), tile, strict=True), GROUP_M=8, num_warps=8, num_stages=3)
    if epilogue == "none":
        grouped.matmul_kernel[(1,)](x, x, x, *sizes, **launch)
    elif epilogue == "pair":
        gated.gated_kernel[(1,)](x, tensor(8192, 4096), x, *sizes, **launch | {"TILE_N": tile[1] // 2})
    else:
        linear.linear_kernel[(1,)](x, x, bias, x, *sizes, OP=epilogue, **launch)


def draw(name: str, kernels: dict, rows: dict, columns: dict, size: tuple[float, float]):
    """A panel for each kernel and GPU; a cell for each of `rows` and `columns`, which the kernel is launched with."""
    figure, panels = plt.subplots(len(kernels), len(GPUS), figsize=size, sharey=True, sharex=True, layout="constrained")
    places = [(arch, title, launch) for title, launch in kernels.items() for arch in GPUS]
    for axes, (arch, title, launch) in zip(panels.flat, places, strict=True):
        axes.set_title(f"{title}, {GPUS[arch]}")
        resident = []
        for y, row in enumerate(rows):
            resident.append([])
            for x, column in enumerate(columns):
                with codegen.capture(arch) as launches:
                    launch(row, column)
                f = codegen.facts(launches[0])
                held = occupancy(arch, f["threads"], f["registers"], f["shared"])
                lines = [f"{f['registers']} reg, {held.warps} warps"]
                lines += [f"spills {f['spills']:,} B"] * (f["spills"] > 0)
                resident[-1].append(0 if f["spills"] else held.warps)
                colour = "#d55e00" if f["spills"] else "black"
                axes.text(x, y, "\n".join(lines), ha="center", va="center", color=colour, fontsize=7)
                print(arch, title, rows[row], columns[column], ", ".join(lines), sep=", ", flush=True)
        axes.imshow(resident, cmap="Greens", vmin=0, vmax=90, aspect="auto")
        axes.set_xticks(range(len(columns)), columns.values())
        axes.set_yticks(range(len(rows)), rows.values())
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
    told = "registers of a thread, warps that a multiprocessor holds, bytes that a thread spills"
    figure.supxlabel(f"{told}; bf16, triton {triton.__version__}", fontsize=8)
    figure.savefig(folder / f"{name}.svg", metadata={"Date": None})


folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
widths, warps = {n: f"{n} wide" for n in WIDTHS}, {n: f"{n} warps" for n in WARPS}
draw("rows", {"RMSNorm": forward, "its backward, with dw": backward}, widths, warps, (11, 7))
draw("epilogues", {"a matmul's epilogue": matmul}, EPILOGUES, TILES, (9, 3.5))
