"""Adam, as torch has it, without what its class brings along."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.optim.adam import adam


class Adam:
    """Adam (Kingma & Ba 2015) by torch's function of that name, fused, with its moments as named tensors.

    `torch.optim.Adam` imports torch's compiler on its first use: a second of work and 70 MB in every process that
    trains. Weights are the same to the last bit.

    Args:
        parameters: what is trained.
        momentum: beta 1.
        second_momentum: beta 2.
        weight_decay: L2 penalty.
    """

    def __init__(
        self, parameters: Iterable[nn.Parameter], *, momentum: float, second_momentum: float, weight_decay: float = 0.0
    ) -> None:
        self.parameters = list(parameters)
        self._betas = momentum, second_momentum
        self._weight_decay = weight_decay
        self._moments: dict[int, dict[str, Tensor]] = {}

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self, learning_rate: float | Tensor) -> None:
        """Move the parameters that have a gradient; the others, and their moments, stay.

        A learning rate that is a tensor (), on the device, may change between replays of a recorded step.
        """
        moving = {index: one for index, one in enumerate(self.parameters) if one.grad is not None}
        for index in moving.keys() - self._moments.keys():
            self._moments[index] = _no_moments(moving[index])
        moments = [self._moments[index] for index in moving]
        adam(
            list(moving.values()),
            [one.grad for one in moving.values() if one.grad is not None],
            [one["exp_avg"] for one in moments],
            [one["exp_avg_sq"] for one in moments],
            [],
            [one["step"] for one in moments],
            fused=True,
            amsgrad=False,
            beta1=self._betas[0],
            beta2=self._betas[1],
            lr=learning_rate,
            weight_decay=self._weight_decay,
            eps=1e-8,
            maximize=False,
        )

    def state(self) -> dict[str, Tensor]:
        """Return step and moments by `INDEX.NAME`, INDEX being the place of a parameter that has moved."""
        return {
            f"{index}.{name}": tensor for index, moments in self._moments.items() for name, tensor in moments.items()
        }

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take back what `state` returned."""
        self._moments = {}
        for key, tensor in state.items():
            index, name = key.split(".")
            parameter = self.parameters[int(index)]
            if int(index) not in self._moments:
                self._moments[int(index)] = _no_moments(parameter)
            # The fused step walks parameter and moments in memory order: they must be laid out alike.
            self._moments[int(index)][name].copy_(tensor)


def _no_moments(parameter: Tensor) -> dict[str, Tensor]:
    return {
        "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
        "exp_avg": torch.zeros_like(parameter, memory_format=torch.preserve_format),
        "exp_avg_sq": torch.zeros_like(parameter, memory_format=torch.preserve_format),
    }
