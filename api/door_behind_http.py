"""One cold request at a time → uvicorn's own protocol, which speaks ASGI with FastAPI behind it."""

from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class Behind(HttpToolsProtocol):
    """uvicorn's protocol on a transport that it shares with the one in front of it.

    It is fed requests that were read in front, whole messages one after the other, and says when
    it has answered each. Idle time and shutdown are the business of the one in front.
    """

    def __init__(self, answered: Callable[[], None], **wiring: Any) -> None:
        """Take whom to tell of each answer, and what uvicorn hands its protocols."""
        super().__init__(**wiring)
        self._answered = answered

    def connection_made(self, transport: Any) -> None:
        """Take the transport, and leave the list of connections to the one in front."""
        super().connection_made(transport)
        self.connections.discard(self)

    def on_response_complete(self) -> None:
        """Tell the one in front, which knows how long a quiet connection stays."""
        super().on_response_complete()
        self._unset_keepalive_if_required()
        self._answered()

    @property
    def answering(self) -> bool:
        """Whether an answer is being made."""
        return self.cycle is not None and not self.cycle.response_complete
