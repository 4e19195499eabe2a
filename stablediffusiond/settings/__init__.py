"""Typed settings: ``sections`` has a class for each section of the file, ``loading`` reads file and environment."""

from stablediffusiond.settings.loading import find, load
from stablediffusiond.settings.sections import (
    BrokerSettings,
    CompileMode,
    EngineSettings,
    FolderSettings,
    LimitSettings,
    LogSettings,
    MetricsSettings,
    ModelSettings,
    Quantize,
    QueueSettings,
    ResponseSettings,
    Settings,
    VaeTiling,
)

__all__ = [
    "BrokerSettings",
    "CompileMode",
    "EngineSettings",
    "FolderSettings",
    "LimitSettings",
    "LogSettings",
    "MetricsSettings",
    "ModelSettings",
    "Quantize",
    "QueueSettings",
    "ResponseSettings",
    "Settings",
    "VaeTiling",
    "find",
    "load",
]
