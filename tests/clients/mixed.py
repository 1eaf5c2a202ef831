"""All clients at once against one Rollguard, and its account of every record that it received."""

import concurrent.futures
import traceback

import clients
import page
import worlds
from odd import Odd
from plan import BEHAVIOURS, cells

# Items a second of each job. An item of metrics is a stream, which is exported each second from then on.
RATES = {"traces": 20, "metrics": 1, "logs": 20}
SIGNALS = tuple(RATES)
# Nothing is to be refused here.
QUEUE_BYTES = 64 << 20
# What clients add to by themselves: good items, slow deliveries, client spans, metrics about themselves, plain logs.
SHARED = (("aggregated", ""), ("late", "slot_closed"), ("unused", "kind"), ("unused", "metric_name"), ("unused", "severity"))
# A reader that is stopped may export a point with the time of the export before.
RESENT = (("metrics", "duplicate"),)


def run(chosen, seconds, tests):
    def more(conf):
        for exporter in conf["exporters"].values():
            exporter["sending_queue"]["queue_bytes"] = QUEUE_BYTES
        if any(client.name == "browser" for client in chosen):
            conf["receiver"]["http"]["cors"] = page.CORS
        return conf

    with worlds.world(more) as (running, sink), concurrent.futures.ThreadPoolExecutor(len(chosen)) as pool:
        odd, sent = Odd(running.ports.grpc, seconds), {}
        for client in chosen:
            # The behaviour of a cell says here only which compression each job has.
            mine = cells(client, BEHAVIOURS[1])
            jobs = clients.jobs_of(mine, running, lambda cell: RATES[cell.signal] * seconds, seconds)
            done = lambda jobs=jobs: sink.complete(jobs)
            sent[client.name] = jobs, pool.submit(clients.LAUNCHERS[client.name][1], jobs, done)
        for name, (jobs, future) in sent.items():
            tests.take(f"mixed-{name}", complaint(jobs, future, sink))
        odd.join()
        for signal in SIGNALS:
            tests.take(f"mixed-account-of-{signal}", account(running, signal))
        tests.take("mixed-odd-records", dispositions(running, odd))


def complaint(jobs, future, sink):
    """What a client says went wrong, or what of it did not arrive."""
    try:
        said = future.result()
        bad = {job: one for job, one in said.items() if one.get("failed") or one.get("error")}
        assert not bad, f"exports failed: {bad}"
        worlds.wait_until("all items at the sink", lambda: sink.complete(jobs), 30)
    except Exception:
        return traceback.format_exc()
    return None


def account(running, signal):
    """Whether every record of a signal is in exactly one of Rollguard's counters, once all slots are closed."""
    received = lambda: worlds.own(running, "rollguard_records_received_total", signal=signal)
    settled = lambda: worlds.own(running, "rollguard_records_total", signal=signal)
    try:
        worlds.wait_until("records", received, 5)
        worlds.wait_until("an account of all", lambda: received() == settled(), 120)
    except AssertionError as why:
        return f"{why}: {received():.0f} received, {settled():.0f} accounted for\n" + "\n".join(rows(running, signal))
    print(f"{signal}: {received():.0f} records received, all accounted for:", *rows(running, signal), sep="\n  ", flush=True)
    return None


def rows(running, signal):
    """The account as the metrics page has it, without what is 0."""
    page = running.own_metrics().splitlines()
    return [row for row in page if row.startswith("rollguard_records_total") and f'"{signal}"' in row and not row.endswith(" 0")]


def dispositions(running, odd):
    """Whether the odd records are counted as what they are."""
    if odd.problem:
        return f"the sender of odd records: {odd.problem!r}"
    wrong = []
    for (signal, disposition, reason), sent in odd.sent.items():
        labels = {"signal": signal, "disposition": disposition, **({"reason": reason} if reason else {})}
        counted = worlds.own(running, "rollguard_records_total", **labels)
        if counted < sent if (disposition, reason) in SHARED or (signal, disposition) in RESENT else counted != sent:
            wrong.append(f"{labels}: {counted:.0f} counted, {sent} sent")
    return "\n".join(wrong) or None
