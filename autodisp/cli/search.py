"""autodisp-search: finds the cells of a network by gradient and writes them to a run folder."""

import math
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from statistics import fmean, median
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from rich.table import Table

from autodisp import distributed
from autodisp.assembly.costs import build_costs, build_deployment, given_costs, save_costs
from autodisp.assembly.data import notes_on_samples
from autodisp.assembly.networks import build_device, build_style
from autodisp.assembly.relaxation import build_relaxation
from autodisp.assembly.search import (
    SearchData,
    SearchParts,
    build_data,
    build_regularization,
    build_search,
    build_space,
)
from autodisp.cli.console import build_console
from autodisp.cli.program import program_name
from autodisp.cli.resuming import raisable, refuse_other_files, resumed_config
from autodisp.cli.run_folder import begin_run, claimed, keep_config
from autodisp.cli.supervision import memory_settings, print_summary, run_console, supervised_run
from autodisp.commands import as_typed
from autodisp.config.search import SearchConfig, parse
from autodisp.records import Record, start_record
from autodisp.report.next_steps import report_command, training_command
from autodisp.report.reading import read_run
from autodisp.run_files import GENOTYPE
from autodisp.search.costs import CostTable, random_costs
from autodisp.search.loop import Outcome
from autodisp.search.measuring import cost_of
from autodisp.search.plan import Plan, plan_search
from autodisp.tracking import ConsoleProgress, in_time

NEARLY_EQUAL = 0.999
"""Share of the largest entropy: five operations with weights from 0.19 to 0.21."""


def run(tree: DictConfig) -> float | None:
    """Runs the program; returns the validation metric at the epoch of the found cells."""
    with distributed.joined():
        folder = search(tree) if tree.get("resume") is None else resume(tree)
        return None if folder is None or not distributed.is_first() else read_run(folder).metric


def search(tree: DictConfig) -> Path | None:
    """Runs the search of a composed config; returns its run folder, or None with plan=true.

    Nothing is created before all checks have passed.

    Raises:
        InputError: a setting, the data or the run folder cannot be used.
    """
    with distributed.agreed():
        config = parse(tree)
        check_parts(config)
        data = build_data(config)
        given_costs(config, data)
    if config.plan:
        show_plan(config, data)
        return None
    with claimed(Path(config.run.folder), tree, resumes_with=program_name()) as folder:
        distributed.on_first(lambda: begin_run(folder, tree, config))
        _run(config, data, folder)
        return folder


def resume(tree: DictConfig, overrides: Sequence[str] | None = None) -> Path:
    """Resumes the search of a run folder from its newest state, with the overrides of the command line.

    Raises:
        InputError: there is no such run, another process uses it, or the config would change it.
    """
    folder = Path(str(tree.resume)).expanduser()
    with distributed.agreed():
        wanted, config = resumed_config(tree, folder, parse=parse, grows=_grows, overrides=overrides)
        check_parts(config)
        data = build_data(config)
        refuse_other_files(folder, data.fingerprint)
    _run(config, data, folder, resumed=wanted)
    return folder


def _grows(config: SearchConfig) -> dict[str, str | None]:
    """Settings that may be raised, each with the reason against it; epochs that are done must not depend on them."""
    weights = config.optimizer.weights
    return raisable(
        "search.epochs",
        {
            "the learning rate falls over": weights.min_learning_rate != weights.learning_rate,
            "drop-path rises over": config.search.drop_path > 0,
            "cut-out rises over": config.cutout > 0,
            "the temperature of relaxation=gumbel falls over": config.relaxation.name == "gumbel",
            "the radius of relaxation=perturbed rises over": config.relaxation.name == "perturbed",
            "relaxation=own may change over": config.relaxation.name == "own",
            "alpha_penalty=beta rises over": config.alpha_penalty.name == "beta",
            "skip=auxiliary falls over": config.skip.name == "auxiliary",
            "selection=perturbation tunes the supernet after": config.selection.name == "perturbation",
        },
    )


