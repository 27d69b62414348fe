"""The plots of `make bench`: one timed case over its sizes; many parts under one roofline; many parts beside peers."""

import statistics

import numpy as np

from . import devices, style, targets
from .curves import Curve, Run, amount, is_ms, rate, size

OURS = {"marker": "o", "linestyle": "", "color": style.BLUE, "markersize": 8}
NAIVE = {"marker": "o", "linestyle": "", "color": "white", "markeredgecolor": style.VERMILLION, "markersize": 6.5}
ASKED = {"color": style.VERMILLION, "linewidth": 2.2}
BLANK = {"facecolor": "white", "edgecolor": "none", "pad": 1}
MUST_FAIL = "the naive kernel that the target must fail"


def sweep(run: Run, curve: Curve) -> style.Figure:
    """Achieved rate against size: the kernel, its peers, the roofline, and the target, which is the timed case's."""
    points, timed, sizes = curve.points, curve.timed, [p.bytes for p in curve.points]
    about = f"{timed.case} and other sizes · {_about(run)}"
    figure, axes = style.canvas(f"{curve.part} {curve.title}", about)
    rates = [curve.rate(p, p.ms) for p in points]
    grid = np.geomspace(sizes[0], sizes[-1], 400)
    flops = np.exp(np.interp(np.log(grid), np.log(sizes), [np.log(max(1, p.flops)) for p in points]))
    done = grid / 1e6 if curve.unit == "GB/s" else flops / 1e9
    roof = done / [curve.roofline(*work) for work in zip(grid, flops, strict=True)]
    asked = curve.target * curve.rate(timed, curve.roofline(timed.bytes, timed.flops))
    top = 1.08 * max(*roof, *rates)
    axes.fill_between(grid, roof, top, color=style.FAINT, linewidth=0)
    matmul = [f"matmul {rate(curve.matmul)} TFLOPS"] if curve.unit == "TFLOPS" else []
    ceilings = [f"copy {rate(curve.copy)} GB/s", *matmul, f"launch {rate(1e3 * curve.launch)} µs"]
    style.above(axes, f"grey: out of reach ({', '.join(ceilings)})")
    axes.plot(grid, roof, color=style.INK, linewidth=1.6)
    axes.plot(grid[roof > asked], [asked] * sum(roof > asked), "--", color=style.VERMILLION, linewidth=1.4)
    words = [
        (roof[-1], f"roofline {rate(roof[-1])}", style.INK, ""),
        (asked, f"asked {rate(asked)}, {curve.target:.0%}", style.VERMILLION, ""),
        (rates[-1], f"{run.whose} {rate(rates[-1])}", style.BLUE, "o"),
    ]
    for name, (colour, marker) in _peers([curve]).items():
        told = [(p.bytes, curve.rate(p, ms)) for p in points if is_ms(ms := p.peers.get(name))]
        axes.plot(*zip(*told, strict=True), color=colour, linewidth=1.6, marker=marker, markersize=5, clip_on=False)
        words.append((told[-1][1], f"{name} {rate(told[-1][1])}", colour, marker))
    axes.plot(sizes, rates, color=style.BLUE, linewidth=2.6, marker="o", markersize=6.5, clip_on=False, zorder=4)
    axes.set(xscale="log", xlim=(sizes[0] / 1.1, sizes[-1]), ylim=(0, top), xlabel="necessary bytes of a call")
    axes.minorticks_off()
    axes.xaxis.set_major_formatter(size)
    axes.yaxis.set_major_formatter(amount)
    style.unit(axes, curve.unit)
    style.beside(axes, words)
    return figure


def roofline(run: Run) -> style.Figure:
    """A dot a timed case, arithmetic intensity against achieved TFLOPS; hollow: what its target must fail."""
    dots = [(c, c.timed.flops / c.timed.bytes, c.timed.flops / c.timed.ms / 1e9) for c in run.curves if c.timed.flops]
    slow = [(x, y * c.timed.ms / ms) for c, x, y in dots for ms in c.naive.values()]
    copy = statistics.median(c.copy for c in run.curves) / 1e3  # TFLOPS, at one operation a byte
    roofs = _roofs(run)
    low = min([0.1, *(x for _, x, _ in dots)]) / 2
    high = 3 * max([1, *(x for _, x, _ in dots), *(tflops / copy for tflops in roofs)])
    peak = max(roofs, default=high * copy)
    least = min([low * copy, *(y for _, _, y in dots), *(y for _, y in slow)])
    figure, axes = style.canvas("Roofline", _about(run))
    axes.set(xscale="log", yscale="log", xlim=(low, high), ylim=(least / 2, 4 * peak))
    axes.set_xlabel("arithmetic intensity, operations a byte")
    axes.minorticks_off()
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(amount)
    style.unit(axes, "TFLOPS")
    corners = [(low, low * copy), (peak / copy, peak), (high, peak)]
    axes.fill_between(*zip(*corners, strict=True), 4 * peak, color=style.FAINT, linewidth=0)
    axes.plot(*zip(*corners, strict=True), color=style.INK, linewidth=1.8)
    style.along(axes, *corners[:2], f"copy {rate(1e3 * copy)} GB/s")
    for tflops in roofs:
        axes.plot([tflops / copy, high], [tflops] * 2, color=style.INK, linewidth=0.9)
    style.beside(axes, [(tflops, words, style.INK, "") for tflops, words in roofs.items()])
    for x, y in slow:
        axes.plot([x, x], [y, min(x * copy, peak)], color=style.VERMILLION, linewidth=0.9, alpha=0.5)
    for x, y in slow:
        axes.plot(x, y, **NAIVE)
    for _, x, y in dots:
        axes.plot(x, y, **OURS, zorder=4)
    style.names(axes, [(x, y, c.part) for c, x, y in dots])
    style.legend(axes, [(run.whose, style.mark(**OURS)), *[(MUST_FAIL, style.mark(**NAIVE))] * bool(slow)])
    if idle := dict.fromkeys(c.part for c in run.curves if not c.timed.flops):
        words = f"no arithmetic, so not here: {', '.join(idle)}"
        axes.text(0.98, 0.03, words, transform=axes.transAxes, ha="right", fontsize=9.5, color=style.QUIET, bbox=BLANK)
    return figure


