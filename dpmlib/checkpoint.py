"""Files that are either whole or not there: tensors and a little JSON in one safetensors file."""

from __future__ import annotations

import json
import os
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

__all__ = ["flatten", "load", "load_into", "save", "unflatten"]


def save(path: str | os.PathLike, tensors: dict[str, Tensor], **notes) -> None:
    """Write named tensors, and `notes` as JSON, so that `path` holds the old file or the new one, never half of one.

    The bytes go to a neighbour of `path` first, are forced to the disk, and only then take its name (rename is atomic).
    Raises OSError, and leaves the file of that name as it was, if the disk is full or goes away.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    data = to_bytes({k: v.detach().cpu().contiguous() for k, v in tensors.items()},
                    metadata={k: json.dumps(v) for k, v in notes.items()})
    try:
        with open(partial, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        kept = f"the older file at {path} is untouched" if path.exists() else "no file was written"
        raise OSError(error.errno, f"could not write {path} ({error.strerror}); {kept}: free some space, run again") from error


def load(path: str | os.PathLike) -> tuple[dict[str, Tensor], dict]:
    """What `save` wrote: (tensors on the CPU, notes). FileNotFoundError, or ValueError if the file is not whole."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file at {path}")
    try:
        with safe_open(path, framework="pt") as file:
            notes = {k: json.loads(v) for k, v in (file.metadata() or {}).items()}
            return {k: file.get_tensor(k) for k in file.keys()}, notes
    except (SafetensorError, ValueError) as error:
        raise ValueError(f"{path} is truncated or not a safetensors file ({error}): "
                         "delete it, and restore a copy or begin anew") from error


def load_into(module: nn.Module, tensors: dict[str, Tensor], source: object = "the weights") -> nn.Module:
    """Copy `tensors` into `module`. ValueError, and nothing copied, unless every name and shape is the module's own."""
    own = module.state_dict()
    wrong = [f"{k} is missing" for k in own.keys() - tensors.keys()]
    wrong += [f"{k} is unknown" for k in tensors.keys() - own.keys()]
    wrong += [f"{k} has shape {tuple(tensors[k].shape)}, not {tuple(own[k].shape)}"
              for k in own.keys() & tensors.keys() if own[k].shape != tensors[k].shape]
    if wrong:
        raise ValueError(f"{source} do not fit this network ({len(wrong)} of {len(own)} names differ, e.g. "
                         f"{'; '.join(sorted(wrong)[:3])}): build the network with the settings it was saved with")
    module.load_state_dict(tensors)
    return module


def flatten(**parts: dict[str, Tensor]) -> dict[str, Tensor]:
    """flatten(model={"weight": w}) = {"model/weight": w}"""
    return {f"{part}/{name}": value for part, tensors in parts.items() for name, value in tensors.items()}


def unflatten(tensors: dict[str, Tensor], part: str) -> dict[str, Tensor]:
    """The tensors whose names begin with `part/`, without it."""
    return {name[len(part) + 1:]: value for name, value in tensors.items() if name.startswith(part + "/")}


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The moments of every parameter, named '3.exp_avg' and so on."""
    state = optimizer.state_dict()["state"]
    return {f"{i}.{key}": torch.as_tensor(value) for i, moments in state.items() for key, value in moments.items()}


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """The inverse of `optimizer_tensors`; ValueError if the moments are another network's."""
    shapes = [p.shape for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        index, key = name.split(".", 1)
        if int(index) >= len(shapes) or (value.ndim and value.shape != shapes[int(index)]):
            raise ValueError(f"optimizer state {name} of shape {tuple(value.shape)} does not fit this network's parameters")
        state.setdefault(int(index), {})[key] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
