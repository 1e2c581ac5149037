"""A whole cluster, with real parts: a short version of `make cluster-test`. Nothing is lost or doubled."""

from __future__ import annotations

import pytest

from tests.cluster.cluster import LEASE_SECONDS
from tests.cluster.options import QUICK
from tests.cluster.program import MissingPart
from tests.cluster.scenarios import run

SCENARIOS = ["crashes", "drain", "rehash", "refusal", "logins"]


def test_cluster_loses_nothing() -> None:
    """How long things take is measured by `make cluster-test`, and not here."""
    try:
        report = run(SCENARIOS, QUICK, lease_seconds=LEASE_SECONDS)
    except MissingPart as error:
        pytest.skip(str(error))
    assert not report.faults
