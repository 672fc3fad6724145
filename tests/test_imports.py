"""Who may import whom, read from the imports themselves (DESIGN, "The house")."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAYERS = {
    "cli": {"cli", "assembly", "config", "configs", "checks", "kits", "search", "training", "evaluation", "prediction",
            "studies",
            "export", "report", "tasks", "model_file", "tracking", "records", "checkpoints", "run_state", "run_lock",
            "run_files", "atomic", "commands", "distributed", "torchrun",
            "errors"},
    "assembly": {"observers", "config", "checks", "kits", "search", "training", "evaluation", "prediction", "export",
                 "studies", "tables",
                 "report", "networks", "tasks", "kernels", "cells", "datasets", "model_file", "tracking", "checkpoints",
                 "run_state", "run_files", "atomic", "commands", "distributed", "torchrun", "graphs",
                 "errors"},
    "config": {"configs", "checks", "kits", "tasks", "cells", "errors"},
    "checks": {"errors"},
    "kits": {"checks", "evaluation", "prediction", "networks", "tasks", "cells", "datasets", "errors"},
    "studies": {"report", "search", "tables", "tasks", "cells", "records", "run_files", "atomic", "commands", "errors"},
    "tables": {"tasks", "cells", "errors"},
    "observers": {"report", "search", "tasks", "cells", "model_file", "tracking", "records", "run_files", "atomic",
                  "errors"},
    "report": {"configs", "search", "tables", "kits", "tasks", "cells", "model_file", "tracking", "records",
               "run_files", "run_lock", "commands", "errors"},
    "search": {"devices", "distributed", "graphs", "networks", "tasks", "cells", "stepping", "checkpoints", "run_state",
               "records", "errors"},
    "training": {"distributed", "graphs", "networks", "tasks", "cells", "stepping", "checkpoints", "run_state",
                 "errors"},
    "evaluation": {"devices", "networks", "tasks", "cells", "datasets", "errors"},
    "prediction": {"atomic", "graphs", "networks", "kits", "tasks", "cells", "datasets", "model_file", "errors"},
    "export": {"prediction", "report", "networks", "kits", "tasks", "cells", "model_file", "records", "run_files",
               "atomic", "commands", "errors"},
    "model_file": {"kits", "tasks", "networks", "cells", "atomic", "errors"},
    "tasks": {"distributed", "checks", "networks", "cells", "datasets", "errors"},
    "networks": {"distributed", "cells", "errors"},
    "kernels": {"cells", "errors"},
    "cells": {"errors"},
    "datasets": {"distributed", "commands", "errors"},
    "stepping": {"distributed", "graphs", "checkpoints", "run_state", "records", "errors"},
    "tracking": {"records", "run_files", "errors"},
    "records": {"run_files", "errors"},
    "checkpoints": {"distributed", "run_state", "atomic", "errors"},
    "run_state": {"errors"},
    "run_lock": {"errors"},
    "atomic": {"errors"},
    "run_files": set(),
    "commands": set(),
    "configs": set(),
    "distributed": {"torchrun", "errors"},
    "torchrun": set(),
    "devices": set(),
    "graphs": set(),
    "errors": set(),
}  # fmt: skip


EXTRA = {"dask", "dask_jobqueue", "distributed", "optuna"}


def layer_of(name: str) -> str:
    """The package of a module; the checks of single values, and what joins a task to the programs, stand alone."""
    parts = name.split(".")
    if parts[1:3] == ["config", "checks"]:
        return "checks"
    if parts[1] == "tasks" and (parts[2:] == ["registry"] or (parts[-1] == "kit" and len(parts) > 3)):
        return "kits"
    return parts[1]


def modules() -> list[tuple[str, Path]]:
    found = []
    for folder in ("autodisp", "cells", "datasets", "configs"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            if not any(parent.is_symlink() for parent in path.parents):
                name = path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__")
                found.append((name if name.startswith("autodisp") else f"autodisp.{name}", path))
    return found


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            names.add(node.module or "")
    return names


@pytest.mark.parametrize(("name", "path"), modules(), ids=[name for name, _ in modules()])
def test_directions(name: str, path: Path) -> None:
    layer = layer_of(name) if "." in name else None
    for target in imported(path):
        assert target.split(".")[0] not in ("cells", "datasets", "configs"), f"{name} imports {target}"
        if layer is None or not target.startswith("autodisp."):
            continue
        assert layer_of(target) in LAYERS[layer] | {layer}, f"{name} may not import {target}"


@pytest.mark.parametrize("name", ["early_stopping", "adaptive"])
def test_policies_need_the_standard_library_only(name: str) -> None:
    path = ROOT / "autodisp" / "search" / f"{name}.py"
    foreign = {
        target
        for target in imported(path)
        if target.split(".")[0] not in sys.stdlib_module_names
        and not target.startswith(("autodisp.search.", "autodisp.errors"))
    }
    assert not foreign


def test_dask_and_optuna_are_imported_where_they_are_used() -> None:
    """They are an extra, which no other program needs."""
    importing = {name for name, path in modules() if any(target.split(".")[0] in EXTRA for target in imported(path))}
    assert importing == {"autodisp.studies.execute", "autodisp.studies.clusters", "autodisp.studies.trials",
                         "autodisp.assembly.studies"}  # fmt: skip
    for name in importing - {"autodisp.studies.execute", "autodisp.studies.clusters"}:
        (path,) = [path for known, path in modules() if known == name]
        top = {alias.name.split(".")[0] for node in ast.parse(path.read_text()).body if isinstance(node, ast.Import)
               for alias in node.names}  # fmt: skip
        assert not top & EXTRA
    lazy = {
        name for name, path in modules() if {"autodisp.studies.execute", "autodisp.studies.clusters"} & at_top(path)
    }
    assert not lazy


def at_top(path: Path) -> set[str]:
    """The modules that a module imports when it is imported itself."""
    body = ast.parse(path.read_text()).body
    froms = [node for node in body if isinstance(node, ast.ImportFrom)]
    return {node.module or "" for node in froms} | {
        f"{node.module}.{alias.name}" for node in froms for alias in node.names
    }


def test_every_module_is_known_to_the_rules() -> None:
    layers = {name.split(".")[1] for name, _ in modules() if "." in name}
    assert layers <= set(LAYERS)
