"""Typed settings: ``sections`` has a class for each section of the file, ``loading`` reads file and environment."""

from stablediffusiond.settings.loading import find, load
from stablediffusiond.settings.model import CompileMode, FolderSettings, ModelSettings, Quantize, VaeTiling
from stablediffusiond.settings.sections import (
    BrokerSettings,
    EngineSettings,
    GatewaySettings,
    LimitSettings,
    LogSettings,
    MetricsSettings,
    QueueSettings,
    ResidencySettings,
    ResponseSettings,
    Settings,
)

__all__ = [
    "BrokerSettings",
    "CompileMode",
    "EngineSettings",
    "FolderSettings",
    "GatewaySettings",
    "LimitSettings",
    "LogSettings",
    "MetricsSettings",
    "ModelSettings",
    "Quantize",
    "QueueSettings",
    "ResidencySettings",
    "ResponseSettings",
    "Settings",
    "VaeTiling",
    "find",
    "load",
]
