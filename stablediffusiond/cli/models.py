"""``models``: what requests may name, as the request daemons that are up say it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from stablediffusiond.cli.standard_output import print_json
from stablediffusiond.errors import StableDiffusiondError

if TYPE_CHECKING:
    from stablediffusiond.messages.status import Offer, WorkerStatus


class NobodyAnswers(StableDiffusiondError):
    """No request daemon is there to say anything."""

    exit_code = 1


@click.command("models", context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object for each daemon, one a line.")
@click.option("--timeout", metavar="SECONDS", type=click.FloatRange(min=0, min_open=True), help="Wait at most so long.")
@click.option("--config", metavar="FILE", type=click.Path(path_type=Path), help="Settings; see settings.example.toml.")
def command(*, as_json: bool, timeout: float | None, config: Path | None) -> None:
    """Show what requests may name: the models of the request daemons, samplers, and files by their names.

    Behind a LoRA stand the models that it was made for, and the words that call for it, as far as its file says.

    Exit codes: 1 no request daemon has answered; 3 the broker cannot be reached; 4 --timeout came first.
    """
    from stablediffusiond.client import Client  # noqa: PLC0415 (--help needs no AMQP)
    from stablediffusiond.settings import load  # noqa: PLC0415

    with Client(load(config), reconnect_seconds=0) as client:
        workers = client.status(offer=True, timeout_seconds=timeout).workers
    if not workers:
        raise NobodyAnswers("no request daemon has answered; stablediffusion_client status shows who is there")
    for worker in workers:
        if worker.offer is None:
            click.echo(f"{worker.host}: of a version that does not say", err=True)
        elif as_json:
            said = {"host": worker.host, "pid": worker.pid, "model": worker.model}
            print_json(json.dumps({**said, **worker.offer.model_dump(exclude_none=True)}, ensure_ascii=False))
        else:
            click.echo("\n".join(_lines(worker, worker.offer)))


def _lines(worker: "WorkerStatus", offer: "Offer") -> Iterator[str]:
    yield f"{worker.model}  on {worker.host}, {worker.device}, {worker.dtype}"
    yield f"  draws        {', '.join(offer.tasks)}"
    size, steps, guidance = (
        f"{offer.width}x{offer.height}",
        f"{offer.steps} steps",
        f"guidance {offer.guidance_scale:g}",
    )
    yield f"  by itself    {size}, {steps}, {guidance}, {offer.sampler}"
    if len(offer.models) > 1:
        yield f"  models       {', '.join(offer.models)}"
    yield f"  samplers     {', '.join(offer.samplers)}"
    for place, lora in enumerate(offer.loras):
        about = "; ".join(filter(None, (lora.family, ", ".join(lora.triggers))))
        yield f"  {'' if place else 'LoRAs':12} {lora.name}{f'  ({about})' if about else ''}"
    others = {
        "embeddings": offer.embeddings,
        "ControlNets": offer.controlnets,
        "IP-Adapters": offer.ip_adapters,
        "VAEs": offer.vaes,
        "upscalers": offer.upscalers,
    }
    for title, names in others.items():
        if names:
            yield f"  {title:12} {', '.join(names)}"
