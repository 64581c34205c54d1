"""What is refused of calls for stored objects; nothing was forwarded then."""

from __future__ import annotations

from collections.abc import Sequence

from token_tracker.domain.errors import Refusal


def object_not_found(kind: str, identity: str, param: str = "id") -> Refusal:
    """One text for what nobody has and what others have, so that nobody can probe."""
    return Refusal(
        404,
        "object_not_found",
        f"No {kind} with id '{identity[:256]}' was found. It was not made through this gateway by your team, "
        "or it is deleted.",
        param=param,
    )


def objects_unavailable(retry_after_s: int = 2) -> Refusal:
    return Refusal(
        503,
        "objects_unavailable",
        "The gateway does not know yet who owns what is stored at providers: the recorder has not told it (it needs "
        "the database for the first time). Nothing was forwarded; try again shortly.",
        retry_after_s,
    )


def deployment_gone(kind: str, identity: str, deployment: str) -> Refusal:
    return Refusal(
        409,
        "deployment_gone",
        f"The {kind} '{identity[:256]}' lies in the account of '{deployment}', which is no longer configured here. It "
        "was left as it is; an admin can put the entry back into proxy.yaml.",
    )


def other_account(identity: str, model: str) -> Refusal:
    return Refusal(
        400,
        "invalid_request_error",
        f"The response '{identity[:256]}' lies in another account than those that serve '{model[:256]}'. Nothing was "
        "forwarded; use a model of the deployment that made it.",
        param="previous_response_id",
    )


def ambiguous_account(names: Sequence[str]) -> Refusal:
    if not names:
        return Refusal(
            400,
            "invalid_request_error",
            "No configured upstream that this key may use is known to take files. Nothing was forwarded; name a model "
            "of the upstream in the header 'x-tt-model' if there is one all the same.",
        )
    listed = ", ".join(f"'{name}'" for name in names[:10])
    return Refusal(
        400,
        "invalid_request_error",
        "Several accounts could keep this. Nothing was forwarded; name a model of the one that shall in the header "
        f"'x-tt-model' (or as ?x-tt-model=): {listed}.",
    )


def batches_need_all_models() -> Refusal:
    return Refusal(
        403,
        "model_not_allowed",
        "The lines of a batch may name any model, so only a key that may use all of them ('*') can make one.",
    )
