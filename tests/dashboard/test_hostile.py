"""Hostile values and many users: never a 500, never somebody else's answer."""

import random
import threading
from typing import Any

import pytest

from dashboard.app import create_app
from dashboard.fields import fields
from dashboard.state import DEFAULT, scenario_of
from dashboard.store.scenarios import Store
from simulator.whatif import estimate
from tests.dashboard.asking import answer_body, numbers
from tests.dashboard.test_app import HERE

pytestmark = pytest.mark.slow

HOSTILE: list[Any] = [
    *("", " ", "-1", "0", "1", "3", "7", "1e308", "-1e308", "nan", "inf", "-inf", "0x10", "1_000"),
    *(
        "99999999999999999999",
        "9" * 400,
        "1e400",
        "8k",
        "8kk",
        "1/3",
        "½",
        "٣",
        "1,000,000",
        "1 GiB",
    ),
    *("<script>alert(1)</script>", "javascript:alert(1)", "' OR 1=1 --", "{{7*7}}", "${7*7}"),
    *(
        "../../etc/passwd",
        "/dev/zero",
        "file:///etc/passwd",
        "a" * 501,
        "\x00",
        "\ud800",
        "\u202ex",
    ),
    *("true", "false", "none", "null", "[]", "[1, 2", "{}", "=cmd()", "%s%n", "\n\r\t", "🙂"),
    *(None, True, False, 0, -1, 1.5, 10**30, -(10**30), float("nan"), float("inf")),
    *([], [1], {}, {"a": 1}, [[[]]], "1024", "65536", "16777216", "1099511627776"),
]


def test_a_thousand_hostile_values_make_no_error(app: Any) -> None:
    paths = [field.path for field in fields()]
    draw = random.Random(7)
    tried = 0
    with app.server.test_client() as client:
        while tried < 1_000:
            changes = {draw.choice(paths): draw.choice(HOSTILE) for _ in range(draw.randint(1, 4))}
            page = draw.choice(["/", "/", "/pipeline", "/communication", "/compare", "/nowhere"])
            search = draw.choice(
                ["", "?x=1", "?%00=%ff", "?scenario=1", "?view.with=1,2", "?" * 50]
            )
            view = {"against": draw.choice(HOSTILE)} if draw.random() < 0.2 else {}
            body = answer_body(changes, pathname=page, search=search, view=view)
            response = client.post("/_dash-update-component", json=body, headers=HERE)
            tried += len(changes)
            assert response.status_code == 200, (changes, page, search, view)


def test_fifty_users_each_get_their_own_answer() -> None:
    app = create_app(Store())
    expected = {
        count: estimate(scenario_of(DEFAULT, (("microbatches", str(count)),))).time["step_s"]
        for count in range(1, 11)
    }
    wrong: list[Any] = []

    def use(user: int) -> None:
        with app.server.test_client() as client:
            for turn in range(3):
                count = 1 + (user + turn) % 10
                body = answer_body({"microbatches": str(count)})
                response = client.post("/_dash-update-component", json=body, headers=HERE)
                if response.status_code != 200:
                    wrong.append((user, response.status_code))
                    continue
                shown = numbers(response.json["response"]["result"]["children"])
                if shown["time.step_s at verdict"] != expected[count]:
                    wrong.append((user, count, shown))

    threads = [threading.Thread(target=use, args=(user,)) for user in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=300)
    assert not any(thread.is_alive() for thread in threads)
    assert wrong == []
