"""Rewrite every golden answer: ``python -m tests.golden.regenerate``.

The answers are what this project said, not what is true: they show what a change moves. State in
the commit why they moved.
"""

import json
from pathlib import Path
from typing import Any

import msgspec

from costmodels.scenario import scenario_from_toml
from simulator.whatif import estimate

FOLDER = Path(__file__).parent
SCENARIOS = tuple(sorted((FOLDER / "scenarios").glob("*.toml")))

_ECHOED = ("scenario", "shardwise_version")


def answer_file(scenario: Path) -> Path:
    """Return where the answer to a scenario file is kept."""
    return FOLDER / "answers" / f"{scenario.stem}.json"


def answer_table(scenario: Path) -> dict[str, Any]:
    """Return the answer to a scenario file, without what it repeats of it."""
    answer = estimate(scenario_from_toml(scenario.read_text(encoding="utf-8")))
    table: dict[str, Any] = json.loads(msgspec.json.encode(answer))
    return {name: value for name, value in table.items() if name not in _ECHOED}


def main() -> None:
    """Write the answers, and remove those whose scenario is gone."""
    kept = {answer_file(scenario) for scenario in SCENARIOS}
    for stale in set((FOLDER / "answers").glob("*.json")) - kept:
        stale.unlink()
    for scenario in SCENARIOS:
        text = json.dumps(answer_table(scenario), indent=1, ensure_ascii=False)
        answer_file(scenario).write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
