"""The operator's plugins: MCP servers that agents may use, each with its command or address and its approved tools.

plugins:
  calculator:
    command: [/usr/bin/python3, /opt/plugins/calculator.py]   # runs in the agent's sandbox, without a network
    files: {/opt/plugins/calculator.py: "sha256:9f86..."}     # nothing else of the machine is shown to it
    tools: {add: "sha256:5e88..."}                             # `prpm-testing plugin pin` tells the digests
  tickets:
    url: https://mcp.example.com/mcp                           # asked by the relay, outside the sandbox
    key_variable: TICKETS_TOKEN                                # sent as a bearer token
    tools: {search: "sha256:2c26..."}
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta, Struct

from evals.errors import EngineError
from evals.json_reader import InvalidText
from evals.manifests import closest
from evals.models import Secret
from evals.yaml_reader import read_yaml

_NAME = r"^[a-z0-9][a-z0-9_-]{0,40}$"
_TOOL = r"^[A-Za-z0-9_.-]{1,64}$"
_DIGEST = r"^sha256:[0-9a-f]{64}$"  # with the word, as digits alone are a number to YAML
MAX_FILE_BYTES = 64 * 2**20

PluginName = Annotated[str, Meta(pattern=_NAME)]
ToolName = Annotated[str, Meta(pattern=_TOOL)]
Digest = Annotated[str, Meta(pattern=_DIGEST)]


class InvalidPlugins(EngineError):
    """The plugins file cannot be used; `details` has one line a finding."""


class UnknownPlugin(EngineError):
    """The plugins file has none of that name."""


class PluginChanged(EngineError):
    """It is not what the operator approved, so it is not used."""


class PinnedPlugin(Struct, frozen=True, kw_only=True):
    """One MCP server. It has a `command` or a `url`; the key is read from the environment, once."""

    name: str
    tools: dict[str, str]  # name -> sha256:… of name, description and input schema
    command: tuple[str, ...] = ()
    files: dict[str, str] = {}  # absolute path -> sha256:… of its content
    folders: tuple[str, ...] = ()  # shown read-only as well, unchecked
    url: str | None = None
    key: Secret | None = None
    start_seconds: float = 20.0

    @property
    def rules(self) -> tuple[str, ...]:
        """Its tools, in Claude Code's words."""
        return tuple(f"mcp__{self.name}__{tool}" for tool in self.tools)


class _Entry(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    tools: dict[ToolName, Digest] = {}
    command: tuple[str, ...] = ()
    files: dict[str, Digest] = {}
    folders: tuple[str, ...] = ()
    url: str | None = None
    key_variable: str | None = None
    start_seconds: Annotated[float, Meta(gt=0, le=120)] = 20.0


class _File(Struct, frozen=True, forbid_unknown_fields=True):
    plugins: dict[PluginName, _Entry]


class PluginCatalogue:
    """The plugins of one process, by name."""

    def __init__(self, plugins: Iterable[PinnedPlugin] = ()) -> None:
        self._plugins = {plugin.name: plugin for plugin in plugins}

    @property
    def names(self) -> tuple[str, ...]:
        """In the file's order."""
        return tuple(self._plugins)

    def choose(self, names: Sequence[str]) -> tuple[PinnedPlugin, ...]:
        """Those of these names, each once. Raises UnknownPlugin, with the names that there are."""
        for name in names:
            if name not in self._plugins:
                known = ", ".join(self._plugins) or "none; the operator names them in PRPM_PLUGINS"
                shown = name[:60] if name.isprintable() else "of that name"
                raise UnknownPlugin(
                    f"There is no plugin {shown}{closest(name[:60], self._plugins)}. Known plugins: {known}."
                )
            if not self._plugins[name].tools:
                raise UnknownPlugin(
                    f"The plugin {name} has no approved tools yet. The operator runs `prpm-testing plugin pin {name}`."
                )
        return tuple(self._plugins[name] for name in dict.fromkeys(names))

    def get(self, name: str) -> PinnedPlugin | None:
        """The plugin of that name, approved or not."""
        return self._plugins.get(name)


def load_plugins(text: str, *, environ: Mapping[str, str]) -> PluginCatalogue:
    """The catalogue of a plugins file. Raises InvalidPlugins with one detail a finding."""
    parsed = _parse(text)
    findings = [
        f"plugins.{name}: {finding}" for name, entry in parsed.plugins.items() for finding in _findings(entry, environ)
    ]
    if findings:
        raise _invalid(findings)
    return PluginCatalogue(_plugin(name, entry, environ) for name, entry in parsed.plugins.items())


def plugin_key_variables(text: str) -> set[str]:
    """Names of the variables that hold plugins' keys, for a root that takes them out of its environment."""
    return {entry.key_variable for entry in _parse(text).plugins.values() if entry.key_variable}


def _parse(text: str) -> _File:
    try:
        return msgspec.convert(read_yaml(text).value, _File)
    except InvalidText as error:
        raise _invalid([f"line {error.line}: {error}" if error.line else str(error)]) from None
    except msgspec.ValidationError as error:
        raise _invalid([str(error)]) from None


def _invalid(findings: Sequence[str]) -> InvalidPlugins:
    return InvalidPlugins(f"The plugins file cannot be used: {findings[0]}.", findings)


def _findings(entry: _Entry, environ: Mapping[str, str]) -> Iterable[str]:
    if bool(entry.command) == bool(entry.url):
        yield "it needs a `command` or a `url`, and not both"
    if entry.url is not None and urlsplit(entry.url).scheme not in ("http", "https"):
        yield "its `url` must begin with https:// or http://"
    if entry.url is not None and (entry.files or entry.folders):
        yield "`files` and `folders` go with a `command`"
    if entry.command and entry.key_variable:
        yield "a `command` runs beside text that nobody trusts and gets no key; offer it by a `url`"
    if entry.key_variable and not environ.get(entry.key_variable, "").strip():
        yield f"the variable {entry.key_variable} is not set"
    for path in (*entry.command[:1], *entry.files, *entry.folders):
        if not path.startswith("/") or ".." in path.split("/"):
            yield f"{path[:80]} must be an absolute path"


def _plugin(name: str, entry: _Entry, environ: Mapping[str, str]) -> PinnedPlugin:
    return PinnedPlugin(
        name=name,
        tools=entry.tools,
        command=entry.command,
        files=entry.files,
        folders=entry.folders,
        url=entry.url,
        key=Secret(environ[entry.key_variable].strip()) if entry.key_variable else None,
        start_seconds=entry.start_seconds,
    )


def check_files(plugin: PinnedPlugin) -> None:
    """Every file of the plugin is as it was approved. Raises PluginChanged. Reads files: not for the event loop."""
    for path, pinned in plugin.files.items():
        try:
            content = Path(path).read_bytes() if Path(path).stat().st_size <= MAX_FILE_BYTES else b""
        except OSError:
            content = b""
        if f"sha256:{hashlib.sha256(content).hexdigest()}" != pinned:
            raise changed(plugin.name, "a file of it is not the approved one")


def changed(name: str, what: str) -> PluginChanged:
    """The error for a plugin that is not as approved."""
    return PluginChanged(
        f"The plugin {name} changed since it was approved ({what}), so it is not used. The operator has to look at it, "
        f"and to run `prpm-testing plugin pin {name}`."
    )
