"""How the recorder tells Redis what the ledger holds."""

from __future__ import annotations

from token_tracker.proxy.gate.link import NAMESPACE, Link, RedisAddress, closed, enter
from token_tracker.proxy.gate.redis_shapes import books_shape, decode
from token_tracker.proxy.gate.store import SILENCE_S, Books

CONNECT_S = 1.0
AT_ONCE = 500


class RedisBooks:
    """One user at a time. `namespace`: as the gateways' `RedisStore`."""

    def __init__(self, url: str, *, namespace: str = NAMESPACE, silence_s: float = SILENCE_S) -> None:
        self._silence_s = silence_s
        self._address = RedisAddress.parse(url)
        self._key = b"{%b}:g" % namespace.encode()
        self._link: Link | None = None
        self._generation = ""

    async def send(self, books: Books, is_complete: bool) -> bool:
        """`is_complete`: the bases are all there are, and dead workers' journals are booked. False: the server has lost
        its state (or was never told), so all must be sent: again with `is_complete`. Raises StoreUnavailable."""
        if self._link is None or not self._link.is_open:
            session = await enter(self._address, self._key, CONNECT_S)
            self._link = session.link
            if session.generation != self._generation:
                self._generation = session.generation
                if not is_complete:
                    return False
        if (
            is_complete
        ):  # so many at once would keep all others waiting; too much is counted meanwhile, never too little
            names = list(books.bases)
            for at in range(0, len(names), AT_ONCE):
                part = Books({name: books.bases[name] for name in names[at : at + AT_ONCE]})
                if not await self._send(part, False):
                    return False
            books = Books({}, books.positions, books.ready, books.left)
        return await self._send(books, is_complete)

    async def _send(self, books: Books, is_complete: bool) -> bool:
        assert self._link is not None
        shape = books_shape(books, self._generation, is_complete, self._silence_s)
        answer = decode(await self._link.run(self._key, b"books", shape, CONNECT_S))
        if answer[0] == "lost":
            self._link.close()
            self._link = None
            return False
        return True

    async def close(self) -> None:
        if self._link is not None:
            await closed(self._link)
