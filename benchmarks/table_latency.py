"""Latencies of the architectures of a table, measured together.

    python -m benchmarks.table_latency STUDY TABLE

takes the trained networks from the folder STUDY of study=table and writes their latencies into the file TABLE, a copy
of its table.json: the shortest of 15 forward passes of one sample, in turns, on one thread. The evaluations of a study
run beside other work at different times, so that their times differ by more than the architectures do.
"""

import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

from autodisp import model_file
from autodisp.commands import as_typed
from autodisp.run_files import CONFIG
from autodisp.studies.graph import RUNS
from autodisp.tasks.registry import KITS

ROUNDS = 15
MODEL = "best.safetensors"


def networks(study: Path, space: str) -> dict[int, tuple[nn.Module, list[Tensor]]]:
    """Opens one trained network of each architecture, with random images of its size, by index."""
    found: dict[int, tuple[nn.Module, list[Tensor]]] = {}
    for model in sorted((study / RUNS).glob(f"train-*/{MODEL}")):
        config = OmegaConf.load(model.parent / CONFIG)
        name, _, index = str(OmegaConf.select(config, "genotype")).partition(":")
        if name == space and int(index) not in found:
            card, _, network = model_file.load_network(model)
            size = OmegaConf.select(config, "dataset.height"), OmegaConf.select(config, "dataset.width")
            found[int(index)] = network.eval(), [torch.rand(1, 3, *size) for _ in KITS[card.task].interface.inputs]
    return found


def shortest(opened: Mapping[int, tuple[nn.Module, Sequence[Tensor]]], rounds: int = ROUNDS) -> dict[int, float]:
    """Measures the networks in turns, after one pass of each; returns the shortest time of each, milliseconds."""
    times = dict.fromkeys(opened, float("inf"))
    with torch.inference_mode():
        for round_ in range(rounds + 1):
            for index, (network, images) in opened.items():
                start = time.perf_counter()
                network(*images)
                passed = 1000 * (time.perf_counter() - start)
                times[index] = min(times[index], passed if round_ else times[index])
    return times


def main(words: Sequence[str]) -> int:
    """Measures the networks of a study and writes their latencies into a table; returns the exit code."""
    study, path = map(Path, words)
    torch.set_num_threads(1)
    table = json.loads(path.read_text(encoding="utf-8"))
    latencies = shortest(networks(study, table["space"]["name"]))
    for entry in table["architectures"]:
        entry["latency"] = latencies.get(entry["index"])
    table["about"]["latency"] = as_typed(["python", "-m", "benchmarks.table_latency", *words])
    path.write_text(json.dumps(table, separators=(",", ":")) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
