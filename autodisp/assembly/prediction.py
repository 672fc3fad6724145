"""Builds the parts of a prediction from its typed config."""

from typing import Any

import torch

from autodisp.config.checks import naming, shown
from autodisp.config.predict import PredictConfig
from autodisp.config.sections import ONE_SCALE
from autodisp.errors import InputError
from autodisp.prediction.models import open_model
from autodisp.tasks.kit import Prediction
from autodisp.tasks.registry import KITS


def build_model(config: PredictConfig, device: torch.device) -> tuple[Prediction, Any]:
    """Loads the model named by the config, or the shipped one; returns the functions of its task, and the model.

    Raises:
        InputError: the model cannot be used, or does not write the wanted outputs.
    """
    with naming("checkpoint", config.checkpoint, choices=["shipped"]):
        task, model = open_model(config.checkpoint, device=device)
        kit = KITS[task]
        prediction = kit.prediction
        if prediction is None:
            wanted = " or ".join(name for name, kit in KITS.items() if kit.prediction is not None)
            raise InputError(f"{config.checkpoint}: is a model for {task}, but this needs one for {wanted}")
    if unfit := [name for name in config.outputs or () if name not in prediction.outputs]:
        raise InputError(
            f"outputs={config.outputs}: {unfit[0]} is not for a model of {task}; take some of "
            f"{', '.join(prediction.outputs)}, or null for the usual ones"
        )
    prediction.check(config, model)
    if config.scales != ONE_SCALE:
        if kit.scaled is None:
            raise InputError(f"scales={shown(config.scales)}: is not for a model of {task}; leave it at [1]")
        model = kit.scaled(model, config.scales)
    if config.correction is None:
        return prediction, model
    if config.correction not in kit.corrections:
        raise InputError(f"correction={config.correction}: is not for a model of {task}; leave it null")
    return prediction, kit.corrections[config.correction](model)
