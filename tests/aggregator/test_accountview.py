"""The record of accounts that the settlement shows the API: there and back, and what is none."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from aggregator import accountview
from aggregator.accountview import AccountViewError
from aggregator.api.accounts import KEEP_S, Accounts
from aggregator.api.errors import Refusal
from settlement.accounts import ACCOUNT, Closed


def closed(n=2):
    rows = np.zeros(n, ACCOUNT)
    rows["vehicle"], rows["plugged_s"], rows["end_ns"] = b"mine", 900.0, 900
    return Closed(0, 900, rows, 0.0)


def test_there_and_back():
    for n in (0, 3):
        assert accountview.decode(accountview.encode(closed(n))).tobytes() == closed(n).rows.tobytes()


@pytest.mark.parametrize(("data", "reason"), [(b"", "short"), (accountview.encode(closed())[:-1], "length")])
def test_what_is_no_record_is_named(data, reason):
    with pytest.raises(AccountViewError) as caught:
        accountview.decode(data)
    assert caught.value.reason == reason


class Store:
    def __init__(self):
        self.data, self.reads = None, 0

    async def get(self, _):
        self.reads += 1
        return self.data


def test_it_is_read_once_for_all_who_ask():
    store, clock = Store(), [0.0]
    accounts = Accounts(store, "ce", lambda: clock[0])

    async def asked():
        with pytest.raises(Refusal) as early:
            await accounts.of("mine")
        assert early.value.status == 404
        store.data = accountview.encode(closed())
        clock[0] += KEEP_S
        found = await asyncio.gather(*(accounts.of("mine") for _ in range(5)))
        assert [item["plugged_s"] for item in found] == [1800.0] * 5
        assert store.reads == 2
        store.data = b"?"
        clock[0] += KEEP_S
        with pytest.raises(Refusal) as broken:
            await accounts.of("mine")
        assert broken.value.status == 503

    asyncio.run(asked())
