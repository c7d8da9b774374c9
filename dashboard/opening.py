"""Opening a scenario from outside: it is saved first, so that its address can be shared."""

from costmodels.scenario import Scenario, scenario_hash, scenario_to_table
from dashboard.questions import MOST_ACTIONS
from dashboard.store.scenarios import Saved, Store
from simulator import whatif


def opened(store: Store, scenario: Scenario, name: str) -> Saved:
    """Return a scenario as it is saved, the one of before where it has been saved already."""
    found = store.find(scenario_hash(scenario))
    if found is not None:
        return found
    answer = whatif.estimate(scenario, most_actions=MOST_ACTIONS)
    return store.save_new(scenario_to_table(scenario), answer, name=name, tags="opened")
