"""Checks a ``.pt2`` archive before torch opens it: its checksums, and that it contains no pickles.

torch.export.load unpickles the parts that an archive declares as pickled; autodisp-export writes none. The archive is
still a program, whose size expressions torch evaluates as Python, so only open files from trusted sources.
"""

import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

from autodisp.errors import InputError, in_one_line

_PLAIN = re.compile(
    r"[^/]+/(\w+|\.data/\w+|models/model\.json|extra/[^/]+|data/sample_inputs/model\.pt"
    r"|data/weights/(weight_\d+|model_weights_config\.json)|data/constants/(tensor_\d+|model_constants_config\.json))"
)
"""Entries that contain JSON, plain text or raw numbers."""


def refuse_pickles(path: Path) -> None:
    """Rejects an archive that is damaged or contains pickles.

    Raises:
        InputError: the archive is damaged or contains parts that torch would unpickle.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
            odd = None if damaged else next(_odd_parts(archive), None)
    except Exception as error:  # zipfile and json may raise any exception on malformed bytes
        found = f"{type(error).__name__}: {in_one_line(error)}"
        raise InputError(f"{path}: no readable .pt2 archive ({found}); is it cut off?") from None
    if damaged is not None:
        raise InputError(f"{path}: is damaged in {in_one_line(damaged)}; copy or export it again")
    if odd is not None:
        raise InputError(
            f"{path}: holds {in_one_line(odd)}, which autodisp-export does not write and which torch might unpickle; "
            "only files of autodisp-export can be used"
        )


def _odd_parts(archive: zipfile.ZipFile) -> Iterator[str]:
    for entry in archive.infolist():
        name = entry.filename
        if not _PLAIN.fullmatch(name) or (name.endswith(".pt") and entry.file_size):
            yield name
        elif name.endswith("_config.json"):
            payloads = json.loads(archive.read(name))["config"].values()
            yield from (f"{name} with a pickled part" for payload in payloads if payload["use_pickle"])
