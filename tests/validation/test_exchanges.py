"""Expert and context parallelism exchange what their definitions say; no closed form has them yet."""

from functools import partial

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: the validation extra")

from validation.torch_programs.exchanges import exchange_tokens, pass_keys_and_values  # noqa: E402
from validation.torch_programs.processes import run  # noqa: E402
from validation.torch_programs.records import ALL_TO_ALL, BACKWARD, FORWARD, SEND  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.slow]


@pytest.mark.parametrize(("ranks", "experts", "chosen"), [(2, 4, 1), (2, 4, 2), (4, 8, 3)])
def test_tokens_go_to_their_experts_and_back(ranks: int, experts: int, chosen: int) -> None:
    tokens, hidden_size = 16, 6
    payload = tokens * chosen * hidden_size * 4
    program = partial(exchange_tokens, tokens, hidden_size, experts, chosen)
    for seen in run(program, ranks):
        assert seen.error < 1e-3
        for label in (FORWARD, BACKWARD):
            calls = [call for call in seen.calls if call.label == label]
            assert [call.kind for call in calls] == [ALL_TO_ALL, ALL_TO_ALL]
            assert {call.given_bytes for call in calls} == {payload}
            assert seen.sent_bytes[label] == 2 * payload * (ranks - 1) // ranks


@pytest.mark.parametrize(("ranks", "groups", "heads_of_group"), [(2, 2, 1), (3, 1, 3), (4, 2, 2)])
def test_keys_and_values_go_round(ranks: int, groups: int, heads_of_group: int) -> None:
    tokens, batch, head_size = 24, 2, 4
    block = 2 * groups * head_size * tokens // ranks * batch * 4
    program = partial(pass_keys_and_values, tokens, batch, groups, heads_of_group, head_size)
    for seen in run(program, ranks):
        assert seen.error < 1e-4
        sent = {
            label: [c.given_bytes for c in seen.calls if (c.kind, c.label) == (SEND, label)]
            for label in (FORWARD, BACKWARD)
        }
        assert sent[FORWARD] == [block] * (ranks - 1)
        # Keys and values as in the forward; their gradients once more, home to their owner.
        assert sent[BACKWARD] == [block] * (ranks - 1 + ranks)
