"""Tensors on disk, whole or not at all, and never as code."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from ddad.errors import ModelError
from ddad.files import write_atomically


def save_tensors(path: Path, tensors: Mapping[str, Tensor], notes: Mapping[str, Any] | None = None) -> None:
    """Write tensors as safetensors, with JSON `notes` in the file's header."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_atomically(path, save(plain, metadata={"notes": json.dumps(notes or {})}))


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `save_tensors` wrote.

    Raises:
        ModelError: the file is missing, damaged, or no safetensors file.
    """
    try:
        with safe_open(path, framework="pt") as file:
            notes = json.loads((file.metadata() or {}).get("notes", "{}"))
            return {name: file.get_tensor(name) for name in file.keys()}, notes  # noqa: SIM118
    except (OSError, SafetensorError, ValueError) as error:
        raise ModelError(f"{path}: not a readable weights file ({error}).") from error


def training_state(network: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Flatten a network and its Adam moments into named tensors."""
    tensors = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
    for index, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": tensor for name, tensor in moments.items()}
    return tensors


def restore_training_state(tensors: Mapping[str, Tensor], network: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Put back what `training_state` flattened."""
    network.load_state_dict(
        {name.removeprefix("network."): t for name, t in tensors.items() if name.startswith("network.")}
    )
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    moments: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimizer."):
            _, index, field = name.split(".")
            if tensor.dim():
                # Fused Adam walks parameter and moments in memory order: they must be laid out alike.
                tensor = torch.empty_like(parameters[int(index)]).copy_(tensor)
            moments.setdefault(int(index), {})[field] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
