"""The far end: a real Collector that writes what it takes to a file, and in front of it a proxy that can be away and that
refuses one request for good."""

import concurrent.futures
import json
import os
import re
import subprocess
import threading
import time

import grpc

import build
from generator import EXPORT, MARK, SPANS, numbers_in
from ports import free_port, wait_for_port

LIMITS = [("grpc.max_receive_message_length", 64 << 20), ("grpc.max_send_message_length", 64 << 20)]
SPAN_ID = re.compile(rb'"spanId":"([0-9a-f]{16})"')


class Collector:
    def __init__(self, folder):
        self.port, self.path = free_port(), os.path.join(folder, "spans.json")
        conf = {
            "receivers": {"otlp": {"protocols": {"grpc": {"endpoint": f"127.0.0.1:{self.port}", "max_recv_msg_size_mib": 64}}}},
            "exporters": {"file": {"path": self.path, "flush_interval": "200ms"}},
            "service": {
                "telemetry": {"logs": {"level": "error"}, "metrics": {"level": "none"}},
                "pipelines": {"traces": {"receivers": ["otlp"], "exporters": ["file"]}},
            },
        }
        config_path = os.path.join(folder, "collector.json")
        with open(config_path, "w") as f:
            json.dump(conf, f)
        self.log_path = os.path.join(folder, "collector.log")
        with open(self.log_path, "w") as log:
            self.process = subprocess.Popen([build.binary("collector"), "--config", config_path], stdout=log, stderr=log)

    def __enter__(self):
        wait_for_port(self.port, 60)
        return self

    def stop(self):
        """Ends it in order, so that its file is whole."""
        if self.process.poll() is None:
            self.process.terminate()
            code = self.process.wait(60)
            assert code == 0, f"the Collector ended with {code}: {open(self.log_path).read()[-2000:]}"

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def spans(self, requests):
        """How often each span of so many requests stands in the file."""
        counts = bytearray(requests * SPANS)
        with open(self.path, "rb") as f:
            for line in f:
                for found in SPAN_ID.findall(line):
                    number, index = divmod(int(found, 16), 256)
                    place = (number - 1) * SPANS + index
                    counts[place] = min(255, counts[place] + 1)
        return counts


class Proxy(grpc.GenericRpcHandler):
    def __init__(self, collector):
        self.port, self.lock = free_port(), threading.Lock()
        self.channel = grpc.insecure_channel(f"127.0.0.1:{collector.port}", options=LIMITS)
        self.forward = self.channel.unary_unary(EXPORT)
        # Every call: numbers of the requests in it, begin, end.
        self.calls, self.refused, self.largest, self.joined = [], 0, 0, 0
        # Seconds between what the Collector answers and what we answer.
        self.delay = 0.0
        self.server = None

    def service(self, details):
        return grpc.unary_unary_rpc_method_handler(self.take) if details.method == EXPORT else None

    def take(self, message, context):
        numbers = numbers_in(message)
        call = [numbers, time.monotonic(), None]
        with self.lock:
            self.calls.append(call)
            self.largest = max(self.largest, len(message))
            self.joined = max(self.joined, len(numbers))
        try:
            if MARK.encode() in message:
                with self.lock:
                    self.refused += 1
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the proxy never takes this one")
            answer = self.forward(message, timeout=30)
            time.sleep(self.delay)
            return answer
        except grpc.RpcError as error:
            context.abort(error.code(), error.details())
        finally:
            call[2] = time.monotonic()

    def under_way(self, moment, margin):
        """Requests that were being taken at this moment, or whose answer was on its way: sent `margin` seconds before at
        the earliest."""
        with self.lock:
            during = [n for n, begin, end in self.calls if begin <= moment and (end is None or end >= moment - margin)]
        return set().union(*during)

    def come(self):
        self.server = grpc.server(concurrent.futures.ThreadPoolExecutor(16), options=LIMITS)
        self.server.add_generic_rpc_handlers((self,))
        assert self.server.add_insecure_port(f"127.0.0.1:{self.port}") == self.port
        self.server.start()

    def go(self):
        """Ends what is under way, then nobody answers."""
        self.server.stop(20).wait()

    def __enter__(self):
        self.come()
        return self

    def __exit__(self, *_):
        self.server.stop(0)
        self.channel.close()
