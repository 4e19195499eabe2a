"""Opening models: from a folder, a hub or a single file, into a pipeline of diffusers.

What tells families of models apart stands in the tables of ``families.py`` and ``other_kinds.py``, and nowhere else.
"""
