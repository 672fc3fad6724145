"""The config of autodisp-export."""

from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any

from autodisp.config import sections
from autodisp.config.checks import PathTo, Threads, need, need_choice, shown
from autodisp.config.sections import Quietness, TaskChoiceConfig
from autodisp.errors import InputError

FORMATS = ("onnx", "pt2")
SOURCES = {
    "run": "the folder of a search",
    "checkpoint": "a model file of a training",
    "genotype": "a file with cells, or a name of the zoo",
}


@dataclass(frozen=True)
class ExportConfig:
    """All settings of autodisp-export."""

    run: Annotated[str | None, PathTo(SOURCES["run"])]
    checkpoint: Annotated[str | None, PathTo(SOURCES["checkpoint"])]
    genotype: Annotated[str | None, PathTo(SOURCES["genotype"])]
    space_file: Annotated[str | None, PathTo("the JSON of a search space, or null for a named one")]
    format: Any
    out: Annotated[str | None, PathTo("a folder, or null for one next to what is exported")]
    overwrite: bool
    threads: Threads
    confidence: bool = False
    verbosity: Quietness = "normal"
    task: TaskChoiceConfig = field(default_factory=TaskChoiceConfig)

    def __post_init__(self) -> None:
        _ = self.task.kit  # imports it, so that its models are known
        self._check_source()
        for name in self.formats:
            need_choice("format", name, FORMATS)
        need(len(set(self.formats)) == len(self.formats) > 0, "format", self.format, "one or both of onnx, pt2")

    @property
    def formats(self) -> tuple[str, ...]:
        """The formats to write."""
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
            for key, rest in (("format", None), ("confidence", False)):
                value = getattr(self, key)
                need(value == rest, key, value, f"{shown(rest)} with {given[0]}=: it is of a checkpoint's network")


parse = partial(sections.parse, schema=ExportConfig)
"""Returns the typed config of an export; see :func:`autodisp.config.sections.parse`."""
