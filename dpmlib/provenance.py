"""Where a result came from: what every committed file of weights or numbers says about itself."""

import os
import platform
import subprocess
from pathlib import Path

import torch


def commit() -> str | None:
    """The commit that this copy of dpmlib was checked out at; None outside of a repository or without git."""
    try:
        here = Path(__file__).parent
        return subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True).stdout.strip() or None
    except OSError:
        return None


def device(device: torch.device) -> str:
    """A device in words: the name of a GPU; of a CPU its architecture, the processes and the threads of each."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} CPU, {os.environ.get('WORLD_SIZE', 1)} process(es) of {torch.get_num_threads()} thread(s)"
