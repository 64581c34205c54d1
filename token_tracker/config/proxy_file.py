"""proxy.yaml: its sections, read with everything that is wrong with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path

from token_tracker.config.alerts import read_alerts
from token_tracker.config.entries import Context
from token_tracker.config.expansion import expand, malformed, references
from token_tracker.config.litellm_sections import name_ignored
from token_tracker.config.models import read_models
from token_tracker.config.rates import read_pricing
from token_tracker.config.reports import read_reports
from token_tracker.config.routing import read_routing
from token_tracker.config.rules import read_budget, read_rate_limits
from token_tracker.config.section import Section
from token_tracker.config.upstream import Known
from token_tracker.config.values import (
    AlertSettings,
    BudgetEntry,
    GatewayOptions,
    ModelTable,
    PricingEntry,
    RateLimitEntry,
    ReportEntry,
    Routing,
)
from token_tracker.config.yaml_text import YamlError, load_yaml

SECTIONS = (
    "model_list",
    "litellm_settings",
    "router_settings",
    "general_settings",
    "rate_limits",
    "budget",
    "pricing",
    "gateway",
    "reports",
    "alerts",
)
_NOT_YET = {
    "agents": "is not known yet: a client names its agent with the header x-tt-agent.",
}


@dataclass(slots=True)
class ProxyFile:
    """What proxy.yaml says, and what is to be said about it."""

    models: ModelTable = field(default_factory=lambda: ModelTable({}, {}, {}, {}))
    gateway: GatewayOptions = field(default_factory=GatewayOptions)
    routing: Routing = field(default_factory=Routing)
    pricing: tuple[PricingEntry, ...] = ()
    rate_limits: tuple[RateLimitEntry, ...] = ()
    budgets: tuple[BudgetEntry, ...] = ()
    reports: tuple[ReportEntry, ...] = ()
    alerts: AlertSettings = field(default_factory=AlertSettings)
    warnings: list[str] = field(default_factory=list)
    off: list[tuple[str, str]] = field(default_factory=list)


def read_proxy_file(path: Path, variables: Mapping[str, str], problems: list[str]) -> ProxyFile:
    """Read all of it; `problems` grows by what is wrong, each with the file's name."""
    own: list[str] = []
    try:
        content = load_yaml(path.read_text(encoding="utf-8"))
        result = _read(content, variables, own)
    except FileNotFoundError as error:
        is_ours = error.filename is not None and Path(error.filename) == path
        problems.append(_missing(path) if is_ours else str(error))
        return ProxyFile()
    except OSError as error:
        problems.append(f"{path} cannot be read ({error.strerror}).")
        return ProxyFile()
    except (YamlError, UnicodeDecodeError) as error:
        problems.append(f"{path}: {error if isinstance(error, YamlError) else 'it is not UTF-8'}.")
        return ProxyFile()
    problems.extend(f"{path}: {problem}" for problem in own)
    return result


def _missing(path: Path) -> str:
    return (
        f"The configuration file {path} does not exist: start in Token Tracker's directory, or name your file in "
        "TOKEN_TRACKER_CONFIG."
    )


def _read(content: object, variables: Mapping[str, str], problems: list[str]) -> ProxyFile:
    if content is not None and not isinstance(content, Mapping):
        problems.append("it must hold sections such as 'model_list:'.")
        return ProxyFile()
    top = Section("", _filled(content or {}, variables, problems), problems)
    litellm = {name: top.section(name) for name in ("litellm_settings", "router_settings", "general_settings")}
    gateway = _gateway(top.section("gateway"), litellm)
    context = Context(variables, Known(), gateway)
    entries = top.sections("model_list")
    models = read_models(entries, litellm["router_settings"].section("model_group_alias"), context)
    named = {name for entry in entries if isinstance(name := entry.content.get("model_name"), str)}
    routing = read_routing(litellm["router_settings"], litellm["litellm_settings"], models, named)
    result = ProxyFile(models, gateway, routing, warnings=context.warnings, off=context.off)
    result.pricing = _pricing(top.section("pricing"), context.known)
    result.rate_limits = read_rate_limits(top.sections("rate_limits"))
    result.budgets = read_budget(top.section("budget"))
    result.reports = read_reports(top.sections("reports"))
    result.alerts = read_alerts(top.section("alerts"))
    top.finish(_NOT_YET)
    name_ignored(litellm, result.warnings)
    if not (models.exact or models.wildcards or models.env_offers):
        result.warnings.append("No model is offered: add one to model_list, or set a provider's key.")
    return result


def _filled(
    content: Mapping[object, object], variables: Mapping[str, str], problems: list[str]
) -> dict[object, object]:
    """Variables put in everywhere but in `model_list`, whose entries go off one by one instead."""
    filled: dict[object, object] = {}
    for key, value in content.items():
        if malformed(value):
            problems.append(f"{key} holds a '${{' that is no reference: write ${{NAME}} and nothing else in it.")
        unset = [name for name in references(value) if name not in variables] if key != "model_list" else []
        problems.extend(f"{key} uses {name}, which is not set: set it, or take it out of the file." for name in unset)
        filled[key] = value if key == "model_list" else expand(value, variables)
    return filled


def _gateway(section: Section, litellm: Mapping[str, Section]) -> GatewayOptions:
    """`gateway:`; LiteLLM's time-out for all models stands where ours is not given."""
    default = GatewayOptions()
    numbers = {
        name: section.number(name, above=0)
        for name in (
            "drain_timeout_s",
            "evidence_wait_s",
            "connect_timeout_s",
            "first_byte_timeout_s",
            "idle_timeout_s",
            "client_stall_s",
            "shutdown_s",
        )
    }
    drains = section.whole("drains", least=0)
    timeout = litellm["litellm_settings"].number("request_timeout", above=0)
    timeout = litellm["router_settings"].number("timeout", above=0) or timeout
    if timeout is not None:
        numbers["first_byte_timeout_s"] = numbers["first_byte_timeout_s"] or timeout
        numbers["idle_timeout_s"] = numbers["idle_timeout_s"] or min(timeout, Decimal(default.idle_timeout_s))
    on_disconnect = section.choice("on_disconnect", ("drain", "cancel"), default.on_disconnect)
    retry_ambiguous = section.flag("retry_ambiguous") or False
    section.finish()
    return replace(
        default,
        on_disconnect=on_disconnect or default.on_disconnect,
        drains=default.drains if drains is None else drains,
        retry_ambiguous=retry_ambiguous,
        **{name: float(value) for name, value in numbers.items() if value is not None},
    )


def _pricing(section: Section, known: Known) -> tuple[PricingEntry, ...]:
    return read_pricing(section, known.providers) if section.content else ()
