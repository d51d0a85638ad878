"""What labels of a container ask of this engine beyond docker; to other engines they are labels. Pure.

    corten.max-run-time=90s        stopped once a run has lasted as long, and not started again by its policy
    corten.on-unhealthy=restart    restarted when its health check calls it unhealthy

corten.engine.watchdog does it.
"""

from corten.base.errors import InvalidArgument
from corten.base.units import parse_duration
from corten.engine.records import Config

MAX_RUN_TIME = "corten.max-run-time"
ON_UNHEALTHY = "corten.on-unhealthy"


def max_run_time_s(config: Config) -> float:
    """Seconds a run may last, 0 for no bound. Raises InvalidArgument."""
    text = (config.labels or {}).get(MAX_RUN_TIME, "")
    if not text:
        return 0.0
    try:
        seconds = parse_duration(text)
    except InvalidArgument as error:
        raise InvalidArgument(f"label {MAX_RUN_TIME}: {error}") from None
    if seconds <= 0:
        raise InvalidArgument(f"label {MAX_RUN_TIME}: {text}: must be positive")
    return seconds


def check(config: Config) -> None:
    """Raises InvalidArgument for what these labels cannot mean."""
    max_run_time_s(config)
    text = (config.labels or {}).get(ON_UNHEALTHY, "none")
    if text not in ("none", "restart"):
        raise InvalidArgument(f"label {ON_UNHEALTHY}: {text}: one of none, restart")


def restarts_unhealthy(config: Config) -> bool:
    """Whether it is restarted when it is unhealthy."""
    return (config.labels or {}).get(ON_UNHEALTHY) == "restart"
