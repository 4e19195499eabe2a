"""Reading the settings: a TOML file, the environment over it, and the files that hold secrets.

Every error names the file or the variable, the key, and what to write.
"""

import difflib
import os
import tomllib
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, SecretStr, ValidationError

from stablediffusiond import sandbox
from stablediffusiond.errors import SettingsError
from stablediffusiond.settings.sections import ENV_PREFIX, BrokerSettings, Settings

ENV_FILE: Final = "STABLEDIFFUSIOND_CONFIG"
_SHORTEST_TOKEN: Final = 16
#: Keys whose values no error may repeat.
_SECRETS: Final = {"url", "token", "webhook_secret"}
#: Keys of earlier versions that mean nothing any more: an upgrade keeps the file that they stand in.
_REMOVED: Final = {("engine", "waiting_jobs")}


def load(path: Path | None = None, *, operator: bool = False) -> Settings:
    """The settings of the first file that there is, with the environment over them.

    ``operator``: with the way to the broker that is meant for those who may read ``operator_url_file``, if we may.

    The order: ``path``, ``$STABLEDIFFUSIOND_CONFIG``, ``~/.config/stablediffusiond/settings.toml``,
    ``/etc/stablediffusiond/settings.toml``, else the built-in defaults.

    Raises:
        SettingsError: a file that cannot be read or is no TOML, an unknown key, a value of the wrong type.
    """
    file = find(path)
    values = _read(file) if file else {}
    _refuse_unknown_environment()
    sections: dict[str, Any] = dict(values)
    try:
        return _with_secrets(Settings(**sections), operator=operator)
    except ValidationError as error:
        raise SettingsError("\n".join(_explain(error, file, values))) from None
    except ValueError as error:  # pydantic-settings: an environment variable that is no JSON where it has to be
        raise SettingsError(f"settings: environment: {error}") from None


def _with_secrets(settings: Settings, *, operator: bool) -> Settings:
    """With the broker's URL and the socket's token out of the files that are named for them."""
    broker, responses = settings.broker, settings.responses
    mine = operator and os.access(broker.operator_url_file, os.R_OK)
    key, url_file = ("operator_url_file", broker.operator_url_file) if mine else ("url_file", broker.url_file)
    if url_file is not None and broker.url == BrokerSettings().url:
        url = _read_secret(url_file, f"[broker] {key}")
        broker = broker.model_copy(update={"url": SecretStr(url)})
    if responses.token_file is not None and responses.token is None:
        token = _read_secret(responses.token_file, "[responses] token_file")
        responses = responses.model_copy(update={"token": SecretStr(token)})
    if responses.token is not None and len(responses.token) < _SHORTEST_TOKEN:
        raise SettingsError(f"settings: [responses] token: must have {_SHORTEST_TOKEN} characters or more")
    return settings.model_copy(update={"broker": broker, "responses": responses})


def _read_secret(file: Path, key: str) -> str:
    try:
        return file.read_text("utf-8-sig").strip()
    except (OSError, UnicodeDecodeError) as error:
        if (hidden := sandbox.hides(file)) is None and isinstance(error, PermissionError):
            raise SettingsError(f"settings: {key}: {file} is not for you to read{_group_of(file)}") from None
        raise SettingsError(f"settings: {key}: {file} cannot be read: {hidden or error}") from None


def _group_of(file: Path) -> str:
    """What to do about a file that only a group may read."""
    try:
        return f"; ask to be taken into the group {file.group()}, and log in again"
    except (OSError, KeyError):
        return ""


def find(path: Path | None = None) -> Path | None:
    """The file that ``load`` reads. One that was named must be there; the usual places may be empty."""
    if path is not None:
        return path
    if named := os.environ.get(ENV_FILE):
        return Path(named)
    home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    usual = (home / "stablediffusiond/settings.toml", Path("/etc/stablediffusiond/settings.toml"))
    return next((file for file in usual if file.is_file()), None)


def _read(file: Path) -> dict[str, dict[str, object]]:
    try:
        values: dict[str, object] = tomllib.loads(file.read_text("utf-8-sig"))
    except OSError as error:
        raise SettingsError(f"settings: cannot read {file}: {sandbox.hides(file) or error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"settings: {file} is not TOML: {error}") from None
    sections: dict[str, dict[str, object]] = {}
    for name, section in values.items():
        if not isinstance(section, dict):
            raise SettingsError(f"settings: {file}: {name!r} stands outside a section; write it under [section]")
        sections[name] = {key: value for key, value in section.items() if (name, key) not in _REMOVED}
    return sections


def _refuse_unknown_environment() -> None:
    """pydantic-settings overlooks a variable whose section it does not know; a typing error must not pass unseen."""
    for name in os.environ:
        if not name.startswith(ENV_PREFIX) or name == ENV_FILE:
            continue
        section = name.removeprefix(ENV_PREFIX).partition("__")[0].lower()
        if section not in Settings.model_fields:
            hint = _nearest(section, list(Settings.model_fields))
            raise SettingsError(f"settings: environment: {name}: unknown section {section!r}{hint}")


def _explain(error: ValidationError, file: Path | None, values: dict[str, dict[str, object]]) -> list[str]:
    lines = []
    for problem in error.errors(include_url=False, include_context=False):
        where = [str(part) for part in problem["loc"]]
        section, key = where[0], ".".join(where[1:])
        from_file = file and key in values.get(section, {})
        source = str(file) if from_file or (file and section in values and not key) else "environment"
        name = f"[{section}] {key}" if key else f"[{section}]"
        if problem["type"] == "extra_forbidden":
            reason = f"unknown {'key' if key else 'section'}{_nearest(where[-1], _keys(section if key else None))}"
        else:
            value = "" if key in _SECRETS else f", not {problem['input']!r}"
            reason = str(problem["msg"])[0].lower() + str(problem["msg"])[1:] + value
        lines.append(f"settings: {source}: {name}: {reason}")
    return lines


def _keys(section: str | None) -> list[str]:
    if section is None:
        return list(Settings.model_fields)
    kind = Settings.model_fields[section].annotation
    return list(kind.model_fields) if isinstance(kind, type) and issubclass(kind, BaseModel) else []


def _nearest(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(known)}"
