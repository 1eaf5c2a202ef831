"""TLS, client certificates and tokens at the ports, with the Python SDK's exporters and certificates made for the
occasion: who may send is taken in, who may not is not, and files are exchanged under traffic."""

import datetime
import ipaddress
import os
import threading
import time

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcSpans
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpSpans
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SpanExportResult

from harness import rollguard, samples, test, wait_until
from test_exporters import send_spans
from traffic import EXPORT, request

# Where a machine sets these, requests trusts them in place of what the exporter is told.
for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
    os.environ.pop(name, None)


class Authority:
    """Signs certificates into a folder."""

    def __init__(self, folder, name="ca"):
        self.folder, self.key = folder, ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.file = self.write(f"{name}.crt", self.certificate(self.name, self.key.public_key(), is_authority=True))

    def certificate(self, name, key, is_authority=False):
        now = datetime.datetime.now(datetime.timezone.utc)
        builder = x509.CertificateBuilder().subject_name(name).issuer_name(self.name).public_key(key)
        builder = builder.serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(now - datetime.timedelta(hours=1)).not_valid_after(now + datetime.timedelta(days=1))
        builder = builder.add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        if not is_authority:
            names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def sign(self, name):
        """The files of a certificate and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        encoded = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return self.write(f"{name}.crt", self.certificate(subject, key.public_key())), self.write(f"{name}.key", encoded)

    def write(self, name, content):
        return write(self.folder, name, content)


def write(folder, name, content):
    """As one step, as a reader sees it."""
    path = os.path.join(folder, name)
    with open(path + ".new", "wb") as f:
        f.write(content)
    os.replace(path + ".new", path)
    return path


def read(path):
    with open(path, "rb") as f:
        return f.read()


def guarded(tls=None, auth=None, extensions=None):
    """Prepares a configuration whose ports are guarded alike; `tls` is None, plain or mutual."""

    def prepare(conf, folder):
        authority = Authority(folder)
        if tls:
            certificate, key = authority.sign("server")
            more = {"client_ca_file": authority.file} if tls == "mutual" else {}
            for port in ("grpc", "http"):
                conf["receiver"][port]["tls"] = {"cert_file": certificate, "key_file": key, **more}
        if auth:
            for port in ("grpc", "http"):
                conf["receiver"][port]["auth"] = {"authenticator": auth}
            conf["extensions"] = extensions(folder)
        authority.sign("client")
        return conf

    return prepare


def exporters(running, certificate=True, **headers):
    """By protocol; with the client's certificate or without."""
    path = lambda name: os.path.join(running.folder, name)
    own = (read(path("client.key")), read(path("client.crt"))) if certificate else (None, None)
    files = {"client_key_file": path("client.key"), "client_certificate_file": path("client.crt")} if certificate else {}
    return {
        "grpc": lambda: GrpcSpans(
            endpoint=f"https://localhost:{running.ports.grpc}", headers=headers or None, timeout=5,
            credentials=grpc.ssl_channel_credentials(read(path("ca.crt")), *own),
        ),
        "http": lambda: HttpSpans(
            endpoint=f"https://127.0.0.1:{running.ports.http}/v1/traces", headers=headers or None, timeout=5,
            certificate_file=path("ca.crt"), **files,
        ),
    }


def own(running, name, **labels):
    return sum(v for n, have, v in samples(running.own_metrics()) if n == name and labels.items() <= have.items())


@test
def sdks_send_over_tls_and_with_client_certificates():
    for kind in ("plain", "mutual"):
        with rollguard(prepare=guarded(tls=kind)) as running:
            for name, make in exporters(running, certificate=kind == "mutual").items():
                send_spans(make(), f"shop-{name}", "v1", 20, 0)
                counted = lambda: running.value("rollguard_requests_total", service_name=f"shop-{name}") == 20
                wait_until(f"{kind} {name} is counted", counted)


@test
def without_a_client_certificate_nobody_gets_in():
    with rollguard(prepare=guarded(tls="mutual")) as running:
        for make in exporters(running, certificate=False).values():
            exporter = make()
            outcome = []
            # The SDK tries again until its timeout is over.
            thread = threading.Thread(target=lambda: outcome.append(exporter.export(spans())), daemon=True)
            thread.start()
            thread.join(60)
            assert outcome == [SpanExportResult.FAILURE], outcome
            exporter.shutdown()
        failed = lambda **labels: own(running, "rollguard_receiver_handshakes_failed_total", **labels)
        for transport in ("grpc", "http"):
            assert failed(transport=transport, reason="no_client_certificate") > 0, running.own_metrics()
        assert own(running, "otelcol_receiver_accepted_spans") == 0
        running.wait_for_log(["no_client_certificate", "client_ca_file"])


def spans():
    span = TracerProvider().get_tracer("e2e").start_span("GET /items")
    span.end()
    return [span]


@test
def tokens_are_exchanged_under_traffic():
    """An old and a new client send all the time. The new token is written beside the old one, then the old one is taken
    out, with a damaged file in between: the new client is never refused once its token counts, the old one not before
    its token is gone, and every request that was taken is counted once."""

    def extensions(folder):
        with open(os.path.join(folder, "tokens"), "w") as f:
            f.write("old-token\n")
        return {"bearertokenauth": {"filename": os.path.join(folder, "tokens"), "reload_interval": "100ms"}}

    with rollguard(prepare=guarded(auth="bearertokenauth", extensions=extensions)) as running:
        old, new = Client(running.ports.grpc, "old-token"), Client(running.ports.grpc, "new-token")
        rewrite = lambda text: write(running.folder, "tokens", text.encode())
        wait_until("the old client is taken", lambda: old.taken > 20)
        assert old.refused == 0 and new.taken == 0, (old, new)
        wait_until("the new one is not yet", lambda: new.refused > 20)
        rewrite("new-token\nold-token\n")
        wait_until("both are taken", lambda: new.taken > 20)
        refused = new.refused
        rewrite("two words\n")
        running.wait_for_log(["the new credentials are not used", "extensions.bearertokenauth"])
        before = old.taken
        wait_until("the bad file changes nothing", lambda: old.taken > before + 20)
        assert old.refused == 0 and new.refused == refused, (old, new)
        rewrite("new-token\n")
        wait_until("the old client is refused", lambda: old.refused > 20)
        assert new.refused == refused, new
        taken = old.stop() + new.stop()
        accepted = lambda: own(running, "otelcol_receiver_accepted_spans") == taken
        wait_until("what was taken is counted", accepted, 10)
        wrong = own(running, "rollguard_receiver_unauthenticated_total", transport="grpc", reason="wrong")
        assert wrong == old.refused + new.refused, (wrong, old, new)


class Client:
    """Sends a span at a time, with a token, until it is stopped."""

    def __init__(self, port, token):
        self.taken = self.refused = 0
        self.metadata, self.ended = [("authorization", f"Bearer {token}")], threading.Event()
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        self.export = self.channel.unary_unary(EXPORT["traces"])
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while not self.ended.is_set():
            body = request("shop", "v1", [("GET /items", time.time_ns(), 10**7, False)])
            try:
                self.export(body, metadata=self.metadata, timeout=20)
                self.taken += 1
            except grpc.RpcError as error:
                assert error.code() == grpc.StatusCode.UNAUTHENTICATED, error
                self.refused += 1
            time.sleep(0.005)

    def stop(self):
        self.ended.set()
        self.thread.join(30)
        self.channel.close()
        return self.taken

    def __repr__(self):
        return f"{self.metadata}: {self.taken} taken, {self.refused} refused"