def peers(run: Run) -> style.Figure:
    """A row a timed case: the share of the roofline that the kernel reaches, the one asked, and what others reach."""
    rows = run.curves
    looks = {
        name: {"marker": marker, "linestyle": "", "color": colour, "markeredgecolor": "white", "markersize": 8}
        for name, (colour, marker) in _peers(rows).items()
    }
    left = max(3.0, 0.2 + 0.068 * max(len(c.timed.case) for c in rows))
    entries, height = 3 + len(looks), 2.1 + 0.42 * len(rows)
    title = "Beside what one would call instead"
    figure, axes = style.canvas(title, _about(run), left=left, right=1.3, height=height, entries=entries)
    shares = [c.share(c.timed, c.timed.ms) for c in rows]
    reached = [c.share(c.timed, ms) for c in rows for ms in c.timed.peers.values() if is_ms(ms)]
    axes.set(xlim=(0, 1.05 * max(1, *shares, *reached)), ylim=(len(rows) - 0.4, -0.6), yticks=[])
    axes.xaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    axes.set_xlabel("of the roofline")
    bars = axes.barh(range(len(rows)), shares, height=0.6, color=style.BLUE, alpha=0.3)
    axes.axvline(1, color=style.INK, linewidth=1.6)
    on_row = axes.get_yaxis_transform()
    for y, c in enumerate(rows):
        p = c.timed
        others = [(c.share(p, ms), looks[name]) for name, ms in p.peers.items() if is_ms(ms)]
        axes.plot([c.target] * 2, [y - 0.38, y + 0.38], **ASKED)
        for share, look in others:
            axes.plot(share, y, **look)
        for ms in c.naive.values():
            axes.plot(c.share(p, ms), y, **NAIVE)
        axes.text(-0.015, y - 0.02, f"{c.part} {c.title}", transform=on_row, ha="right", va="bottom", fontsize=10.5)
        axes.text(-0.015, y + 0.02, c.timed.case, transform=on_row, ha="right", va="top", fontsize=8, color=style.QUIET)
        axes.text(1.015, y, f"{rate(c.rate(p, p.ms))} {c.unit}", transform=on_row, va="center", fontsize=10.5)
    entries = [
        (run.whose, bars),
        ("asked", style.mark(marker="|", markeredgewidth=2.2, markersize=11, linestyle="", color=style.VERMILLION)),
        *((n, style.mark(**k)) for n, k in looks.items()),
    ]
    style.legend(axes, [*entries, *[("must fail", style.mark(**NAIVE))] * any(c.naive for c in rows)])
    return figure


def _peers(curves: list[Curve]) -> dict[str, tuple[str, str]]:
    """Colour and marker of each peer that was timed, in the order of their names' first appearance."""
    timed = {name: None for c in curves for p in c.points for name, ms in p.peers.items() if is_ms(ms)}
    return dict(zip(timed, style.MARKED * len(timed), strict=False))


def _roofs(run: Run) -> dict[float, str]:
    """TFLOPS of the flat roofs, and the words for each."""
    device = devices.find(run.about["device"], run.about["memory"])
    roofs = {}
    if measured := [c.matmul for c in run.curves if c.matmul]:
        roofs[statistics.median(measured)] = "bf16 {} (measured)"
    elif device:
        roofs[targets.MATMUL * device.peaks["bf16"]] = "bf16 {} (derived)"
    if device:
        roofs[device.peaks["fp32"]] = "fp32 {} (datasheet)"
    return {tflops: words.format(rate(tflops)) for tflops, words in roofs.items()}


def _about(run: Run) -> str:
    about = run.about
    return f"{about['device']} · torch {about['torch']}, triton {about['triton']} · {about['date']}"
