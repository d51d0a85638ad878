"""Notices when someone else changes our nf_tables tables (a flush, a rule edited by hand), and repairs them."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from corten.base.errors import Error
from corten.linux.nftables import Monitor

if TYPE_CHECKING:
    from corten.engine.networks import Networks

SETTLE_S = 0.05  # a flush is often followed by a new rule set at once: look when it is through
REST_S = 2.0  # between two repairs: whoever fights us shall not take the processor

log = logging.getLogger("corten.network")


class Watch:
    """Listens from `start` to `close`; needs a running loop."""

    def __init__(self, networks: Networks) -> None:
        self._networks = networks
        self._monitor: Monitor | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pending: asyncio.TimerHandle | None = None
        self._rested = 0.0  # when the next repair may be
        self.repairs = 0

    def start(self) -> None:
        """Begin to listen; a kernel without nf_tables is found out by the first change instead."""
        try:
            self._monitor = Monitor(self._networks.firewall.table)
        except OSError as error:
            log.warning("changes to the firewall will not be noticed: %s", error)
            return
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._monitor.fileno(), self._readable)

    def close(self) -> None:
        """Stop listening."""
        if self._pending:
            self._pending.cancel()
            self._pending = None
        if self._monitor and self._loop:
            if not self._loop.is_closed():
                self._loop.remove_reader(self._monitor.fileno())
            self._monitor.close()
            self._monitor = None

    def _readable(self) -> None:
        if not self._monitor or not self._loop:
            return
        if self._monitor.foreign(self._networks.firewall.socket.port) and not self._pending:
            delay = max(SETTLE_S, self._rested - self._loop.time())
            self._pending = self._loop.call_later(delay, self._repair)

    def _repair(self) -> None:
        self._pending = None
        try:
            if not self._networks.firewall.repair():
                return
        except (Error, OSError) as error:
            log.warning("the firewall was changed and cannot be repaired: %s", error)
            return
        self.repairs += 1
        log.warning("someone changed the nf_tables table %s: it is repaired", self._networks.firewall.table)
        if self._loop:
            self._rested = self._loop.time() + REST_S
