"""``completion``: what a shell completes for the client, with the names that the service itself knows.

The scripts are click's; what they ask for each time that Tab is pressed is this program.
"""

from typing import Final

import click
from click.shell_completion import CompletionItem, get_completion_class

from stablediffusiond import preprocessors, samplers
from stablediffusiond.errors import StableDiffusiondError

_PROGRAM: Final = "stablediffusion_client"
_VARIABLE: Final = "_STABLEDIFFUSION_CLIENT_COMPLETE"
#: Nobody waits longer for a completion.
_SECONDS: Final = 1.5


@click.command("completion", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(*, shell: str) -> None:
    r"""Print what makes a shell complete options, samplers, and the names that the service knows.

    \b
    bash:  stablediffusion_client completion bash > ~/.local/share/bash-completion/completions/stablediffusion_client
    zsh:   stablediffusion_client completion zsh >> ~/.zshrc
    fish:  stablediffusion_client completion fish > ~/.config/fish/completions/stablediffusion_client.fish
    """
    from stablediffusiond.cli.command import command as client  # noqa: PLC0415 (which names this module)

    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"this version of click has no completion for {shell}")
    click.echo(kind(client, {}, _PROGRAM, _VARIABLE).source())


def names_of(option: str, incomplete: str) -> list[CompletionItem]:
    """The names that may follow ``option`` and begin with ``incomplete``, in whatever case."""
    known = {"sampler": samplers.NAMES, "preprocess": preprocessors.NAMES}
    names = known[option] if option in known else _offered(option)
    return [CompletionItem(name) for name in names if name.lower().startswith(incomplete.lower())]


def _offered(option: str) -> list[str]:
    """What the request daemons that are up say; nothing where they cannot be asked."""
    from stablediffusiond.client import Client  # noqa: PLC0415 (most completions need no AMQP)
    from stablediffusiond.settings import load  # noqa: PLC0415

    try:
        with Client(load(None), reconnect_seconds=0) as client:
            workers = client.status(offer=True, timeout_seconds=_SECONDS).workers
    except StableDiffusiondError:
        return []
    offers = [worker.offer for worker in workers if worker.offer is not None]
    if option == "lora":
        return sorted({lora.name for offer in offers for lora in offer.loras})
    named = {"control": "controlnets", "ip_adapter": "ip_adapters", "vae": "vaes", "upscaler": "upscalers"}
    return sorted({name for offer in offers for name in getattr(offer, named[option])})
