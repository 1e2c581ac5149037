"""The scenarios by name, and one cluster for those that are chosen."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Sequence

from tests.cluster.cluster import Cluster
from tests.cluster.crashes import crashes, frozen_nodes
from tests.cluster.latency import latency
from tests.cluster.moves import drain, log_ins, rehash, takeover
from tests.cluster.options import Options
from tests.cluster.outages import bucket, litestream
from tests.cluster.ownership import races, refusal
from tests.cluster.report import Report
from tests.support.model_server import ModelServer

Scenario = Callable[[Cluster, Options, Report, ModelServer], None]


def without_model(play: Callable[[Cluster, Options, Report], None]) -> Scenario:
    """Return a scenario that needs no model server of its own."""
    return lambda cluster, options, report, model_server: play(cluster, options, report)


SCENARIOS: dict[str, Scenario] = {
    "crashes": without_model(crashes),
    "frozen": without_model(frozen_nodes),
    "bucket": without_model(bucket),
    "litestream": without_model(litestream),
    "races": without_model(races),
    "drain": without_model(drain),
    "rehash": without_model(rehash),
    "takeover": without_model(takeover),
    "refusal": without_model(refusal),
    "logins": without_model(log_ins),
    "latency": latency,
}


def run(names: Sequence[str], options: Options, *, lease_seconds: float) -> Report:
    """Start a cluster and play scenarios on it, one after the other. What raises is a fault; the next one is played."""
    report = Report()
    model_server = ModelServer()
    settings = {"OPENAI_BASE_URL": model_server.url, "OPENAI_MODEL": "stand-in"}
    try:
        with Cluster(lease_seconds=lease_seconds, settings=settings) as cluster:
            for name in names:
                began = time.monotonic()
                print(f"\n{name}", flush=True)
                try:
                    SCENARIOS[name](cluster, options, report, model_server)
                except Exception as error:  # one scenario that fails does not hide the others
                    traceback.print_exc()
                    report.fault(f"{name}: {type(error).__name__}: {error}")
                cluster.restore()
                report.figure(f"{name}: duration", time.monotonic() - began, "s")
            for machine in cluster.machines:
                if "Traceback" in machine.node.output:
                    _, _, rest = machine.node.output.partition("Traceback")
                    report.fault(f"the log of node {machine.number} has a traceback:\nTraceback{rest[:3000]}")
            if report.faults:
                report.keep_logs(cluster.folder)
    finally:
        model_server.close()
    return report
