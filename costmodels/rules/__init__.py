"""What makes a plan valid: boolean column functions beside their sentences, by subject.

A scenario refuses what breaks a rule; a search masks it. Sizes that divide nothing evenly are
refused rather than rounded. `checking` holds the order in which rules are checked; what no column
holds, such as lists, each subject checks in a function of its own.
"""

from costmodels.rules.checking import RULES, check, valid
from costmodels.rules.model import check_model

__all__ = ["RULES", "check", "check_model", "valid"]
