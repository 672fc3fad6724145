"""Segmentation data without files: left views of shapes3d, with the kind of shape at each pixel."""

from collections.abc import Sequence

from autodisp.datasets.samples import SegmentedImage
from autodisp.datasets.shapes3d import Shapes3D
from autodisp.datasets.shapes3d_shapes import CLASSES


class Shapes3DClasses:
    """Left views of procedural pairs with their class maps; the same (seed, index) gives the same bits."""

    classes: Sequence[str] = CLASSES

    def __init__(self, pairs: Shapes3D) -> None:
        self.pairs = pairs
        self.names: Sequence[str] = pairs.names
        self.groups: Sequence[str] = pairs.groups

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> SegmentedImage:
        """Draws one view; see `Shapes3D` for its errors."""
        return self.pairs.segmented(index)
