"""Imported before what takes long to import, in a process that forks others: these look for garbage again."""

import gc

gc.disable()
