"""Every bound of the API in one place. Defaults are meant for production; tests lower them to reach them."""

from __future__ import annotations

from dataclasses import dataclass

from chain.types import MESSAGE_BYTES_MAX

BATCH_ITEMS_MAX = 1_000  # a constant, not a setting: the decoder of batches is built for it


@dataclass(frozen=True, slots=True, kw_only=True)
class RpcLimits:
    """Sizes in bytes, times in milliseconds."""

    body_bytes_max: int = MESSAGE_BYTES_MAX
    answer_bytes_max: int = 4 * MESSAGE_BYTES_MAX  # of one HTTP answer; what does not fit is an error of its item
    transactions_max: int = 2_000  # of one send_transactions or POST /transactions
    events_max: int = 10_000  # of one get_events page
    blocks_max: int = 200  # of one get_blocks_since or get_stages
    wait_timeout_ms_max: int = 60_000  # of any wait a caller may ask for
    waits_max: int = 10_000  # requests that wait at one time
    queries_max: int = 64  # contract reads and simulations at one time
    connections_max: int = 1_024
    head_timeout_ms: int = 10_000  # from the first byte awaited to a complete request head
    body_timeout_ms: int = 20_000  # for the whole body
    answer_timeout_ms: int = 30_000  # for the client to take a long answer
    linger_ms: int = 1_000  # reading on after a refusal, so that the client gets to see it
    idle_timeout_ms: int = 75_000  # between two requests of a connection
