"""Where alerts go: channels of Apprise, each named by an address that holds secrets.

No address, and nothing that Apprise says about one, ever leaves this module.
"""

import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from enrich_pipeline.domain.alert import Level

_SILENT = logging.CRITICAL + 1


@dataclass(frozen=True, slots=True)
class Receipt:
    """Whether a channel took a message; `channel` is its number and kind, as in `2 (slack)`."""

    channel: str
    is_sent: bool


@dataclass(frozen=True, slots=True)
class Message:
    """`level` None: nothing is wrong any more."""

    title: str
    body: str
    level: Level | None


def send(urls: Sequence[str], message: Message) -> list[Receipt]:
    """Send a message to every channel, one after the other; never raises."""
    return [
        Receipt(f"{number} ({url.partition('://')[0]})", _send(url, message))
        for number, url in enumerate(urls, 1)
    ]


def _send(url: str, message: Message) -> bool:
    # Takes seconds to import, which nobody waits for who has nothing to send.
    import apprise

    # These log hosts and parts of addresses.
    logging.getLogger("apprise").setLevel(_SILENT)
    logging.getLogger("urllib3").setLevel(logging.WARNING)
    kinds: dict[Level | None, Any] = {
        Level.CRITICAL: apprise.NotifyType.FAILURE,
        Level.WARNING: apprise.NotifyType.WARNING,
        None: apprise.NotifyType.SUCCESS,
    }
    asset = apprise.AppriseAsset(
        app_id="enrich_pipeline", app_desc="enrich_pipeline", async_mode=False
    )
    try:
        # With the first address it loads all services, some of which import what is deprecated.
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
            service = apprise.Apprise.instantiate(url, asset=asset)
        return service is not None and bool(
            apprise.Apprise(service, asset=asset).notify(
                title=message.title,
                body=message.body,
                notify_type=kinds[message.level],
                body_format=apprise.NotifyFormat.TEXT,
            )
        )
    except Exception:  # noqa: BLE001  (its text may quote the address)
        return False
