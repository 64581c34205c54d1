"""Runs the LiteLLM child: a stock LiteLLM proxy with one fixed configuration, behind our guard, on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import tempfile
import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from token_tracker.proxy.litellm import environment, quiet, stand_ins, witness
from token_tracker.proxy.litellm.guard import App, guarded

# Without secrets: model, address and key of the upstream come in each request's body. What LiteLLM sends upstream must
# never exceed what the gateway held, so no retries and no rewriting of small output bounds (messages → responses).
CONFIGURATION: dict[str, Any] = {
    "model_list": [{"model_name": "*", "litellm_params": {"model": "*", "max_retries": 0}}],
    "litellm_settings": {
        "num_retries": 0,
        "request_timeout": 6000,  # the gateway's time-outs decide; it closes the connection
        "drop_params": True,
        "global_disable_no_log_param": True,
        "disable_hf_tokenizer_download": True,
        "use_chat_completions_url_for_anthropic_messages": True,
    },
    "router_settings": {"num_retries": 0, "disable_cooldowns": True},
    "general_settings": {
        "allow_client_side_credentials": True,
        "disable_model_info_refresh": True,
        "disable_budget_reservation": True,
        "disable_responses_id_security": True,  # its ids would die with the child's key; the gateway opens them
        "cancel_on_disconnect": True,
    },
}
FLUSH_TIMEOUT_S = 5.0
SHUTDOWN_TIMEOUT_S = 30


def main() -> int:
    """Serve until SIGTERM or SIGINT; 2 if a variable of `environment` is missing."""
    try:
        url, key, evidence_dir = environment.enter(os.environ)
    except KeyError as missing:
        print(f"litellm: {missing} is not set; this process is started by 'run proxy' or 'run all'.", file=sys.stderr)
        return 2
    warnings.simplefilter("ignore")
    for number in (signal.SIGTERM, signal.SIGINT):  # uvicorn raises the signal again after its shutdown
        signal.signal(number, lambda *_: sys.exit(0))
    try:
        _run(url, key, evidence_dir)
    except SystemExit as end:
        # Taking 4,000 modules down in order would last 2 s.
        sys.stderr.flush()
        os._exit(end.code if isinstance(end.code, int) else 1)
    return 0


def _run(url: str, key: str, evidence_dir: Path) -> None:
    with contextlib.ExitStack() as stack:
        # LiteLLM prints banners and, on some paths, requests.
        stack.enter_context(contextlib.redirect_stdout(stack.enter_context(Path(os.devnull).open("w"))))
        private = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tt-litellm-")))
        file = private / "config.yaml"
        file.write_text(json.dumps(CONFIGURATION))  # JSON is YAML
        os.environ["CONFIG_FILE_PATH"] = str(file)
        _serve(_application(key, evidence_dir), url)


def _application(key: str, evidence_dir: Path) -> App:
    """LiteLLM's app with our callback, our lifespan and our guard; the imports take seconds, hence here."""
    stand_ins.install()
    import litellm
    from litellm.litellm_core_utils.logging_worker import GLOBAL_LOGGING_WORKER
    from litellm.proxy import proxy_server

    from token_tracker.proxy.litellm.callback import EvidenceCallback

    quiet.quieten()
    _never_retry()
    witness.watch()
    litellm.suppress_debug_info = True
    callback = EvidenceCallback(evidence_dir)
    litellm.callbacks.append(callback)

    async def last_words() -> None:
        # Uvicorn re-raises the signal after its shutdown, so LiteLLM's own flush at exit never runs.
        await GLOBAL_LOGGING_WORKER.flush()
        await callback.close()

    app = proxy_server.app
    app.router.lifespan_context = _lifespan(app.router.lifespan_context, last_words, proxy_server)
    return guarded(app, key)


def _never_retry() -> None:
    """LiteLLM's image route builds the OpenAI client with two retries whatever `max_retries` says, and each would be
    an upstream call that nobody admitted."""
    from openai._models import FinalRequestOptions

    def none(self: FinalRequestOptions, max_retries: int) -> int:
        return 0

    FinalRequestOptions.get_max_retries = none  # type: ignore[method-assign]


def _lifespan(
    inner: Callable[[Any], AbstractAsyncContextManager[Any]], last_words: Callable[[], Any], proxy_server: Any
) -> Callable[[Any], AbstractAsyncContextManager[Any]]:
    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[Any]:
        async with inner(app) as state:
            # LiteLLM starts without a word if it finds no configuration.
            if proxy_server.llm_router is None:
                raise RuntimeError("LiteLLM did not read its configuration")
            yield state
            await asyncio.wait_for(last_words(), FLUSH_TIMEOUT_S)

    return lifespan


def _serve(app: App, url: str) -> None:
    import uvicorn

    address = urlsplit(url)
    uvicorn.run(
        app,
        host=address.hostname or "127.0.0.1",
        port=address.port or 0,
        workers=1,
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=SHUTDOWN_TIMEOUT_S,
    )
