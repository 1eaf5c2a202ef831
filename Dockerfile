# syntax=docker/dockerfile:1
# The same commands as on a laptop, locked, into a small image that runs as nobody in particular.

FROM rust:1.95-slim-bookworm AS build
# C code in the build (SQLite, zstd, ring, mimalloc) needs a compiler and nothing else.
RUN apt-get update \
    && apt-get install -y --no-install-recommends build-essential \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN cargo build --locked --release

FROM debian:bookworm-slim
# Roots of trust for https webhooks.
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --no-create-home --home-dir /var/lib/rollguard rollguard \
    && install -d -o rollguard -g rollguard /var/lib/rollguard
COPY --from=build /src/target/release/rollguard /usr/local/bin/rollguard
COPY config/examples/container.yaml /etc/rollguard/rollguard.yaml
USER 10001:10001
# State (deployments, evidence, outbox); mount a volume here to keep it.
WORKDIR /var/lib/rollguard
VOLUME /var/lib/rollguard
# OTLP gRPC and HTTP; API and /metrics; own metrics.
EXPOSE 4317 4318 9464 8888
ENTRYPOINT ["rollguard"]
CMD ["run", "--config", "/etc/rollguard/rollguard.yaml"]
