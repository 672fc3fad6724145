"""Settings and choices that were renamed since version 0.1; the old names are accepted for one more version."""

from collections.abc import Mapping

from omegaconf import DictConfig, OmegaConf, open_dict

EVERYWHERE = {
    "dataset.excluded": "dataset.official_exclusions",
    "curvature.weight_decay": "curvature.with_weight_decay",
}
SETTINGS: Mapping[str, Mapping[str, str]] = {
    "predict": {"device": "run.device", "threads": "run.threads"},
    "evaluate": {"device": "run.device", "threads": "run.threads"},
    "check": {"workers": "run.workers"},
}
"""Renamed settings by program: old name to new name."""
CHOICES = {"network": {"autodispnet_C": "autodispnet_large", "autodispnet_c": "autodispnet_small"}}
"""Renamed choices by group: old name to new name."""


def rename(tree: DictConfig) -> DictConfig:
    """Returns the config with old names of settings, as in a run folder of an earlier version, replaced by new ones."""
    for old, new in EVERYWHERE.items():
        section, _, name = old.partition(".")
        if isinstance(node := tree.get(section), DictConfig) and name in node:
            tree = tree.copy()
            with open_dict(tree):
                OmegaConf.update(tree, new, tree[section].pop(name), force_add=True)
    return tree
