"""The command: its options, its help, its exit code; and the other commands that stand beside it.

A prompt is any text, so there is no subcommand for drawing: the first argument is drawn, unless it is exactly the name
of one of ``COMMANDS``. Each of those has a module of its own, which is loaded when it is needed.
"""

import importlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click

from stablediffusiond import __version__
from stablediffusiond.cli.help_text import DESCRIPTION, EPILOG
from stablediffusiond.cli.standard_output import all_written
from stablediffusiond.errors import StableDiffusiondError
from stablediffusiond.messages.request import Request

_NAME: Final = "stablediffusion_client"
#: What the scripts that shells have of `completion` set, where they ask.
COMPLETION_VARIABLE: Final = "_STABLEDIFFUSION_CLIENT_COMPLETE"
_INTERRUPTED: Final = 130  # as the shell has it: 128 + SIGINT

#: First argument -> the module whose ``command`` it runs.
COMMANDS: Final = {
    "status": "stablediffusiond.cli.status",
    "models": "stablediffusiond.cli.models",
    "cancel": "stablediffusiond.cli.cancel",
    "dead": "stablediffusiond.cli.dead",
    "completion": "stablediffusiond.cli.completion",
}

#: The fields of a request that are options, in the order of the help, with what stands for their value there.
_FIELDS: Final = {
    "negative_prompt": "TEXT",
    "prompt_syntax": "a1111|plain",
    "clip_skip": "N",
    "seed": "N",
    "subseed": "N",
    "subseed_strength": "X",
    "count": "N",
    "steps": "N",
    "guidance_scale": "X",
    "sampler": "NAME",
    "width": "PIXELS",
    "height": "PIXELS",
    "strength": "X",
    "mask_blur": "PIXELS",
    "mask_fill": "KIND",
    "mask_padding": "PIXELS",
    "mask_invert": "",
    "mask_from_alpha": "",
    "eta": "X",
    "tiling": "",
    "guidance_rescale": "X",
    "model": "NAME",
    "vae": "NAME",
    "format": "png|jpeg|webp",
    "quality": "N",
    "priority": "low|normal|high",
    "deadline_seconds": "SECONDS",
    "id": "TEXT",
}


def _complete(_: click.Context, parameter: click.Parameter, incomplete: str) -> list[Any]:
    from stablediffusiond.cli.completion import names_of  # noqa: PLC0415 (only where a shell asks)

    return names_of(parameter.name or "", incomplete)


def _request_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """An option for each of ``_FIELDS``, explained as the request itself explains it; values are checked there too."""
    for name, metavar in reversed(_FIELDS.items()):
        field = Request.model_fields[name]
        if isinstance(field.default, bool):
            command = click.option(f"--{name.replace('_', '-')}", flag_value="true", help=field.description)(command)
            continue
        plain = isinstance(field.default, int | float | str) and name not in {"seed", "subseed"}
        shown = f"  [default: {field.default}]" if plain and field.default else ""
        option = click.option(
            f"--{name.replace('_', '-')}",
            metavar=metavar,
            help=f"{field.description}{shown}",
            shell_complete=_complete,
        )
        command = option(command)
    return command


