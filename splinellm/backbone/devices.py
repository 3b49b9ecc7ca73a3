"""Devices that there are."""

from __future__ import annotations

import torch

from splinellm.errors import ConfigurationError
from splinellm.parameters import text


def require_device(name: str | torch.device) -> torch.device:
    """Find a device, which is there.

    Raises
    ------
    ConfigurationError
        It is unknown or absent.
    """
    name = str(name) if isinstance(name, torch.device) else text("device", name)
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigurationError(
            f"unknown device '{name[:80]}'", hint="use auto, cpu, cuda, cuda:N or mps"
        ) from None
    try:
        if device.type == "meta":
            raise RuntimeError
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError):  # torch asserts that it was built for the device
        raise ConfigurationError(
            f"device '{name[:80]}' is not there", hint="use --device auto"
        ) from None
    return device
