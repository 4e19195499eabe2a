"""LoRAs: read from files (``file.py``, ``kinds.py``), kept (``library.py``), added to rows (``by_rows.py``)."""
