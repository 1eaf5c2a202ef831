"""An error budget burns: somebody is told once, by a signed webhook, through a kill -9; the command line and Prometheus's
own tool agree on the rest."""

import json
import os
import shutil
import subprocess

from harness import BINARY, http, need, rollguard, test, wait_until
from test_durability import Receiver
from traffic import Service


def alerts(receiver):
    """Alerts that were taken, as (status, severity, id), in order."""
    bodies = [json.loads(a["body"]) for a in receiver.taken]
    data = [b["data"] for b in bodies if b["type"] == "rollguard.alert"]
    return [(d["status"], d["severity"], d["alert_id"]) for d in data]


def command(running, *arguments, expect=0):
    done = subprocess.run([BINARY, *arguments, "--url", running.url("")], capture_output=True, text=True, timeout=30)
    assert done.returncode == expect, (arguments, done.returncode, done.stdout, done.stderr)
    return done.stdout


@test
def a_burning_budget_is_told_once_through_a_kill():
    with Receiver() as receiver:

        def prepare(conf, folder):
            conf = receiver.prepare(conf, folder)
            conf["policies"]["defaults"].update(slo=0.99999, mode="observe")
            conf["objectives"] = {
                "webhook": "deployer",
                "journeys": [{"name": "checkout", "operations": ["POST *"], "slo": 0.5}],
            }
            return conf

        with rollguard(prepare=prepare) as running, Service(running.ports.grpc, bad={"v1": 0.1}):
            wait_until("a page", lambda: alerts(receiver), 60)
            assert all(a["signed"] for a in receiver.taken)
            (status, severity, first), = alerts(receiver)
            assert (status, severity) == ("firing", "page"), (status, severity)
            body = json.loads(receiver.taken[0]["body"])["data"]
            assert body["service"]["name"] == "shop" and body["journey"] is None and body["budget"]["spent_requests"] >= 10
            assert "times as many as the objective of 99.999" in body["summary"], body["summary"]
            running.wait_for_log(["the error budget burns too fast", "page"])
            spent = lambda: objective(running)["budget"]["spent_requests"]
            before = spent()
            running.kill()
            running.start()
            wait_until("the budget goes on", lambda: spent() > before + 100, 60)
            assert objective(running)["alerts"][0]["severity"] == "page"
            assert alerts(receiver) == [("firing", "page", first)], alerts(receiver)
            # The journey allows half of its requests to fail: it is counted, and nobody is told.
            assert objective(running, "checkout")["alerts"] == []
            text = command(running, "objectives", "shop")
            assert "PAGE burn_1h since" in text and "journey checkout" in text, text
            assert running.value("rollguard_objective_alert", service_name="shop", severity="page") == 1


def objective(running, journey=None):
    status, _, text = http(running.url("/api/v1/objectives?service=shop"))
    assert status == 200, (status, text)
    return [o for o in json.loads(text)["objectives"] if o["journey"] == journey][0]


@test
def the_rules_file_is_one_that_prometheus_takes():
    promtool = need(shutil.which("promtool"), "promtool")
    with rollguard() as running, Service(running.ports.grpc):
        running.wait_for_versions("v1")
        for arguments in (["--all"], ["shop", "--runbook-url", "https://wiki.example/budget"]):
            path = os.path.join(running.folder, "rules.yml")
            with open(path, "w") as f:
                f.write(command(running, "rules", *arguments))
            done = subprocess.run([promtool, "check", "rules", path], capture_output=True, text=True, timeout=30)
            assert done.returncode == 0 and "11 rules found" in done.stdout, (done.stdout, done.stderr)
        command(running, "rules", "nobody", expect=3)


@test
def an_explanation_says_how_sure_and_what_is_unseen():
    with rollguard() as running, Service(running.ports.grpc, bad={"v1": 0.001, "v2": 0.3}):
        running.wait_for_versions("v1", "v2")
        name = running.deploy("shop", "v2", "v1")
        wait_until("a fail", lambda: running.shown(name)["verdict"] == "fail", 60)
        text = command(running, "explain", "--service", "shop")
        for words in ("v2 fails", "How sure", "a fail takes 100 to 1", "of the evidence: ", "The errors decided"):
            assert words in text, (words, text)
        assert command(running, "explain", name, "--format", "markdown").count("**How sure**") == 1
        shown = json.loads(command(running, "explain", name, "--format", "json"))
        assert shown["odds"] >= shown["fail_odds"] and shown["what_could_not_have_been_seen"] == [], shown
        status, _, text = http(running.url(f"/api/v1/deployments/{name}/explanation?format=song"))
        assert status == 400 and "json, text or markdown" in text, (status, text)


@test
def a_file_is_held_against_the_series():
    with rollguard() as running, Service(running.ports.grpc, bad={"v1": 0.2}):
        running.wait_for_versions("v1")
        path = os.path.join(running.folder, "other.yaml")
        with open(path, "w") as f:
            json.dump({"policies": {"services": [{"match": {"service": "shpo"}}]}}, f)
        wait_until("an objective", lambda: objective(running)["budget"], 30)
        done = subprocess.run(
            [BINARY, "validate", path, "--against", running.url("")], capture_output=True, text=True, timeout=30
        )
        assert done.returncode == 2, (done.returncode, done.stdout, done.stderr)
        assert "policies.services[0] (service shpo) fits no service" in done.stdout, done.stdout
        assert "this objective is already failing" in done.stdout, done.stdout
