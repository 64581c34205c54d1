"""Settings from the environment and proxy.yaml: read once, frozen, all problems reported together."""

from token_tracker.config.values import (
    Address,
    AlertEntry,
    BudgetEntry,
    Configuration,
    Deployment,
    GatewayOptions,
    ModelTable,
    PricingEntry,
    RateLimitEntry,
    Secret,
    Settings,
)

__all__ = [
    "Address",
    "AlertEntry",
    "BudgetEntry",
    "Configuration",
    "Deployment",
    "GatewayOptions",
    "ModelTable",
    "PricingEntry",
    "RateLimitEntry",
    "Secret",
    "Settings",
]
