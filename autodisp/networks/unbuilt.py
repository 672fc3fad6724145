"""Construction of networks for their names and shapes alone."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

_FILLING = {
    Tensor.copy_, Tensor.div_, Tensor.fill_, Tensor.mul_, Tensor.normal_, Tensor.uniform_, Tensor.zero_,
    nn.init.constant_, nn.init.kaiming_uniform_, nn.init.normal_, nn.init.uniform_,
}  # fmt: skip


class _Unfilled(TorchFunctionMode):
    """Skips initial values. On the meta device torch computes each in Python, which takes ten times the construction.

    A tensor without elements is left to torch, which warns of it.
    """

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function in _FILLING and (tensor := args[0] if args else kwargs["tensor"]).numel():
            return tensor
        return function(*args, **(kwargs or {}))


@contextmanager
def unbuilt() -> Iterator[None]:
    """Constructs networks on the meta device, without memory, random numbers or initial values."""
    with torch.device("meta"), _Unfilled():
        yield
