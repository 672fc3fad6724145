import pytest

from autodisp.search.loop import SearchSettings


@pytest.mark.parametrize(
    ("epochs", "expected"),
    [(1, [0.0]), (2, [0.0, 1.0]), (5, [0.0, 0.25, 0.5, 0.75, 1.0]), (3, [0.0, 0.5, 1.0, 1.0])],
)
def test_the_last_epoch_has_the_full_strength(epochs: int, expected: list[float]) -> None:
    assert [SearchSettings(epochs, 1).growth(epoch) for epoch in range(len(expected))] == expected
