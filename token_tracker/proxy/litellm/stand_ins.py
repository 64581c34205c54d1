"""Modules put in the place of packages that LiteLLM tries to import on each request and that are not installed."""

from __future__ import annotations

import sys
from types import ModuleType


class _Errors(ModuleType):
    """A module in which every public name is an exception class that nothing raises."""

    def __getattr__(self, name: str) -> type[Exception]:
        if name.startswith("_"):
            raise AttributeError(name)
        made = type(name, (Exception,), {})
        setattr(self, name, made)
        return made


def install() -> None:
    """Before LiteLLM is imported. Without `prisma`, each refusal inside LiteLLM would become a 500; without the
    OpenTelemetry SDK, its `otel.logger` would be executed anew, and fail, on every request (4 ms without bytecode)."""
    prisma, engine = ModuleType("prisma"), ModuleType("prisma.engine")
    errors, engine_errors = _Errors("prisma.errors"), _Errors("prisma.engine.errors")
    vars(prisma).update(errors=errors, engine=engine, __path__=[])
    vars(engine).update(errors=engine_errors, __path__=[])
    for module in (prisma, engine, errors, engine_errors):
        sys.modules[module.__name__] = module
    # None in sys.modules makes the import fail at once; the annotation of the dict does not foresee it.
    vars(sys)["modules"]["litellm.integrations.otel.logger"] = None
