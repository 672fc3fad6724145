"""Entry points of the programs.

A program is imported after Hydra has composed its config, so that help, shell completion and a misspelt setting need
not load torch.
"""

import re
import sys
from functools import partial, wraps

import hydra

from autodisp.cli.hydra_errors import options_apart
from autodisp.cli.job import Job
from autodisp.cli.program import run_program
from autodisp.cli.renamed import take_old_names
from autodisp.cli.sweeping import reported
from autodisp.cli.verbosity import take_verbosity
from autodisp.commands import existing_paths_quoted


def _run(name: str, module: str = "") -> None:
    """Runs a program; tests pass another module instead."""
    take_verbosity(name)
    words = existing_paths_quoted(sys.argv[1:])
    sys.argv[1:] = options_apart(words, f"autodisp-{name}")
    take_old_names(name)
    if any(word.startswith("resume=") for word in words):  # composed with the default dataset, which has no root
        sys.argv[1:] = [re.sub(r"^(?=dataset\.root=)", "++", word) for word in sys.argv[1:]]
    job = Job(name, module or f"autodisp.cli.{name}")
    main = hydra.main(config_path=f"pkg://autodisp.configs.{name}", config_name=name, version_base="1.3")(job)

    @wraps(main)
    def program() -> None:
        with reported():
            main()

    run_program(program, name)


search = partial(_run, "search")
train = partial(_run, "train")
evaluate = partial(_run, "evaluate")
predict = partial(_run, "predict")
export = partial(_run, "export")
check = partial(_run, "check")
report = partial(_run, "report")
study = partial(_run, "study")
