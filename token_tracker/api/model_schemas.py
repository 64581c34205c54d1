"""What the API answers about the models that the gateway offers."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from token_tracker.api.schemas import PageQuery
from token_tracker.domain.pricing import CostSource
from token_tracker.services import offered_models

HealthName = Literal["ok", "unknown", "degraded", "failing", "unavailable", "off"]


class ModelQuery(PageQuery, frozen=True):
    name: Annotated[str, Meta(min_length=1, max_length=255)] | None = None
    source: Literal["config", "environment"] | None = None


class ModelPrice(Struct, frozen=True):
    """`source`: entry, override, pricing or file, whose `version` and `rates` (USD per unit) they are; else 'local'
    (costs nothing), 'unpriced', or 'by_model' (a wildcard: each of its models has its own)."""

    source: Literal["entry", "override", "pricing", "file", "local", "unpriced", "by_model"]
    version: str
    rates: dict[str, str]


class DeploymentShown(Struct, frozen=True):
    """One upstream behind a name. `lane`: of calls in `formats`, which it speaks itself; others are translated by
    LiteLLM. `health`: from what the books say of attempts at this provider's model since the last hour began."""

    provider: str
    model: str
    lane: Literal["direct", "litellm"]
    dialects: list[str]
    formats: list[str]
    credential: str
    weight: float
    order: int | None
    price: ModelPrice
    health: HealthName
    reason: str


class ModelShown(Struct, frozen=True):
    """A name that clients may ask for; with '*' at its end, every name that begins so. `health`: the best of its
    deployments. `reasons`: why entries of this name are switched off."""

    name: str
    source: Literal["config", "environment"]
    alias_of: str | None
    deployments: list[DeploymentShown]
    health: HealthName
    reasons: list[str]


class ModelPage(Struct, frozen=True):
    items: list[ModelShown]
    next_cursor: str | None


def model_shown(model: offered_models.Model) -> ModelShown:
    return ModelShown(
        model.name,
        model.source,  # type: ignore[arg-type]  # a column's text
        model.alias_of,
        [_deployment_shown(each) for each in model.deployments],
        model.health.value,
        model.reasons,
    )


def _deployment_shown(deployment: offered_models.Deployment) -> DeploymentShown:
    document = deployment.document
    return DeploymentShown(
        provider=document["provider"],
        model=document["model"],
        lane=deployment.lane,  # type: ignore[arg-type]  # of the configuration
        dialects=deployment.dialects,
        formats=[str(each) for each in deployment.formats],
        credential=document.get("credential", ""),
        weight=document.get("weight", 1),
        order=document.get("order"),
        price=_price_shown(deployment),
        health=deployment.health.value,
        reason=deployment.reason,
    )


def _price_shown(deployment: offered_models.Deployment) -> ModelPrice:
    choice = deployment.price
    if choice is None:
        return ModelPrice("by_model", "", {})
    if (price := choice.price) is not None:
        rates = {name: format(rate, "f") for name, rate in price.rates.items()}
        return ModelPrice(price.source, price.version, rates)  # type: ignore[arg-type]  # see `Price`
    return ModelPrice("local" if choice.cost_source is CostSource.LOCAL else "unpriced", "", {})
