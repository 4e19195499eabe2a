"""Where the settings say that the store is."""

from pathlib import Path

from stablediffusiond.gateway.store.bucket import SCHEME, BucketFiles
from stablediffusiond.gateway.store.disk import DiskFiles
from stablediffusiond.gateway.store.files import Files


def files_of(store: str) -> Files:
    """Of ``[gateway] store``. Raises SettingsError."""
    return BucketFiles(store) if store.startswith(SCHEME) else DiskFiles(Path(store))
