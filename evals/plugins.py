"""How the families of plug-ins are found: every module of a folder is imported, and registers what it has.

Adding one of a kind is one new file in its folder; nothing else is edited.
"""

from __future__ import annotations

import importlib
import pkgutil
import threading
from collections.abc import Iterator, Mapping
from typing import Generic, TypeVar

Plugin = TypeVar("Plugin")


class Registry(Mapping[str, Plugin], Generic[Plugin]):
    """Name -> plug-in of one family. The folder is imported at the first look, so an unused family costs nothing."""

    def __init__(self, package: str) -> None:
        self._package = package
        self._found: dict[str, Plugin] = {}
        self._loaded = False
        self._is_loading = False
        self._lock = threading.RLock()

    def register(self, name: str, plugin: Plugin) -> None:
        """Make `plugin` known. Raises ValueError if two files claim one name."""
        if name in self._found:
            raise ValueError(f"{self._package}: two plug-ins are named {name!r}")
        self._found[name] = plugin

    def _load(self) -> dict[str, Plugin]:
        # Whoever looks while another thread imports must wait: half a family would refuse what is there.
        if not self._loaded:
            with self._lock:
                self._import_once()
        return self._found

    def _import_once(self) -> None:
        if self._loaded or self._is_loading:  # loading: a plug-in looks at its own family
            return
        self._is_loading = True
        try:
            for module in pkgutil.iter_modules(importlib.import_module(self._package).__path__):
                if not module.name.startswith("_"):
                    importlib.import_module(f"{self._package}.{module.name}")
            self._loaded = True
        finally:
            self._is_loading = False

    def __getitem__(self, name: str) -> Plugin:
        return self._load()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._load()))

    def __len__(self) -> int:
        return len(self._load())
