"""The models that the gateway offers, as the configuration says; they are changed there."""

from __future__ import annotations

from token_tracker.api.model_schemas import ModelPage, ModelQuery, model_shown
from token_tracker.api.routing import Call, Route
from token_tracker.database.session import reading
from token_tracker.domain.access import Permission
from token_tracker.services import offered_models


def list_models(call: Call, query: ModelQuery) -> ModelPage:
    with reading(call.engine) as session:
        page = offered_models.list_models(
            session, at=call.at, name=query.name, source=query.source, limit=query.limit, cursor=query.cursor
        )
        return ModelPage([model_shown(model) for model in page.items], page.next_cursor)


ROUTES = (
    Route(
        "GET",
        "/api/models",
        list_models,
        Permission.MODELS_READ,
        "What the gateway offers: deployments, lane, price and health, by name",
        ModelPage,
        query=ModelQuery,
    ),
)