def _run(config: SearchConfig, data: SearchData, folder: Path, *, resumed: DictConfig | None = None) -> None:
    keys = ("search.batch_size", "network.channels", "network.layers", "dataset.crop")
    second = ("optimizer.alphas.order",) if config.optimizer.alphas.order != "first" else ()
    recompute = () if config.search.recompute else ("search.recompute=false",)
    memory = [*memory_settings(config, *keys, *second), *recompute]
    with supervised_run(folder, memory=memory) as stopping, run_console(config) as console:
        if resumed is not None:
            distributed.on_first(lambda: keep_config(folder, resumed, config))
        costs = distributed.on_first(lambda: build_costs(config, data, folder, resume=resumed is not None))
        with distributed.agreed():
            parts = build_search(
                config, data, folder, console, costs=costs, resume=resumed is not None, stopping=stopping
            )
        with closing(parts):
            console.note(f"run folder: {folder}")
            _begin(config, data, parts, costs, console)
            console.start(config.search.epochs, parts.search.settings.steps_per_epoch)
            outcome = parts.search.run()
            if costs is not None:
                _measure_cost(config, data, parts, outcome)
            parts.folder.finish(outcome.genotype, outcome.record)
    if distributed.is_first():
        show_summary(config, parts, outcome)


def _begin(
    config: SearchConfig, data: SearchData, parts: SearchParts, costs: CostTable | None, console: ConsoleProgress
) -> None:
    """Shows notes on the settings, and on the state of a resumed search or on the data of another one."""
    if config.regularization.name == "ada" and config.optimizer.weights.name == "adamw":
        console.note("regularization=ada raises an L2 term of the loss: adamw is Adam with such a term here")
    if not parts.search.supernet.relaxation.moves_alphas:
        console.note(f"relaxation={config.relaxation.name}: optimizer.alphas and curvature have nothing to act on")
    warn_if_policy_cannot_act(config, parts, console)
    if costs is not None:
        warn_of_target(costs, config.cost_penalty.target, console)
    if parts.resumed:
        progress = parts.search.progress
        end = "; all of its epochs are done" if progress.epochs >= config.search.epochs else ""
        console.note(f"resumed at epoch {progress.epochs}, step {progress.step}{end}")
        if other := other_arithmetic(start_record(parts.folder.records), parts.arithmetic):
            console.message(other)
        return
    entry = config.kit.datasets[config.dataset.name]
    for note in notes_on_samples(config.dataset, entry, data.weight_half, enlarges=True):
        console.message(note)
    parts.begin()


def show_plan(config: SearchConfig, data: SearchData) -> None:
    """Takes a few steps of the search and prints the cost of the whole search; writes no file but a cost table."""
    plan, found = measured_plan(config, data)
    costs, settings = plan.costs, plan.settings
    table = Table(title=f"plan of a search of {config.task.name} on {config.dataset.name}", show_header=False)
    table.add_row("memory, about, without the workers", f"{costs.memory / 1024:.1f} GiB")
    table.add_row("weight step, with its batch", in_time(costs.weight_step))
    for order, seconds in costs.alpha_steps.items():
        table.add_row(f"alpha step, {order}", in_time(seconds))
    every = f", every {settings.curvature_every} epochs" if settings.curvature_every > 1 else ", every epoch"
    if plan.alphas:
        table.add_row(f"curvature{every}", in_time(plan.measurement))
    table.add_row(f"validation, {plan.validation_batches} batches, every epoch", in_time(plan.validation))
    table.add_row("saving the state, every epoch", in_time(costs.checkpoint))
    if settings.warmup_epochs:
        table.add_row("an epoch of the warm-up", in_time(plan.epoch(0)))
    table.add_row(f"the last epoch, of {settings.steps_per_epoch} steps", in_time(plan.epoch(settings.epochs - 1)))
    if plan.evaluations:
        tuning = f" and {plan.tuning} epochs" if plan.tuning else ""
        table.add_row(f"selection, {plan.evaluations} batches{tuning}, at most", in_time(plan.selection))
    table.add_row(f"all {settings.epochs} epochs", in_time(plan.total))
    build_console().print(table)
    if found is not None:
        _show_costs(found)


