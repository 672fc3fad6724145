"""Stereo pairs without ground truth, such as the user's own."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Unpack

import torch

from autodisp.datasets.exclusions import read_entries
from autodisp.datasets.images import read_rgb, read_size
from autodisp.datasets.layout import Frame, Tree, require_one_size
from autodisp.datasets.samples import StereoSample
from autodisp.datasets.stereo_files import Options, StereoFiles
from autodisp.errors import InputError


class UnlabelledPairs(StereoFiles):
    """Pairs of files, sorted by name; no pixel is valid, and each pair is a separate group.

    Args:
        pairs: left and right view by the name of the sample.
        place: folder of the left views, for messages.
        problems: a line on each file that is part of no pair, which begins with the file and a colon.
        options: see `stereo_files.Options`.

    Raises:
        InputError: there are problems, such as views of different sizes, and the reader is strict; no pair is left; or
            the list does not match the data. Damaged pixels are reported when the sample is read.
    """

    def __init__(
        self,
        pairs: Mapping[str, tuple[Path, Path]],
        *,
        place: Path,
        problems: Sequence[str] = (),
        **options: Unpack[Options],
    ) -> None:
        exclude = options.get("exclude")
        lacks = {os.path.abspath(problem.partition(": ")[0]): problem for problem in problems}
        left_out = set() if exclude is None else set(map(os.path.abspath, read_entries(exclude)))
        lonely = {file: problem for file, problem in lacks.items() if file not in left_out}
        if lonely and options.get("strict", True):
            more = f"; and {len(lonely) - 1} more file(s)" if len(lonely) > 1 else ""
            raise InputError(
                f"{next(iter(lonely.values()))}{more}. Complete the pairs or move such files away, or leave them out: "
                "autodisp-check writes the list that dataset.exclude takes"
            )
        trees = [
            Tree(side, {Frame("", name): files[index] for name, files in pairs.items()})
            for index, side in enumerate(("the left view", "the right view"))
        ]

        def elsewhere(name: str) -> bool:
            return os.path.abspath(name) in lacks

        super().__init__(place, trees, empty="holds no pair", elsewhere=elsewhere, **options)
        self.incomplete |= lonely
        if options.get("strict", True):
            for index in range(len(self)):
                self._check_sizes(index)

    def _check_sizes(self, index: int) -> None:
        sizes = {path: read_size(path) or tuple(read_rgb(path).shape[1:]) for path in self.paths(index)}
        require_one_size({path: torch.empty(size, device="meta") for path, size in sizes.items()})

    def _read(self, *files: Path) -> StereoSample:
        left, right = (read_rgb(path) for path in files)
        require_one_size(dict(zip(files, (left, right), strict=True)))
        nowhere = torch.zeros(1, *left.shape[1:], dtype=torch.bool)
        return StereoSample(left, right, nowhere.float(), nowhere, nowhere, nowhere)
