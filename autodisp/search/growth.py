"""Growth of a search's regularisation over its epochs; no state, no torch."""


def growth(epoch: int, epochs: int) -> float:
    """Share of the full strength in an epoch, e / (n - 1): 0 in the first epoch, 1 in the last one.

    RobustDARTS raises the probabilities of drop-path and cut-out in its searches so.

    Args:
        epoch: e, from 0; later epochs than the last one stay at 1.
        epochs: n; a search of one epoch stays at 0, as any first epoch does.
    """
    return min(epoch / (epochs - 1), 1.0) if epochs > 1 else 0.0
