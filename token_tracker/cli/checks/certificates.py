"""The certificates that gateway, API and dashboard are served with: whether they hold, and whose key is beside them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from token_tracker.cli.checks.findings import Finding, Ground, ok, problem, skipped, warning
from token_tracker.cli.shown import counted
from token_tracker.config.values import Tls

_NAME = "tls"
SOON = timedelta(days=21)
_RENEW = "renew it, and restart what is served with it"


def certificates(ground: Ground) -> Iterator[Finding]:
    """Each pair of files once. One that cannot be served with at all is found where the configuration is read, too."""
    settings = ground.settings
    served = (settings.proxy, settings.api, settings.dashboard)
    pairs = dict.fromkeys(address.tls for address in served if address.tls is not None)
    if not pairs:
        yield skipped(_NAME, "no certificate is configured")
    for pair in pairs:
        yield _looked_at(pair, ground)


def _looked_at(pair: Tls, ground: Ground) -> Finding:
    try:
        chain = x509.load_pem_x509_certificates(pair.certificate.read_bytes())
        key = serialization.load_pem_private_key(pair.key.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:  # a TypeError: the key is encrypted
        remedy = "both must be PEM files that this account may read, the key without a password"
        return problem(_NAME, f"{pair.certificate} with {pair.key} cannot be read: {error}", remedy)
    if chain[0].public_key() != key.public_key():
        remedy = "give the key that the certificate was made for, and the certificate before its chain"
        return problem(_NAME, f"{pair.key} is not the key of {pair.certificate}", remedy)
    begins, ends = max(each.not_valid_before_utc for each in chain), min(each.not_valid_after_utc for each in chain)
    said = f"{pair.certificate} holds until {ends:%Y-%m-%d %H:%M} UTC"
    if ground.at < begins:
        return problem(_NAME, f"{pair.certificate} holds only from {begins:%Y-%m-%d %H:%M} UTC on", "see the clock")
    if ends <= ground.at:
        return problem(_NAME, f"{pair.certificate} ended on {ends:%Y-%m-%d %H:%M} UTC", _RENEW)
    if ends - ground.at < SOON:
        return warning(_NAME, f"{said}, {counted((ends - ground.at).days, 'day')} from now", _RENEW)
    return ok(_NAME, said)
