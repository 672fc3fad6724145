"""Gradient-based architecture search for dense prediction, with the curvature of the validation loss under watch."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    import torch


__version__ = "0.1.0"
__all__ = ["__version__", "load"]


def load(model: "str | Path | None" = None, *, device: "str | torch.device" = "cpu") -> "Any":
    """Loads a trained model, ready to be called on images; see ``autodisp.prediction.models.load``."""
    from autodisp.prediction import models

    return models.load(model, device=device)
