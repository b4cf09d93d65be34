"""Where the arithmetic runs, and how exactly."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, get_args

import torch
from torch import Tensor, nn

from ddad.errors import SettingError

DeviceName = Literal["auto", "cpu", "cuda"]
Precision = Literal["auto", "fp32", "bf16"]
Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True)
class Compute:
    """A device and the precision of its matrix products.

    Attributes:
        device: `cpu` or `cuda`.
        precision: `fp32` is exact; `bf16` multiplies in bfloat16 and keeps weights and sums in float32.
    """

    device: str
    precision: Literal["fp32", "bf16"]

    @classmethod
    def choose(cls, device: DeviceName = "auto", precision: Precision = "auto") -> Compute:
        """Take the GPU if there is one, and bf16 where the processor multiplies it natively.

        Raises:
            SettingError: the device or the precision is unknown, or `cuda` was asked for and is not there.
        """
        for setting, value, known in (
            ("device", device, get_args(DeviceName)),
            ("precision", precision, get_args(Precision)),
        ):
            if value not in known:
                raise SettingError(f"{setting}: {value!r} is unknown. Use {', '.join(known[:-1])} or {known[-1]}.")
        has_cuda = torch.cuda.is_available()
        if device == "cuda" and not has_cuda:
            raise SettingError("device: 'cuda' was asked for, but torch finds no GPU. Use --device cpu.")
        name = "cuda" if has_cuda and device != "cpu" else "cpu"
        if precision == "auto":
            precision = "bf16" if _multiplies_bf16(name) else "fp32"
        return cls(name, precision)

    def to_json(self) -> dict[str, str]:
        """Return the arguments that make this object again."""
        return {"device": self.device, "precision": self.precision}

    def described(self) -> dict[str, str]:
        """Return device, precision and, where there is one, the name of the GPU."""
        return self.to_json() | ({"gpu": torch.cuda.get_device_name()} if self.device == "cuda" else {})

    def place(self, network: Network) -> Network:
        """Move a network to the device, in the memory format its convolutions like best."""
        return network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]

    def send(self, tensor: Tensor) -> Tensor:
        """Move a tensor to the device, images (N, C, H, W) in the format its convolutions like best."""
        if self.device == "cuda" and not tensor.is_cuda:
            tensor = tensor.pin_memory()  # only from there it travels while the GPU computes
        memory_format = torch.channels_last if tensor.ndim == 4 else torch.preserve_format
        return tensor.to(self.device, memory_format=memory_format, non_blocking=True)

    def exactly(self) -> AbstractContextManager[None]:
        """Compute float32 in float32, which a GPU would round to 19 bits, and in the same order every time."""
        if self.device != "cuda":
            return nullcontext()
        return torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False)

    @contextmanager
    def inference(self) -> Iterator[None]:
        """Read networks as scoring does, wherever they are read: exactly, and without gradients."""
        with torch.inference_mode(), self.exactly():
            yield

    def autocast(self) -> AbstractContextManager[None]:
        """Run matrix products in the chosen precision."""
        return torch.autocast(self.device, torch.bfloat16, enabled=self.precision == "bf16")


def _multiplies_bf16(device: str) -> bool:
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # Only later versions of torch tell; without the word, the exact arithmetic is taken.
    tell: Callable[[], dict[str, Any]] = getattr(torch.cpu, "get_capabilities", dict)
    capabilities = tell()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
