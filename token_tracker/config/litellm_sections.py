"""LiteLLM's own sections of proxy.yaml: what is honoured of them, and what to use instead of the rest."""

from __future__ import annotations

from collections.abc import Mapping

from token_tracker.config.section import Section

_RETRIES = "use num_retries"
_FALLBACKS = "a request that its upstream refuses is not sent to another; fallbacks are for 429, 5xx and no connection"
_CALLBACKS = "the gateway keeps its own books; see GET /api/token-usage"
_CACHE = "answers are not cached"
_REDIS = "nothing is shared through Redis yet"
_BUDGET = "use budget"
_NO_COUNTERPART = "it has no counterpart here"
# What to use instead, by key, alike in all three sections.
INSTEAD: Mapping[str, str] = {
    "max_retries": _RETRIES,
    "retry_policy": _RETRIES,
    "model_group_retry_policy": _RETRIES,
    "context_window_fallbacks": _FALLBACKS,
    "content_policy_fallbacks": _FALLBACKS,
    "allowed_fails_policy": "use allowed_fails",
    "max_fallbacks": "at most 5 fallbacks are tried",
    "routing_strategy": "deployments of one name are chosen by order, then by weight",
    "model_alias_map": "use router_settings.model_group_alias",
    "callbacks": _CALLBACKS,
    "success_callback": _CALLBACKS,
    "failure_callback": _CALLBACKS,
    "cache": _CACHE,
    "cache_params": _CACHE,
    "redis_host": _REDIS,
    "redis_port": _REDIS,
    "redis_password": _REDIS,
    "redis_url": _REDIS,
    "drop_params": "parameters that a provider does not know are always dropped on the translated lane",
    "max_budget": _BUDGET,
    "budget_duration": _BUDGET,
    "max_parallel_requests": "use rate_limits with 'unit: concurrent'",
    "global_max_parallel_requests": "use rate_limits with 'unit: concurrent'",
    "stream_timeout": "use gateway.first_byte_timeout_s and gateway.idle_timeout_s",
    "max_request_size_mb": "set TOKEN_TRACKER_MAX_BODY_SIZE",
    "master_key": "make virtual keys with POST /api/keys",
    "database_url": "set DATABASE_URL",
    "proxy_batch_write_at": "the recorder decides when rows are written",
    "background_health_checks": "upstreams are not called for their health, which would cost tokens",
    "turn_off_message_logging": "texts are never stored",
    "set_verbose": "LiteLLM's own log is off",
    "json_logs": "LiteLLM's own log is off",
}
HONOURED: Mapping[str, tuple[str, ...]] = {
    "litellm_settings": ("request_timeout", "num_retries", "allowed_fails", "fallbacks", "default_fallbacks"),
    "router_settings": (
        "timeout",
        "model_group_alias",
        "num_retries",
        "retry_after",
        "fallbacks",
        "default_fallbacks",
        "allowed_fails",
        "cooldown_time",
        "disable_cooldowns",
    ),
    "general_settings": (),
}


def name_ignored(sections: Mapping[str, Section], warnings: list[str]) -> None:
    """One warning for each setting of LiteLLM's that has no effect, with what to use instead."""
    for where, section in sections.items():
        for key in section.names():
            if key not in HONOURED[where]:
                warnings.append(f"{section.place(key)} is ignored: {INSTEAD.get(key, _NO_COUNTERPART)}.")
