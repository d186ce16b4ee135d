"""A module that is imported when something of it is first asked for."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types
from typing import Any


class _Late(types.ModuleType):
    """Stands for a module until then."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        real = importlib.import_module(self.__name__)
        self.__dict__.update(real.__dict__)
        return getattr(real, name)


def import_late(name: str) -> None:
    """Put off the import of ``PARENT.CHILD`` to its first use, for the rest of this process.

    scikit-learn imports ``scipy.stats`` whatever estimator is asked for, and few of them use it; it is a third of the CPU of
    scikit-learn's import.
    """
    if name in sys.modules:
        return
    parent, _, child = name.rpartition(".")
    try:
        spec = importlib.util.find_spec(name)
    except ImportError:
        return
    if spec is None:
        return
    module = _Late(name)
    module.__spec__ = spec
    module.__path__ = list(spec.submodule_search_locations or [])
    module.__package__ = name
    sys.modules[name] = module
    setattr(sys.modules[parent], child, module)
