"""The config of autodisp-export."""

from dataclasses import dataclass, field
from typing import Any

from omegaconf import DictConfig

from autodisp.config.checks import need, need_choice, need_path, need_threads, shown
from autodisp.config.parsing import read
from autodisp.config.sections import TaskChoiceConfig
from autodisp.errors import InputError

FORMATS = ("onnx", "pt2")
SOURCES = {
    "run": "the folder of a search",
    "checkpoint": "a model file of a training",
    "genotype": "a file with cells, or a name of the zoo",
}


@dataclass(frozen=True)
class ExportConfig:
    """All of autodisp-export."""

    run: str | None
    checkpoint: str | None
    genotype: str | None
    space_file: str | None
    format: Any
    out: str | None
    overwrite: bool
    threads: int | None
    task: TaskChoiceConfig = field(default_factory=TaskChoiceConfig)

    def __post_init__(self) -> None:
        _ = self.task.kit  # opened, so that models of it are known
        for key, what in SOURCES.items():
            need_path(key, getattr(self, key), what=what)
        need_path("space_file", self.space_file, what="the JSON of a search space, or null for a named one")
        need_path("out", self.out, what="a folder, or null for one beside what is exported")
        self._check_source()
        for name in self.formats:
            need_choice("format", name, FORMATS)
        need(len(set(self.formats)) == len(self.formats) > 0, "format", self.format, "one or both of onnx, pt2")
        need_threads("threads", self.threads)

    @property
    def formats(self) -> tuple[str, ...]:
        """Of the model's files."""
        if self.format is None:
            return FORMATS
        return tuple(map(shown, self.format)) if isinstance(self.format, list) else (shown(self.format),)

    def _check_source(self) -> None:
        given = [key for key in SOURCES if getattr(self, key) is not None]
        if not given:
            choices = ", ".join(f"{key}= ({what})" for key, what in SOURCES.items())
            raise InputError(f"nothing to export: give one of {choices}")
        if len(given) > 1:
            raise InputError(
                f"{given[0]}={getattr(self, given[0])}: excludes {given[1]}=; give one of {', '.join(given)}"
            )
        if given == ["checkpoint"]:
            need(self.space_file is None, "space_file", self.space_file, "null with checkpoint=, which holds its space")
        else:
            need(self.format is None, "format", self.format, f"null with {given[0]}=: it is of a checkpoint's network")


def parse(tree: DictConfig) -> ExportConfig:
    """The typed config of an export out of what Hydra composed.

    Raises:
        InputError: the first thing that is wrong, in one line.
    """
    return read(tree, ExportConfig, {})
