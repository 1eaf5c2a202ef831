"""`rollguard replay`: recordings in every encoding, the same bytes each time, and exit codes that a pipeline acts on."""

import base64
import gzip
import json
import os
import struct
import subprocess
import tempfile

import zstandard
from google.protobuf.json_format import ParseDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from harness import BINARY, ROOT, test

CASES = os.path.join(ROOT, "tests", "golden", "cases")


def replay(*arguments):
    return subprocess.run([BINARY, "replay", *arguments], capture_output=True, timeout=60)


def case(name):
    return os.path.join(CASES, name + ".jsonl.gz")


def to_protobuf(line):
    """OTLP/JSON has hex ids where protobuf's own JSON has base64."""
    message = json.loads(line)
    for resource in message["resourceSpans"]:
        for scope in resource["scopeSpans"]:
            for span in scope["spans"]:
                for key in ("traceId", "spanId", "parentSpanId"):
                    if key in span:
                        span[key] = base64.b64encode(bytes.fromhex(span[key])).decode()
    return ParseDict(message, ExportTraceServiceRequest()).SerializeToString()


@test
def every_encoding_of_a_recording_gives_the_same_bytes():
    with open(case("replaced"), "rb") as f:
        lines = gzip.decompress(f.read())
    messages = b"".join(struct.pack(">I", len(m)) + m for m in map(to_protobuf, lines.splitlines()))
    half = lines.index(b"\n", len(lines) // 2) + 1
    zstd = zstandard.ZstdCompressor()
    files = {
        "plain.jsonl": lines,
        "once.jsonl.gz": gzip.compress(lines),
        # As a file that was appended to: several members, several frames.
        "twice.jsonl.gz": gzip.compress(lines[:half]) + gzip.compress(lines[half:]),
        "twice.jsonl.zst": zstd.compress(lines[:half]) + zstd.compress(lines[half:]),
        "plain.bin": messages,
        "once.bin.gz": gzip.compress(messages),
        "once.bin.zst": zstd.compress(messages),
    }
    with tempfile.TemporaryDirectory(prefix="rollguard-replay-") as folder:
        answers = {}
        for name, data in files.items():
            path = os.path.join(folder, name)
            with open(path, "wb") as f:
                f.write(data)
            done = replay(path, "--json", "--trace", path + ".trace")
            assert done.returncode == 1 and not done.stderr, (name, done)
            with open(path + ".trace", "rb") as f:
                answers[name] = (done.stdout, f.read())
        # In parts, and in the wrong order of time.
        for name, part in (("a.jsonl", lines[:half]), ("b.jsonl", lines[half:])):
            with open(os.path.join(folder, name), "wb") as f:
                f.write(part)
        parts = [os.path.join(folder, name) for name in ("b.jsonl", "a.jsonl")]
        trace = os.path.join(folder, "parts.trace")
        answers["parts"] = (replay(*parts, "--json", "--trace", trace).stdout, open(trace, "rb").read())
    different = [name for name, answer in answers.items() if answer != answers["plain.jsonl"]]
    assert not different, different

    said, trace = answers["plain.jsonl"]
    said = json.loads(said)
    assert (said["service"], said["baseline"], said["candidate"], said["verdict"]) == ("shop", "v1", "v2", "fail"), said
    assert said["decided_after_s"] > 0 and said["score"] == 0, said
    assert any(e["sli"] == "err" and e["degraded"] for e in said["evidence"]), said
    # One line per slot, without a gap, and the last one is the decision.
    slots = [json.loads(line) for line in trace.splitlines()]
    numbers = [slot["slot"] for slot in slots]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers))), numbers
    assert slots[-1]["ln_e_bar"] == said["ln_e_bar"] >= said["fail_threshold"] > slots[-2]["ln_e_bar"], slots[-2:]
    assert slots[-1]["ln_e"]["service/err"] == next(e["ln_e"] for e in said["evidence"] if (e["sli"], e["operation"]) == ("err", None))


@test
def two_replays_are_byte_identical():
    for name in ("replaced-job-later", "candidate-first", "sixty-operations"):
        for form in ((), ("--json",)):
            first, second = replay(case(name), *form), replay(case(name), *form)
            assert first.stdout and (first.stdout, first.returncode) == (second.stdout, second.returncode), name


@test
def exit_codes_of_replay_are_verdicts():
    with tempfile.TemporaryDirectory(prefix="rollguard-replay-") as folder:

        def file(name, data):
            path = os.path.join(folder, name)
            with open(path, "wb") as f:
                f.write(data)
            return path

        cut = gzip.compress(b'{"resourceSpans":[]}\n' * 100)[:-12]
        rows = [
            ((case("pass-concurrent"),), 0, "PASS"),
            ((case("replaced"),), 1, "FAIL"),
            ((case("sparse"),), 2, "INCONCLUSIVE"),
            ((case("replaced"), "--candidate", "v9"), 3, 'the recording has "v1", "v2"'),
            ((case("replaced"), "--service", "shopp"), 3, 'the recording has "shop"'),
            ((os.path.join(folder, "absent"),), 3, "No such file"),
            ((file("none.jsonl", b'{"resourceSpans":[]}\n'),), 3, "no entry span"),
            ((file("empty", b""),), 3, "no entry span"),
            ((file("cut.jsonl", b'{"resourceSpans":[]}\n{"resourceSpans":['),), 3, "line 2"),
            ((file("cut.jsonl.gz", cut),), 3, "cut.jsonl.gz"),
            ((file("cut.bin", struct.pack(">I", 100) + b"abc"),), 3, "message 1 is cut off"),
            ((file("text", b"hello world"),), 3, "neither JSON lines nor length-delimited"),
            ((), 3, "FILE"),
            ((case("sparse"), "--warmup", "60"), 3, "not a duration"),
        ]
        for arguments, code, words in rows:
            done = replay(*arguments)
            said = (done.stdout + done.stderr).decode()
            assert done.returncode == code and words in said, (arguments, code, words, done)
            # A verdict goes to standard output, an error to standard error; never both.
            assert bool(done.stdout) == (code < 3) and bool(done.stderr) == (code == 3), (arguments, done)


@test
def warmup_leaves_out_the_first_seconds():
    decided = {}
    for warmup in ("0s", "30s"):
        done = replay(case("replaced"), "--json", "--warmup", warmup)
        assert done.returncode == 1, done
        decided[warmup] = json.loads(done.stdout)["decided_after_s"]
    assert decided["30s"] > 30 and decided["0s"] < decided["30s"], decided
