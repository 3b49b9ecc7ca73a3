"""Devices that there are."""

from __future__ import annotations

import torch

from splinellm import parameters
from splinellm.errors import ConfigurationError


def require_device(name: str | int | torch.device) -> torch.device:
    """Find a device, which is there; a number is that of a CUDA device.

    Raises
    ------
    ConfigurationError
        It is unknown or absent.
    """
    called = parameters.device_name(name)
    if called == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(called)
    except RuntimeError:
        raise ConfigurationError(
            f"unknown device '{called[:80]}'", hint="use auto, cpu, cuda, cuda:N or mps"
        ) from None
    try:
        if device.type == "meta":
            raise RuntimeError
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, ImportError):  # torch was not built for the device
        what = f"device '{called[:80]}'"
        if not isinstance(name, str | torch.device):
            what = f"device is of type {type(name).__name__} and stands for '{called}', which"
        raise ConfigurationError(
            f"{what} is not there", hint=f"use {', '.join(_available())}"
        ) from None
    return device


def _available() -> list[str]:
    """Names of what there is, as far as this package knows of it."""
    cuda = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    return ["auto", "cpu", *cuda, *(["mps"] if torch.backends.mps.is_available() else [])]
