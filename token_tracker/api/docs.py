"""/api/docs: Swagger UI over openapi.json, from files of its own package; nothing comes from elsewhere."""

from __future__ import annotations

import base64
import hashlib
import re

from flask import Blueprint, Flask, Response

PATH = "/api/docs"
_CONFIG = {
    "app_name": "Token Tracker API",
    "layout": "BaseLayout",  # without the bar that would load other descriptions
    "validatorUrl": None,  # it would send the description to a site on the internet
    "oauth2RedirectUrl": "",
    "defaultModelsExpandDepth": -1,
}
_INLINE = re.compile(rb"<script>(.+?)</script>", re.DOTALL)


def register(app: Flask) -> None:
    """Open to all, like the description that it shows; what it sends needs a token, as always."""
    from flask_swagger_ui import get_swaggerui_blueprint

    pages: Blueprint = get_swaggerui_blueprint(PATH, "/api/openapi.json", config=_CONFIG)
    pages.after_request(_allow_own_scripts)
    app.register_blueprint(pages)


def _allow_own_scripts(response: Response) -> Response:
    """The page's files, and the one script within it, by its digest."""
    scripts = ["'self'"]
    if response.mimetype == "text/html" and not response.is_streamed:
        scripts += [_digest(script) for script in _INLINE.findall(response.get_data())]
    response.headers["Content-Security-Policy"] = (
        f"default-src 'none'; script-src {' '.join(scripts)}; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data:; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    )
    return response


def _digest(script: bytes) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script).digest()).decode()}'"
