"""The demonstration: real data through both contract suites, with every expected answer known beforehand.

`workload` has the shapes, `credit_flow` and `income_flow` make the phases; none of them touches the network.
"""

from chain.cli.demo.credit_flow import credit_phases, load_german_credit
from chain.cli.demo.income_flow import income_phases, load_census_income
from chain.cli.demo.workload import Parties, Phase, PlannedCall, subject_secret

__all__ = [
    "Parties", "Phase", "PlannedCall", "credit_phases", "income_phases", "load_census_income", "load_german_credit",
    "subject_secret",
]  # fmt: skip
