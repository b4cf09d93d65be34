"""Tensors on disk, whole or not at all, and never as code."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from ddad.errors import ModelError
from ddad.files import write_atomically
from ddad.training.adam import Adam


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


def training_state(network: nn.Module, optimizer: Adam) -> dict[str, Tensor]:
    """Flatten a network and its Adam moments into named tensors."""
    tensors = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
    return tensors | {f"optimizer.{name}": tensor for name, tensor in optimizer.state().items()}


def restore_training_state(tensors: Mapping[str, Tensor], network: nn.Module, optimizer: Adam) -> None:
    """Put back what `training_state` flattened."""
    network.load_state_dict(_part(tensors, "network."))
    optimizer.restore(_part(tensors, "optimizer."))


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
