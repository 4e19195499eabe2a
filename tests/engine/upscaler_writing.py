"""Upscalers with random weights, in the files in which people have them."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from stablediffusiond.engine.upscaler_files import spandrel


def esrgan(path: Path, *, scale: int = 2, seed: int = 0, colours: int = 3) -> Any:
    """A small ESRGAN; what it sees of a pixel's neighbours is less than what tiles overlap. Returns its network."""
    spandrel()
    from spandrel.architectures.ESRGAN import ESRGAN  # type: ignore[import-untyped,unused-ignore]

    torch.manual_seed(seed)
    network = ESRGAN(in_nc=colours, out_nc=colours, num_filters=8, num_blocks=1, scale=scale)
    return _saved(network, path)


def compact(path: Path, *, scale: int = 2, seed: int = 0) -> Any:
    """As Real-ESRGAN's small models are."""
    spandrel()
    from spandrel.architectures.Compact.__arch.SRVGG import SRVGGNetCompact  # type: ignore[import-untyped,unused-ignore]

    torch.manual_seed(seed)
    return _saved(SRVGGNetCompact(num_feat=8, num_conv=2, upscale=scale), path)


def _saved(network: Any, path: Path) -> Any:
    path.parent.mkdir(parents=True, exist_ok=True)
    *_, last = [module for module in network.modules() if isinstance(module, torch.nn.Conv2d)]
    with torch.no_grad():  # so that pictures have contrast
        last.weight.mul_(10)
        if last.bias is not None:
            last.bias.fill_(0.5)
    state = network.state_dict()
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    return network.eval()
