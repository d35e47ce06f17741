"""What a benchmark sends: each workload deploys what it needs and makes its transactions from a seed."""

from bench.workloads.smallbank import SmallBank
from bench.workloads.workload import Call, Workload

WORKLOADS: dict[str, type[Workload]] = {
    "send_payment": SmallBank,
}

__all__ = ["WORKLOADS", "Call", "SmallBank", "Workload"]
