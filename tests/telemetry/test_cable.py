"""The cable between a client and its unit is cut, and mended: what neither end is told, both must find out.

Beside the line that swallows what it carries (`ieds.Proxy`): here the sockets stand in two network namespaces, and the
kernel's own retransmission, and its silence, are part of it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from tests.telemetry.ieds import NAMES, ROOT, need

KINDS = ("iec61850", "c37118 tcp", "c37118 udp")


def two_networks() -> list[str]:
    """The words that start a program in a network namespace of its own, from which it can make a second."""
    if not (shutil.which("unshare") and shutil.which("ip")):
        pytest.skip("a cable between two networks needs the programs unshare (util-linux) and ip (iproute2)")
    if os.geteuid() != 0:
        pytest.skip("a cable between two networks is tested as root: sudo, or a container")
    probe = "unshare -n true && ip link add name va type veth peer name vb"
    tried = subprocess.run(["unshare", "-n", "sh", "-c", probe], capture_output=True, text=True)
    if tried.returncode:
        pytest.skip(f"network namespaces are not permitted here: {tried.stderr.strip()[-200:]}")
    return ["unshare", "-n"]


@pytest.fixture(scope="module", params=NAMES)
def told(request: pytest.FixtureRequest) -> dict[str, dict[str, Any]]:
    need(request.param)
    ended = subprocess.run(
        [*two_networks(), sys.executable, str(ROOT / "tests/telemetry/cable_veth.py"), request.param],
        capture_output=True, text=True, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, timeout=180,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr[-3000:]
    found: dict[str, dict[str, Any]] = json.loads(ended.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_a_cut_is_noticed_and_the_source_comes_back_by_itself(told: dict[str, dict[str, Any]], kind: str) -> None:
    one = told[kind]
    assert one["reconnects"] >= 1
    assert one["handler_errors"] == 0
    t_ns, rx_ns = np.array(one["t_ns"]), np.array(one["rx_ns"])
    assert (rx_ns < one["cut_ns"]).sum() > 20
    assert (rx_ns > one["mended_ns"]).sum() > 20
    assert not ((rx_ns > one["cut_ns"] + 100_000_000) & (rx_ns < one["mended_ns"])).any()
    assert (np.diff(rx_ns) >= 0).all()
    assert np.unique(t_ns).size == t_ns.size  # nothing is told twice


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_false_comes_through_it(told: dict[str, dict[str, Any]], kind: str) -> None:
    hz = np.array(told[kind]["hz"])
    assert ((hz > 49.999) & (hz < 50.011)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_stopped_while_the_cable_is_cut(told: dict[str, dict[str, Any]], kind: str) -> None:
    assert told[kind]["detail"] == "stopped"
