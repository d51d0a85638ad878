"""Whether and when a container that ended is started again. Pure: times come in, decisions come out."""

from corten.engine.records import RestartPolicy

FIRST_DELAY_S = 0.1
LONGEST_DELAY_S = 60.0
STEADY_S = 10.0  # a run this long makes the next delay short again


class Backoff:
    """The delay before the next start: doubled each time, from 100 ms to a minute."""

    __slots__ = ("_delay_s",)

    def __init__(self) -> None:
        self._delay_s = 0.0

    def next_delay(self, ran_s: float) -> float:
        """Seconds to wait after a run of `ran_s` seconds."""
        self._delay_s = FIRST_DELAY_S if ran_s >= STEADY_S or not self._delay_s else min(
            self._delay_s * 2, LONGEST_DELAY_S)
        return self._delay_s

    def reset(self) -> None:
        """A start by hand begins anew."""
        self._delay_s = 0.0


def restarts(policy: RestartPolicy, exit_code: int, restart_count: int, stopped_by_hand: bool) -> bool:
    """Whether a container that has just ended is started again."""
    if stopped_by_hand:
        return False
    if policy.name in ("always", "unless-stopped"):
        return True
    if policy.name == "on-failure" and exit_code != 0:
        return policy.maximum_retry_count == 0 or restart_count < policy.maximum_retry_count
    return False


def starts_with_daemon(policy: RestartPolicy, was_running: bool, stopped_by_hand: bool, exit_code: int) -> bool:
    """Whether a container that does not run is started when the daemon starts."""
    if policy.name == "always":
        return was_running or stopped_by_hand
    if policy.name == "unless-stopped":
        return was_running and not stopped_by_hand
    return policy.name == "on-failure" and was_running and not stopped_by_hand and exit_code != 0