def measured_plan(config: SearchConfig, data: SearchData) -> tuple[Plan, CostTable | None]:
    """Takes a few steps of the search; returns its plan, and the cost table if the search has a cost penalty."""
    with tempfile.TemporaryDirectory() as folder, run_console(config) as console:
        found = build_costs(config, data, Path(folder))
        if found is not None and config.cost_penalty.save is not None:
            save_costs(found, Path(config.cost_penalty.save))
        with closing(build_search(config, data, Path(folder), console, costs=found)) as parts:
            return plan_search(parts.search), found


def _show_costs(costs: CostTable) -> None:
    """Prints the costs of the operations, over all cells of a kind, and those of networks of the space."""
    heads = sorted({name for cell in costs.space.cells.values() for edge in cell.edges for name in edge.operations})
    table = Table(
        "operation", *costs.space.kinds, title=f"{costs.unit} of one operation, in all cells of a kind together"
    )
    for name in heads:
        ranges = [_range(costs, kind, name) for kind in costs.space.kinds]
        table.add_row(name, *ranges)
    console = build_console()
    console.print(table)
    lowest, highest = costs.limits()
    rows = [f"{costs.quantity} of the found network: {costs.in_words(lowest)} to {costs.in_words(highest)}"]
    rows += [f"{costs.in_words(median(random_costs(costs, range(100))))} for half of its random networks"]
    rows += [f"{costs.in_words(costs.rest)} without the operations"]
    console.print(", ".join(rows), soft_wrap=True)


def _range(costs: CostTable, kind: str, name: str) -> str:
    """Formats the smallest and the largest cost of an operation over the edges of a kind of cell."""
    edges = zip(costs.space.cells[kind].edges, costs.sums[kind], strict=True)
    known = [row[edge.operations.index(name)] for edge, row in edges if name in edge.operations]
    return " to ".join(dict.fromkeys(costs.number(limit(known)) for limit in (min, max))) if known else ""


def _measure_cost(config: SearchConfig, data: SearchData, parts: SearchParts, outcome: Outcome) -> None:
    """Records the cost of the found network by the table, and as measured or counted once more."""
    penalty = parts.search.supernet.cost_penalty
    assert penalty is not None
    measured = distributed.on_first(
        lambda: cost_of(penalty.table.quantity, build_deployment(config, data), outcome.genotype)
    )
    predicted = penalty.table.of(outcome.genotype)
    parts.folder.event("cost", predicted=predicted, measured=measured, target=penalty.target)


def check_parts(config: SearchConfig) -> None:
    """Builds the cheap parts, so that bad settings fail before anything is created."""
    build_style(config.network, build_space(config))
    build_device(config.run.device)
    build_regularization(config)
    build_relaxation(config.relaxation)


def warn_if_policy_cannot_act(config: SearchConfig, parts: SearchParts, console: ConsoleProgress) -> None:
    """Warns if the search is too short for its policy to decide anything."""
    rule = parts.search.regularization.early_stopping
    if rule is not None and rule.earliest_decision >= config.search.epochs - 1:
        console.message(
            f"regularization={config.regularization.name} cannot act: it takes {rule.earliest_decision + 2} epochs for "
            f"one decision, and the search has {config.search.epochs}; raise search.epochs, or lower "
            "regularization.start_epoch, window, delta or curvature.every"
        )


def warn_of_target(costs: CostTable, target: float | None, console: ConsoleProgress) -> None:
    """Warns if every network of the space, or none, is within the target of the cost penalty."""
    lowest, highest = costs.limits()
    if target is not None and not lowest <= target < highest:
        console.message(
            f"cost_penalty.target={target:g}: networks of this space cost {costs.in_words(lowest)} to "
            f"{costs.in_words(highest)}, {'none' if target < lowest else 'all'} within the target; take one in between"
        )


