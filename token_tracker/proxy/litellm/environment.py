"""What the LiteLLM child may know of its surroundings: an allow-list, so that no provider key reaches it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

URL = "TT_LITELLM_URL"  # http://127.0.0.1:<port>, where the child listens
KEY = "TT_LITELLM_KEY"  # the child's random master key
EVIDENCE_DIR = "TT_EVIDENCE_DIR"  # the directory of the workers' evidence sockets

_KEPT = frozenset(
    {"PATH", "HOME", "USER", "LANG", "LANGUAGE", "TZ", "TMPDIR", "TEMP", "TMP", "SYSTEMROOT", "VIRTUAL_ENV"}
    | {"LD_LIBRARY_PATH", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"}
    | {"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"}
)
_KEPT_PREFIXES = ("LC_", "PYTHON")

# No network at import or start, no documentation pages, no interface, nothing said on the console.
_FIXED = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "True",
    "LITELLM_LOCAL_BLOG_POSTS": "True",
    "LITELLM_LOCAL_POLICY_TEMPLATES": "True",
    "LITELLM_LOCAL_AUTOROUTER_PRESETS": "True",
    "LITELLM_MODE": "PRODUCTION",
    "LITELLM_LOG": "WARNING",
    "NO_DOCS": "True",
    "NO_REDOC": "True",
    "NO_OPENAPI": "True",
    "DISABLE_ADMIN_UI": "True",
}


def child_environment(environ: Mapping[str, str], *, url: str, key: str, evidence_dir: Path) -> dict[str, str]:
    """The whole environment of the child. Provider keys, DATABASE_URL and everything else of `environ` stay out,
    except what a process needs to run and to reach the network (paths, locale, certificates, proxies)."""
    kept = {
        name: value
        for name, value in environ.items()
        if name.upper() in _KEPT or name.upper().startswith(_KEPT_PREFIXES)
    }
    return kept | _FIXED | {URL: url, KEY: key, EVIDENCE_DIR: str(evidence_dir), "LITELLM_MASTER_KEY": key}


def enter(environ: Mapping[str, str]) -> tuple[str, str, Path]:
    """Make this process's environment the child's: (url, key, evidence_dir). KeyError names a missing variable."""
    url, key, evidence_dir = environ[URL], environ[KEY], Path(environ[EVIDENCE_DIR])
    wanted = child_environment(environ, url=url, key=key, evidence_dir=evidence_dir)
    os.environ.clear()
    os.environ.update(wanted)
    return url, key, evidence_dir
