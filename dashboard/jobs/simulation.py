"""The program that plays a large step: ``python -m dashboard.jobs.simulation SCENARIO RESULT``."""

import sys
from pathlib import Path

import msgspec

from costmodels.errors import ShardwiseError
from costmodels.scenario import scenario_from_table
from dashboard.figures.played import packed, played_of
from simulator.whatif import simulate


def _tell(done: int, total: int, message: str = "") -> None:
    message = message or ("actions are played" if done < total else "spans are put in order")
    line = {"done": done, "total": total, "message": message}
    sys.stdout.buffer.write(msgspec.json.encode(line) + b"\n")
    sys.stdout.buffer.flush()


def main(scenario: str, result: str) -> None:
    """Play the step of a scenario in a file, and write what is shown of it to another."""
    _tell(0, 0, "the order of actions is made")
    described = scenario_from_table(msgspec.json.decode(Path(scenario).read_bytes()))
    simulation = simulate(described, report=_tell)
    count = len(simulation.trace.spans)
    _tell(count, count, "drawings are prepared")
    Path(result).write_bytes(packed(played_of(simulation)))


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except ShardwiseError as error:
        sys.exit(f"error: {error}")
