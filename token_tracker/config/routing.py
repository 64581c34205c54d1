"""What LiteLLM's own sections say about failures: retries, fallbacks and cooldowns."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from token_tracker.config.problems import nearest
from token_tracker.config.section import Section
from token_tracker.config.values import ModelTable, Routing

DEFAULT = "*"


def read_routing(router: Section, general: Section, models: ModelTable, named: Collection[str]) -> Routing:
    """`router` is `router_settings`, which wins over `general`, `litellm_settings`; `named` are the names of
    all entries of `model_list`, also of those that are off."""
    retries = [part.whole("num_retries", least=0) for part in (router, general)]
    fails = [part.whole("allowed_fails", least=0) for part in (router, general)]
    cooldown_time = router.number("cooldown_time", least=0)
    default = Routing()
    return Routing(
        num_retries=next((each for each in retries if each is not None), None),
        retry_after_s=float(router.number("retry_after", least=0) or default.retry_after_s),
        fallbacks=_fallbacks(router, general, _Names(models, named)),
        allowed_fails=next((each for each in fails if each is not None), None),
        cooldown_time_s=default.cooldown_time_s if cooldown_time is None else float(cooldown_time),
        has_cooldowns=not router.flag("disable_cooldowns"),
    )


class _Names:
    """Which names are offered, and which would be but are off."""

    def __init__(self, models: ModelTable, named: Collection[str]) -> None:
        self.offered = {*models.exact, *models.aliases, *models.env_offers}
        self._prefixes = tuple(models.wildcards)
        self._named = set(named)

    def is_offered(self, name: str) -> bool:
        return name in self.offered or name.startswith(self._prefixes)

    def is_known(self, name: str) -> bool:
        return name == DEFAULT or name in self._named or self.is_offered(name)


def _fallbacks(router: Section, general: Section, names: _Names) -> Mapping[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for part in (general, router):  # the later one wins
        for pair in part.sections("fallbacks"):
            for name in pair.names():
                if not names.is_known(name):
                    pair.complain(name, f"is a model that nothing offers.{nearest(name, names.offered)}")
                found[name] = _listed(pair, name, names)
        if part.get("default_fallbacks") is not None:
            found[DEFAULT] = _listed(part, "default_fallbacks", names)
    return found


def _listed(section: Section, key: str, names: _Names) -> tuple[str, ...]:
    """The offered names of a list; those that are off are named elsewhere."""
    listed = section.get(key)
    if not isinstance(listed, list) or not all(isinstance(each, str) for each in listed):
        section.complain(key, "must be a list of model names.")
        return ()
    for each in listed:
        if not names.is_known(each) or each == DEFAULT:
            section.complain(key, f"names '{each}', which nothing offers.{nearest(each, names.offered)}")
    return tuple(each for each in listed if names.is_offered(each))