def other_arithmetic(start: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """A line where a resumed run evaluates its cells in another way than it began with; None where it does not."""
    changed = {key: start[key] for key in now if start.get(key, now[key]) != now[key]}
    if not changed:
        return None
    before, after = (", ".join(f"run.{key}={some[key]}" for key in changed) for some in (start, now))
    return f"the run began with {before} and is resumed with {after}: its last digits will differ"


def notes_on_result(parts: SearchParts, found: Record, *, constant: float, end: float) -> list[str]:
    """Notes on meaningless cells."""
    figure, space = parts.search.supernet.task.figure, parts.search.supernet.architecture.space
    notes = []
    largest = {kind: fmean(math.log(len(edge.operations)) for edge in space.cells[kind].edges) for kind in space.kinds}
    share = min(found.get(f"entropy/{kind}", 0.0) / most if most else 1.0 for kind, most in largest.items())
    if share > NEARLY_EQUAL:
        notes.append(
            f"note:  all operation weights are nearly equal (over {100 * NEARLY_EQUAL:g} % of the largest entropy): "
            "these cells are as good as random; search longer, or raise optimizer.alphas.learning_rate"
        )
    if not figure.better(end, constant):
        notes.append(
            f"note:  the supernet ends at {end:.2f} {figure.unit}, no better than the best constant answer, "
            f"{constant:.2f} {figure.unit}: its cells mean little; search longer, or look at the learning rates"
        )
    return notes


def show_summary(config: SearchConfig, parts: SearchParts, outcome: Outcome) -> None:
    """Prints a table of the result, the paths, and the next commands."""
    figure, folder, found = parts.search.supernet.task.figure, parts.folder.folder, outcome.record
    valid, discrete = f"valid/{figure.name}", f"valid_discrete/{figure.name}"
    start = start_record(parts.folder.records)
    epochs = [record for record in parts.folder.records if "event" not in record]
    eigenvalues = [_shown(record["eigenvalue"]) for record in epochs if "eigenvalue" in record]
    table = Table(title=f"search of {config.task.name} on {config.dataset.name}", show_header=False)
    table.add_row(f"validation {figure.name}, best constant", f"{start['constant']:.2f} {figure.unit}")
    table.add_row(f"validation {figure.name}, at the start", f"{start[valid]:.2f} {figure.unit}")
    table.add_row(f"validation {figure.name}, at the end", f"{epochs[-1][valid]:.2f} {figure.unit}")
    table.add_row("  with the found cells only, not retrained", f"{_score(outcome, found[discrete]):.2f} {figure.unit}")
    if eigenvalues:
        table.add_row("dominant eigenvalue, first and last", f"{eigenvalues[0]}, {eigenvalues[-1]}")
    if outcome.stopped:
        decision = outcome.stopped.decision
        table.add_row("stopped early", f"epoch {decision.decided_epoch}, returns epoch {decision.returned_epoch}")
    if outcome.restarts:
        table.add_row("restarts with more weight decay", str(outcome.restarts))
    if parts.search.supernet.cost_penalty is not None:
        costs, event = parts.search.supernet.cost_penalty.table, parts.folder.records[-1]
        table.add_row(f"{costs.quantity} of the found network, by its table", costs.in_words(event["predicted"]))
        counted = "measured" if costs.quantity == "latency" else "counted"
        table.add_row(
            f"  {counted}, with a target of {costs.in_words(event['target'])}", costs.in_words(event["measured"])
        )
    for line in outcome.genotype.in_words().splitlines():
        kind, _, words = line.partition(": ")
        table.add_row(f"found {kind} cell", words.replace("; ", "\n"))
    print_summary(
        table,
        [
            *notes_on_result(parts, found, constant=start["constant"], end=_score(outcome, epochs[-1][valid])),
            f"files: {folder}/ (genotype.json, cell_*.svg, curves.png, metrics.jsonl)",
            f"look:  {report_command(folder)}",
            f"       {as_typed(['tensorboard', '--logdir', f'{folder}/tensorboard'])}",
            f"next:  {training_command(asdict(config), folder / GENOTYPE)}",
            *(["experiment=smoke: the data works: each part of a search ran on it"] if _is_smoke() else []),
        ],
    )


def _score(outcome: Outcome, otherwise: float) -> float:
    """The score of the best ranked architecture, or the other number if there is no finite score."""
    score: float | None = outcome.genotype.provenance.get("figure", {}).get("value")
    return otherwise if score is None else score


def _shown(eigenvalue: float) -> str:
    return "unknown" if math.isnan(eigenvalue) else f"{eigenvalue:.4g}"


def _is_smoke() -> bool:
    return HydraConfig.initialized() and HydraConfig.get().runtime.choices.get("experiment") == "smoke"
