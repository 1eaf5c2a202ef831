"""docs/conformance.md: what the last full run saw, as a table."""

import os
import re

import build
from plan import ABANDONS, BEHAVIOURS, CLIENTS, SIGNALS, Cell

PATH = os.path.join(build.ROOT, "docs", "conformance.md")
HEAD = """# Conformance

Written by `tests/clients/run.py`, which `tests/run.sh` runs; do not edit. Each line is a real client that sent 240 items
of each signal with its own exporter to the real binary, and a downstream behind Rollguard that knows each item.

| behaviour | what happens | required |
|---|---|---|
| plain | nothing | all items arrive, spans and log records once |
| refuses | Rollguard pushes everything back for 3 s (its queue to the downstream is full) | the same |
| restarts | Rollguard is stopped and started on the same ports while the client sends | all items arrive; a batch whose answer was lost may arrive again |

In the table *complete* is what is required. *gives up* is a client that does not send a batch again, or not long
enough; the reason is below. No item that Rollguard acknowledged was lost in any line. In `plain` the number of requests
in Rollguard's own metrics is exactly that of the items, by spans and by metrics (telemetrygen's metric counts no
requests; JavaScript's clock of milliseconds lets a few streams begin in the moment of their first export, which OTLP
reads as a start that is not known: they count from the second export on). Metrics are cumulative, so a later export makes an earlier one good.
"""


def update(outcomes, versions, check):
    """Writes the table, or says why the one that is there differs. Returns a failure or None."""
    text = document(outcomes, versions)
    if not check:
        with open(PATH, "w") as f:
            f.write(text)
        return None
    try:
        with open(PATH) as f:
            there = f.read()
    except FileNotFoundError:
        there = ""
    return difference(there, text)


def difference(there, text):
    left, right = steady(there), steady(text)
    if left == right:
        return None
    gone = [line for line in left if line not in right]
    new = [line for line in right if line not in left]
    return "docs/conformance.md is out of date (tests/clients/run.py writes it):\n" + "\n".join(
        [f"- {line}" for line in gone] + [f"+ {line}" for line in new])


def steady(text):
    """The lines without what may differ from run to run and from machine to machine: how much was missing, and the
    versions of what comes with the machine."""
    text = re.sub(r"\(\d+ of \d+ missing\)", "(some missing)", text)
    text = re.sub(r"(, Node|, OpenJDK|, Chromium) \S+", r"\1", text)
    return text.splitlines()


def document(outcomes, versions):
    lines = [HEAD, "## Clients", "", "| client | version |", "|---|---|"]
    lines += [f"| {client.name} | {versions[client.name]} |" for client in CLIENTS]
    for behaviour in BEHAVIOURS:
        lines += ["", f"## {behaviour}", "", "| client | protocol | compression | " + " | ".join(SIGNALS) + " |", "|---|---|---|---|---|---|"]
        for client in CLIENTS:
            for protocol, compressions in client.speaks.items():
                lines += rows(outcomes, client, protocol, compressions, behaviour)
    lines += ["", "## Why clients give up", ""]
    lines += [f"- {client}, {protocol}, {behaviour}: {why}." for (client, protocol, behaviour), (_, why) in ABANDONS.items()]
    return "\n".join(lines) + "\n"


def rows(outcomes, client, protocol, compressions, behaviour):
    """A line for each compression that was run; under the pairwise behaviours a line holds what each signal had."""
    by_compression = {}
    for compression in compressions:
        found = [outcomes.get(Cell(client.name, protocol, compression, signal, behaviour)) for signal in SIGNALS]
        if any(found):
            by_compression[compression] = [one or "" for one in found]
    return [f"| {client.name} | {protocol} | {name} | " + " | ".join(found) + " |" for name, found in by_compression.items()]
