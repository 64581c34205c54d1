"""The short text of a start: where everything is, how to get in, and a first call that works as printed."""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from token_tracker.config.values import Address, Configuration
from token_tracker.supervisor.preparation import Outcome

_HERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}
_CURL = """  curl {url}/v1/chat/completions \\
    -H "Authorization: Bearer {key}" -H "Content-Type: application/json" \\
    -d '{{"model": "{model}", "messages": [{{"role": "user", "content": "Hello, who is there?"}}]}}'"""


def announcement(configuration: Configuration, shown: Collection[str], made: Outcome | None, took_s: float) -> str:
    """`shown`: which of gateway, api and dashboard run here; `made`: what database.init made, if it has ended."""
    settings = configuration.settings
    lines = [f"Token Tracker is running (after {took_s:.1f} s). Ctrl-C ends it.", ""]
    for name, address, path in (
        ("gateway", settings.proxy, "/v1"),
        ("api", settings.api, "/api"),
        ("dashboard", settings.dashboard, ""),
    ):
        if name in shown:
            lines.append(f"  {_LABELS[name]:<11}{_url(address)}{path}")
    lines += ["", *entrance(configuration, made)]
    model = _model(configuration)
    if "gateway" in shown and model:
        key = (made and made.first_key) or "$TT_KEY"
        title = "A first call:" if made and made.first_key else "A call, with your key in TT_KEY:"
        lines += ["", title, _CURL.format(url=_url(settings.proxy), key=key, model=model)]
    return "\n".join([*lines, ""])


_LABELS = {"gateway": "Gateway", "api": "API", "dashboard": "Dashboard"}


def entrance(configuration: Configuration, made: Outcome | None) -> list[str]:
    """Login and first key: each shown once, when it is made; later how to make a new one."""
    own_password = configuration.settings.admin_password is not None
    if made and made.admin_password is not None:
        login = f"admin   password: {made.admin_password}   (shown this once)"
    elif made and made.first_key is not None and own_password:
        login = "admin   password: the one in TOKEN_TRACKER_ADMIN_PASSWORD"
    else:
        login = f"admin   (forgotten? {_command()} init --reset-admin-password)"
    if made and made.first_key is not None:
        return [f"  {'Login':<11}{login}", f"  {'first key':<11}{made.first_key}   (shown this once)"]
    return [f"  {'Login':<11}{login}", f"  {'A new key':<11}{_command()} keys create 'my key'"]


def _command() -> str:
    """The command line, as one would type it here."""
    python, here = Path(sys.executable), Path.cwd()
    return f"{python.relative_to(here) if python.is_relative_to(here) else python} -m token_tracker.run"


def _model(configuration: Configuration) -> str | None:
    """`demo` if it is offered, else the first model that is."""
    exact: Sequence[str] = list(configuration.models.exact)
    return "demo" if "demo" in exact else next(iter([*exact, *configuration.models.env_offers]), None)


def _url(address: Address) -> str:
    """An address that a browser on this machine can open."""
    return replace(address, host=_HERE.get(address.host, address.host)).url
