"""What a benchmark sends: each workload deploys what it needs and makes its transactions from a seed."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from bench.workloads.credit import credit_order
from bench.workloads.income import income_verification
from bench.workloads.small import cpu_heavy, do_nothing, token_transfer
from bench.workloads.smallbank import send_payment, smallbank, smallbank_zipf
from bench.workloads.workload import Call, Workload, account
from bench.workloads.ycsb import ycsb

WORKLOADS: Final[Mapping[str, Callable[[], Workload]]] = MappingProxyType(
    {
        "send_payment": send_payment,
        "smallbank": smallbank,
        "smallbank_zipf": smallbank_zipf,
        "token_transfer": token_transfer,
        "cpu_heavy": cpu_heavy,
        "do_nothing": do_nothing,
        "credit_order": credit_order,
        "income_verification": income_verification,
        "ycsb": ycsb,
    }
)

__all__ = ["WORKLOADS", "Call", "Workload", "account"]