@click.command(_NAME, help=DESCRIPTION, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("prompt", required=False)
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    help="Where to write: a file, a folder, a pattern with {id}, {index} (from 0) and {seed}, or - for standard "
    "output. Several pictures are numbered if the pattern does not tell them apart. Its suffix says the "
    "--format, if nothing else does.  [default: {id}.png]",
)
@_request_options
@click.option("--image", metavar="FILE", type=click.Path(path_type=Path), help="Draw after this picture.")
@click.option("--mask", metavar="FILE", type=click.Path(path_type=Path), help="Draw anew only where this is white.")
@click.option("--extend", metavar="SIDE=PIXELS", multiple=True, help="Draw the image on: left, top, right or bottom.")
@click.option(
    "--lora",
    metavar="NAME[=SCALE]",
    multiple=True,
    shell_complete=_complete,
    help="A LoRA; may be given often.",
)
@click.option(
    "--control",
    metavar="NAME=FILE[:SCALE]",
    multiple=True,
    shell_complete=_complete,
    help="A ControlNet and the picture that guides it; may be given several times.",
)
@click.option("--hires", metavar="SCALE|WxH", help="Draw on at a larger size: 2, or 1024x1024.")
@click.option("--hires-strength", metavar="X", help="How much of the first pass is drawn anew.  [default: 0.7]")
@click.option("--hires-steps", metavar="N", help="Steps of the second pass.  [default: as in the first]")
@click.option("--upscale", metavar="SCALE", help="Enlarge the --image, and draw nothing.")
@click.option(
    "--upscaler",
    metavar="NAME",
    shell_complete=_complete,
    help="What enlarges, for --hires or --upscale.  [default: Latent, Lanczos]",
)
@click.option(
    "--preprocess",
    metavar="[NAME=]KIND[:LOW[:HIGH]]",
    multiple=True,
    shell_complete=_complete,
    help="What is made of a control's picture first, as canny; without a NAME, of all of them.",
)
@click.option(
    "--ip-adapter",
    metavar="NAME=FILE[:SCALE]",
    multiple=True,
    shell_complete=_complete,
    help="An IP-Adapter and the picture that it looks at; may be given several times.",
)
@click.option(
    "--like",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Draw what this picture's file says, but for what else is given here: one of this service's, or one with "
    "A1111's parameters in it.",
)
@click.option("--metadata/--no-metadata", default=None, help="Write into the file how it was drawn.  [default: yes]")
@click.option("--wait/--no-wait", default=None, help="Wait for the pictures, or print the id and leave.")
@click.option("--timeout", metavar="SECONDS", type=click.FloatRange(min=0, min_open=True), help="Wait at most so long.")
@click.option("--json", "as_json", is_flag=True, help="Print each event as a line of JSON; pictures are files still.")
@click.option("--config", metavar="FILE", type=click.Path(path_type=Path), help="Settings; see settings.example.toml.")
@click.version_option(__version__, prog_name=_NAME)
def command(
    *,
    prompt: str | None,
    output: str | None,
    image: Path | None,
    mask: Path | None,
    extend: tuple[str, ...],
    lora: tuple[str, ...],
    like: Path | None,
    metadata: bool | None,
    control: tuple[str, ...],
    preprocess: tuple[str, ...],
    ip_adapter: tuple[str, ...],
    wait: bool | None,
    timeout: float | None,
    as_json: bool,
    config: Path | None,
    **options: object,
) -> None:
    from stablediffusiond.cli import control_arguments, request_arguments, submission  # noqa: PLC0415 (--help and --version need no AMQP)

    if prompt is None and like is None and options.get("upscale") is None:
        raise click.UsageError("Missing argument 'PROMPT', or a file to be --like.")
    prompt = None if prompt is None else request_arguments.read(prompt)
    if as_json and output == "-":
        raise click.UsageError("standard output takes --json or the picture of -o -, not both")
    waits = _waits(wait, prompt, needed=bool(output or timeout))
    larger = request_arguments.Enlarging.out_of(options)
    guides = control_arguments.guides(control, preprocess, ip_adapter)
    fields = {**options, "loras": list(lora) or None, **guides, **larger.fields(), "metadata": metadata}
    files = request_arguments.Files({"image": image, "mask": mask}, like, output, extend)
    request, warnings = request_arguments.request(prompt, fields, files)
    for warning in warnings:
        click.echo(f"{_NAME}: {warning}", err=True)
    if waits:
        submission.draw(request, output, config, timeout_seconds=timeout, as_json=as_json)
    else:
        submission.enqueue(request, config, as_json=as_json)


def _waits(asked: bool | None, prompt: str | None, *, needed: bool) -> bool:
    """Whether the pictures are waited for; ``needed`` is what cannot be without."""
    from stablediffusiond.cli.request_arguments import is_json  # noqa: PLC0415 (as above)

    if asked is False and needed:
        raise click.UsageError("--output and --timeout wait for the pictures; leave --no-wait out")
    return asked if asked is not None else needed or not (prompt and is_json(prompt))


def main(arguments: list[str] | None = None) -> int:
    """Run what the arguments ask for; returns its exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    name, chosen = _NAME, command
    if arguments and (module := COMMANDS.get(arguments[0])):
        name, chosen = f"{_NAME} {arguments[0]}", importlib.import_module(module).command
        arguments = arguments[1:]
    if COMPLETION_VARIABLE in os.environ:
        importlib.import_module("stablediffusiond.cli.completion").prepare()
    try:
        with all_written():
            chosen.main(arguments, prog_name=name, standalone_mode=False)
    except click.ClickException as error:
        click.echo(f"{name}: {error.format_message()} (--help shows how)", err=True)
        return error.exit_code
    except click.Abort:
        return _INTERRUPTED
    except StableDiffusiondError as error:
        click.echo(f"{_NAME}: {error}", err=True)
        return error.exit_code
    return 0
