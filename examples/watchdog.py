"""The curvature watchdog applied to another supernet: any scalar loss, any architecture parameters.

    python examples/watchdog.py

The networks, tasks and programs of autodisp are not used. ``Foreign`` is a stand-in for the supernet of another
project: a choice between three operations, trained as in DARTS; it is small and not representative of a real search.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from autodisp.search.curvature import dominant_eigenvalue, frozen_statistics
from autodisp.search.early_stopping import Decision, EarlyStopping


class Watchdog:
    """Checks the curvature after each epoch; returns the epoch to roll back to if it has grown too much."""

    def __init__(self, network: nn.Module, alphas: list[nn.Parameter], *, epochs: int) -> None:
        self.network, self.alphas, self.epochs = network, alphas, epochs
        self.rule = EarlyStopping(window=5, start_epoch=10, every=1)
        self.history: list[tuple[int, float]] = []

    def after(self, epoch: int, validation_loss: Callable[[], Tensor]) -> Decision | None:
        with frozen_statistics(self.network):  # the measurement does not change batch normalisation
            found = dominant_eigenvalue(validation_loss, self.alphas)
        self.history.append((epoch, found.value))
        return self.rule.decide(self.history, last_epoch=self.epochs - 1)


class Foreign(nn.Module):
    """A mixed operation between two convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8))
        self.choices = nn.ModuleList([nn.Identity(), nn.Conv2d(8, 8, 3, padding=1), nn.AvgPool2d(3, 1, 1)])
        self.head = nn.Linear(8, 4)
        self.alphas = nn.Parameter(1e-3 * torch.randn(3))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        shares = functional.softmax(self.alphas, dim=0)
        mixed = sum(share * choice(x) for share, choice in zip(shares, self.choices, strict=True))
        scores: Tensor = self.head(torch.relu(mixed).mean(dim=(2, 3)))
        return scores


def search(*, epochs: int, seed: int = 0) -> tuple[Watchdog, Decision | None]:
    """The training loop of another project, with one additional line."""
    torch.manual_seed(seed)
    images, labels = torch.rand(64, 3, 8, 8), torch.randint(4, (64,))  # random labels, can only be memorised
    network = Foreign()
    weights = [parameter for name, parameter in network.named_parameters() if name != "alphas"]
    weight_optimizer = torch.optim.SGD(weights, lr=0.2, momentum=0.9)
    alpha_optimizer = torch.optim.Adam([network.alphas], lr=0.03)
    watchdog = Watchdog(network, [network.alphas], epochs=epochs)
    for epoch in range(epochs):
        for half, optimizer in ((slice(32), weight_optimizer), (slice(32, 64), alpha_optimizer)):
            network.zero_grad()
            functional.cross_entropy(network(images[half]), labels[half]).backward()
            optimizer.step()
        decision = watchdog.after(epoch, lambda: functional.cross_entropy(network(images[32:]), labels[32:]))
        if decision is not None:
            return watchdog, decision
    return watchdog, None


if __name__ == "__main__":
    watched, stopped = search(epochs=60)
    for number, value in watched.history:
        print(f"epoch {number}: dominant eigenvalue {value:.4g}")
    print("never stopped" if stopped is None else f"stop; roll back to epoch {stopped.returned_epoch}")
