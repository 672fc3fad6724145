"""Growth of drop-path and cut-out over the epochs of a search."""


def growth(epoch: int, epochs: int) -> float:
    """Fraction of the full strength in an epoch, e / (n - 1): 0 in the first epoch, 1 in the last one.

    RobustDARTS uses it for the probabilities of drop-path and cut-out in its searches.

    Args:
        epoch: e, from 0; 1 is returned for epochs after the last one.
        epochs: n; 0 is returned for a search of one epoch.
    """
    return min(epoch / (epochs - 1), 1.0) if epochs > 1 else 0.0
