"""`python -m riskbeat.serve_worker PLACE`: one of several serve processes (`serve_workers.py`)."""

import os
import sys

from api.metrics import share_metrics
from riskbeat.logs import configure_logs
from riskbeat.serve import run_serve
from riskbeat.serve_place import Place
from riskbeat.settings_load import load_settings


def main(text: str) -> int:
    """Serve in a place until asked to stop; return the exit code."""
    place = Place.decode(text)
    settings = load_settings()
    configure_logs(settings, f"serve-{place.name}")
    for fd in (place.listening_fd, place.says_fd, place.hears_fd):
        os.set_inheritable(fd, False)
    share_metrics(place.name)
    return run_serve(settings, place=place)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
