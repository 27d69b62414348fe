"""A target is a share of the roofline; here it becomes a rate for each GPU, measured or derived."""

import json
from functools import cache

import torch

from . import catalog, devices
from .exercise import Exercise, Speed

DERIVED = 0.85  # of the share is asked on a GPU of which no run is on record
COPY = 0.90  # of the datasheet's bandwidth is what a large copy reaches, where it was not measured
MATMUL = 0.78  # of the datasheet's peak is what a large matmul reaches, where it was not measured
STATED = ("A100 SXM 80GB", "H100 SXM")  # every part states its minimum for these


@cache
def recorded() -> dict[str, float]:
    """GPUs of which runs are on record: name in devices.py -> measured copy rate, GB/s."""
    found = {}
    for file in sorted(catalog.MEASURED.glob("*.json")):
        run = json.loads(file.read_text())
        if device := devices.find(run["device"], run["memory"]):
            checks = [c for part in run["parts"].values() for c in part["checks"].values() if c["rung"] == "fast"]
            if rates := [c["facts"]["timing"]["copy_gbps"] for c in checks]:
                found[device.name] = max(rates)
    return found


def share(speed: Speed, device: devices.Device | None) -> float:
    """The share asked of a case on a device; less on one that no run is on record of."""
    return speed.target if device and device.name in recorded() else DERIVED * speed.target


def minimums(exercise: Exercise, speed: Speed) -> dict[str, str]:
    """For each GPU in STATED, and each on record: the least rate, and whether it is measured, derived or a guess."""
    with torch.device("meta"):
        inputs = exercise.of(speed.case).inputs(**speed.case.values)
    work, flops = speed.bytes(*inputs), speed.flops(*inputs) if speed.flops else 0
    found = {}
    for device in devices.DEVICES:
        if device.name not in {*STATED, *recorded()}:
            continue
        copy = recorded().get(device.name, COPY * device.bandwidth) * 1e9
        matmul = MATMUL * device.peaks[speed.products] * 1e12
        seconds = max(work / copy, flops / matmul) / share(speed, device)
        bound = work / copy >= flops / matmul
        rate = f"{work / seconds / 1e9:,.0f} GB/s" if bound else f"{flops / seconds / 1e12:,.0f} TFLOPS"
        known = "measured" if device.name in recorded() else "derived"
        found[device.name] = f"{rate} ({'provisional' if exercise.provisional else known})"
    return found
