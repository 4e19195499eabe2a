"""A machine on which the README's commands have installed the services."""

import shlex
from dataclasses import dataclass
from typing import Final

from tests.system.machine import HOME, Machine

#: A path with a space; only its owner may read it.
CHECKOUT: Final = "my checkouts/stablediffusiond"
PREFIX: Final = "/opt/stablediffusiond"
REQUESTS: Final = "stablediffusiond.service"
RESPONSES: Final = "stablediffusion_responsed.service"
SERVICES: Final = (REQUESTS, RESPONSES)
SETTINGS: Final = "/etc/stablediffusiond/settings.toml"
#: Device nodes of WSL2 and Jetson, whose devices belong to no group that a unit can name.
GPUS: Final = ("/dev/dxg", "/dev/nvmap", "/dev/nvhost-ctrl-gpu", "/dev/nvgpu/igpu0/ctrl")
BROKER_URL: Final = "/etc/stablediffusiond/broker-url"


@dataclass
class Installation:
    machine: Machine
    #: What the README's commands have printed.
    printed: str

    def install(self, arguments: str = "") -> str:
        """Run ``sudo ./install.sh`` as a user does."""
        return self.machine.run(f"cd '{CHECKOUT}'; sudo ./install.sh {arguments}")

    def client(self, arguments: str, *, fails: bool = False) -> str:
        """Run the client as a member of the group."""
        return self.machine.run(("! " if fails else "") + client(arguments))

    def picture(self, name: str) -> bytes:
        return self.machine.read(f"{HOME}/{name}")

    def red_cat(self, name: str = "cat.png") -> bytes:
        """The picture that the README's commands draw, drawn once more."""
        self.client(f"'a red cat' --seed 42 -o {name}")
        return self.picture(name)

    @property
    def first_red_cat(self) -> bytes:
        """As it was drawn by the README's commands."""
        return self.picture(f"{CHECKOUT}/cat.png")

    def process_of(self, service: str) -> int:
        return int(self.machine.run(f"systemctl show -P MainPID {service}"))


def client(arguments: str) -> str:
    """The command that runs the client in a shell whose user has not logged in since he joined the group."""
    return f"sg stablediffusion -c {shlex.quote(f'stablediffusion_client {arguments}')}"
