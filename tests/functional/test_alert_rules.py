"""A whole installation: a rule made over the API sees and is heard, and what nobody hears is said at start."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.functional.installation import DEMO_MODEL, Installation, wait_until
from tests.notifications.servers import Mailbox, mail_server

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def test_a_rule_made_over_the_api_sees_a_key_that_expires_and_is_heard(tmp_path: Path) -> None:
    mailbox = Mailbox()
    config = {"model_list": [DEMO_MODEL], "alerts": {"channels": {"oncall": {"email": "oncall@example.com"}}}}
    with mail_server(mailbox) as port:
        smtp = {"SMTP_SERVER": "127.0.0.1", "SMTP_PORT": str(port), "SMTP_FROM_ADDRESS": "tt@example.com"}
        with Installation(tmp_path, config, **smtp, TOKEN_TRACKER_SMTP_SECURITY="none") as installation:
            installation.start()
            wait_until(lambda: "set NOTIFICATION_EMAIL" in installation.printed, 20, "the warning at start")
            admin = installation.login()
            soon = (datetime.now(UTC) + timedelta(hours=20)).isoformat()
            key = {"name": "build", "expires_at": soon}
            assert installation.call("POST", f"{installation.api_url}/api/keys", key, admin)[0] == 201
            rule = {"name": "Keys", "kind": "key.expiring", "channels": ["oncall"], "options": {"least_days": 0}}
            status, _, body = installation.call("POST", f"{installation.api_url}/api/alerts/rules", rule, admin)
            assert (status, json.loads(body)["warnings"]) == (201, [])
            wait_until(lambda: mailbox.taken, 30, "the mail")
            _, _, body = installation.call("GET", f"{installation.api_url}/api/alerts/firing", headers=admin)
    (mail,) = mailbox.taken
    assert (mail["X-TT-Event"], mail["To"]) == ("key.expiring", "oncall@example.com")
    assert (mail["X-TT-Threshold"], "Key build expires in 20 hours" in mail["Subject"]) == ("24", True)
    assert [(each["rule"], each["threshold"]) for each in json.loads(body)["items"]] == [("Keys", 24.0)]
