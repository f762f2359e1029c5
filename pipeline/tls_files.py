"""certificate files → a server's TLS that follows them: a renewed one needs no restart."""

import ssl
from dataclasses import dataclass
from pathlib import Path

import structlog

log = structlog.get_logger("tls")

Stamp = tuple[tuple[int, int, int], ...]


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Where a server's certificate and private key lie.

    Attributes:
        certfile: PEM of the certificate, and of those that lead to its authority.
        keyfile: PEM of its private key; None: it stands in `certfile`.
    """

    certfile: Path
    keyfile: Path | None = None

    def context(self) -> ssl.SSLContext:
        """Return a server's context with what the files hold now.

        Raises:
            OSError: They cannot be read, hold no certificate, or not its key.
        """
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        made.load_cert_chain(self.certfile, self.keyfile)
        return made

    def stamp(self) -> Stamp:
        """Return what changes when a file does."""
        paths = [self.certfile] if self.keyfile is None else [self.certfile, self.keyfile]
        seen = [path.stat() for path in paths]
        return tuple((one.st_ino, one.st_size, one.st_mtime_ns) for one in seen)

    def follow(self, context: ssl.SSLContext) -> None:
        """Let every new connection of a server's context look whether the files have changed."""
        following = _Following(self)
        context.sni_callback = following.meet


class _Following:
    """Holds the newest context that could be made of the files."""

    def __init__(self, files: TlsFiles) -> None:
        """Take files that could just be read."""
        self._files = files
        self._seen = files.stamp()
        self._newest: ssl.SSLContext | None = None

    def meet(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        """Give a connection that begins the newest certificate; a broken file changes nothing."""
        try:
            stamp = self._files.stamp()
            if stamp != self._seen:
                self._seen = stamp
                self._newest = self._files.context()
                log.info("certificate.renewed", path=str(self._files.certfile))
        except (
            OSError
        ) as error:  # half of a pair is there, or none: the next connection looks again
            log.warning("certificate.refused", path=str(self._files.certfile), error=str(error))
        if self._newest is not None:
            connection.context = self._newest
