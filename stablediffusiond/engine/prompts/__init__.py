"""Prompts: read in A1111's dialect and at any length (``tokenizers.py``, ``encoding.py``), and kept (``cache.py``)."""
