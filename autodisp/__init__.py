"""Finds dense-prediction networks by gradient and watches the curvature of the validation loss while it does."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from autodisp.prediction.inference import StereoMatcher
    from autodisp.prediction.models import ImageClassifier

__version__ = "0.1.0"
__all__ = ["__version__", "load"]


def load(
    model: "str | Path | None" = None, *, device: "str | torch.device" = "cpu"
) -> "StereoMatcher | ImageClassifier":
    """A trained model, ready to be called on images; see ``autodisp.prediction.models.load``."""
    from autodisp.prediction import models

    return models.load(model, device=device)
