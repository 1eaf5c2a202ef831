"""All clients at once against one Rollguard, and its account of every record that it received."""

import concurrent.futures
import traceback

import clients
import page
import worlds
from plan import BEHAVIOURS, cells

# Items a second of each job.
RATE = 20
NAMES = {"traces": "spans", "metrics": "metric_points", "logs": "log_records"}


def run(chosen, seconds, tests):
    def cors(conf):
        if any(client.name == "browser" for client in chosen):
            conf["receiver"]["http"]["cors"] = page.CORS
        return conf

    with worlds.world(cors) as (running, sink), concurrent.futures.ThreadPoolExecutor(len(chosen)) as pool:
        sent = {}
        for client in chosen:
            # The behaviour of a cell says here only which compression each job has.
            mine = cells(client, BEHAVIOURS[1])
            jobs = clients.jobs_of(mine, running, RATE * seconds, seconds)
            sent[client.name] = pool.submit(clients.LAUNCHERS[client.name][1], jobs, lambda jobs=jobs: sink.complete(jobs))
        for name, future in sent.items():
            try:
                said = future.result()
                bad = {job: one for job, one in said.items() if one.get("failed") or one.get("error")}
                tests.take(f"mixed-{name}", f"exports failed: {bad}" if bad else None)
            except Exception:
                tests.take(f"mixed-{name}", traceback.format_exc())
        for signal in NAMES:
            tests.take(f"mixed-account-of-{signal}", account(running, signal))


def account(running, signal):
    """Whether every record of a signal is in exactly one of Rollguard's counters, once all slots are closed."""
    accepted = lambda: worlds.own(running, f"otelcol_receiver_accepted_{NAMES[signal]}")
    accounted = lambda: worlds.own(running, "rollguard_records_total", signal=signal)
    try:
        worlds.wait_until("records", accepted, 5)
        worlds.wait_until("an account of all", lambda: accepted() == accounted(), 60)
    except AssertionError as why:
        rows = [line for line in running.own_metrics().splitlines() if line.startswith("rollguard_records_total") and signal in line]
        return f"{why}: {accepted():.0f} accepted, {accounted():.0f} accounted for\n" + "\n".join(rows)
    print(f"{signal}: {accepted():.0f} records, all accounted for", flush=True)
    return None
