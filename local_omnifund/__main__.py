"""`python -m local_omnifund`: serve Local OmniFund on this machine only."""

import logging
import sys

from werkzeug.serving import WSGIRequestHandler, make_server

from local_omnifund import create_app
from local_omnifund.merchants import MERCHANTS
from local_omnifund.settings import Settings, SettingsError

log = logging.getLogger("local_omnifund")


class QuietRequestHandler(WSGIRequestHandler):
    """Logs no requests: a query may contain a code, a token, or a client secret."""

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        pass

    def log_error(self, format: str, *args: object) -> None:
        """Log nothing: it quotes the request line that cannot be read."""


def main() -> None:
    """Serve until interrupted; exit with one line if it cannot start."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        settings = Settings.from_environment()
    except SettingsError as error:
        sys.exit(str(error))
    app = create_app(settings)
    try:
        server = make_server(
            "127.0.0.1", settings.port, app, threaded=True, request_handler=QuietRequestHandler
        )
    except SystemExit:
        # Werkzeug has printed a line about the port; this one names the variable.
        sys.exit(f"Port {settings.port} is in use. Set LOCAL_OMNIFUND_PORT to another port.")
    log.info(
        "Local OmniFund listens on http://localhost:%s. The demo merchant is %r.",
        settings.port,
        MERCHANTS[0].username,
    )
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        server.server_close()


if __name__ == "__main__":
    main()
