"""The models that requests to this daemon may name, those that they once could, and whether any daemon has one."""

from collections.abc import Awaitable, Callable

from stablediffusiond.engine.catalogue import Catalogue
from stablediffusiond.messages.names import name_key
from stablediffusiond.requestd.remembered_models import RememberedModels


class ServedModels:
    """As the settings and the folder of models have them just now."""

    def __init__(
        self, catalogue: Catalogue, remembered: RememberedModels, is_served: Callable[[str], Awaitable[bool]]
    ) -> None:
        """``is_served``: whether a daemon that is connected draws with a model."""
        self._catalogue = catalogue
        self._remembered = remembered
        self.is_served = is_served

    @property
    def names(self) -> list[str]:
        return self._catalogue.names

    @property
    def retired(self) -> list[str]:
        """Those that were among them once."""
        return self._remembered.retired(self._catalogue.names)

    async def may_be_elsewhere(self, asked: str) -> bool:
        """Whether a job for a model that is unknown here may be left to other daemons, even if they are away just now.

        Not, if this daemon had it, and now nobody has it.
        """
        retired = map(name_key, self.retired)
        return name_key(asked) not in retired or await self.is_served(asked)
