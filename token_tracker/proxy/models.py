"""What is known of deployments' models: how much goes in and comes out, by their entries, else by the price file."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from token_tracker.config.price_file import load_limits
from token_tracker.config.values import Deployment
from token_tracker.domain.bounds import Facts
from token_tracker.proxy.upstreams import Target

log = logging.getLogger("token_tracker.gateway")
Limits = Mapping[str, tuple[int | None, int | None]]


class ModelFacts:
    """`limits`: the price file's, by model; it lies in an installed package, so no database is asked."""

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits

    def of(self, target: Target) -> Facts:
        if target.facts is None:
            target.facts = self._find(target.deployment)
        return target.facts

    def _find(self, deployment: Deployment) -> Facts:
        own = Facts(deployment.max_input_tokens, deployment.max_output_tokens)
        if own.context_tokens is not None and own.output_tokens is not None:
            return own
        listed = self._listed(deployment.price_names)
        return Facts(
            listed.context_tokens if own.context_tokens is None else own.context_tokens,
            listed.output_tokens if own.output_tokens is None else own.output_tokens,
        )

    def _listed(self, names: tuple[str, ...]) -> Facts:
        if self._limits is None:
            self._limits = _read()
        return next((Facts(*self._limits[name]) for name in names if name in self._limits), Facts())


def _read() -> Limits:
    try:
        return load_limits()
    except (OSError, ValueError) as error:
        log.warning("the price file cannot be read, so no model's own maximum is known: %s", error)
        return {}
