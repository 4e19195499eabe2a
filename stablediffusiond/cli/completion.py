"""``completion``: what a shell completes for the client, with the names that the service itself knows.

The scripts are click's; what they ask for each time that Tab is pressed is this program.
"""

import re
from typing import Any, Final

import click
from click.shell_completion import BashComplete, CompletionItem, add_completion_class, get_completion_class

from stablediffusiond import preprocessors, samplers
from stablediffusiond.cli.command import COMPLETION_VARIABLE
from stablediffusiond.cli.command import command as client
from stablediffusiond.errors import StableDiffusiondError
from stablediffusiond.messages.request import Request

_PROGRAM: Final = "stablediffusion_client"
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
    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"this version of click has no completion for {shell}")
    click.echo(kind(client, {}, _PROGRAM, COMPLETION_VARIABLE).source())


class _Quoting(BashComplete):
    """For bash, which takes a completion as it comes: "Euler a" would be two words.

    The script that people have installed reads it with ``read``, which takes one level of backslashes away.
    """

    def format_completion(self, item: CompletionItem) -> str:
        quoted = re.sub(r"[^\w@%+=:,./-]", r"\\\\\g<0>", item.value)
        return f"{item.type},{quoted}"


def prepare() -> None:
    """Have names come as each shell takes them."""
    add_completion_class(_Quoting)


def names_of(option: str, incomplete: str) -> list[CompletionItem]:
    """The names that may follow ``option`` and begin with ``incomplete``, in whatever case."""
    known = {"sampler": samplers.NAMES, "preprocess": preprocessors.NAMES}
    names = known.get(option) or _choices(option) or _offered(option)
    return [CompletionItem(name) for name in names if name.lower().startswith(incomplete.lower())]


def _choices(option: str) -> list[str]:
    """Those of a field of a request that has some."""
    properties: dict[str, dict[str, Any]] = Request.model_json_schema()["properties"]
    return [str(each) for each in properties.get(option, {}).get("enum", ())]


def _offered(option: str) -> list[str]:
    """What the request daemons that are up say; nothing where they cannot be asked."""
    named = {
        "model": "models", "control": "controlnets", "ip_adapter": "ip_adapters", "vae": "vaes", "upscaler": "upscalers"
    }  # fmt: skip
    if option not in {"lora", *named}:
        return []
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
    return sorted({name for offer in offers for name in getattr(offer, named[option])})
