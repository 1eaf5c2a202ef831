#!/usr/bin/env bash
# All tests: Rust, then the Python end-to-end tests, real clients and the proof of delivery against the release binary.
#
#   tests/run.sh          everything; as root it installs what is missing (apt-get, and each language's packages)
#   tests/run.sh --fast   Rust only
#
# The last line is "N passed, N failed". Where CI is set a missing tool is a failure; elsewhere it is a loud skip.
set -uo pipefail
cd "$(dirname "$0")/.."

fast=no
case "${1:-}" in
  --fast) fast=yes ;;
  "") ;;
  *) echo "usage: tests/run.sh [--fast]" >&2; exit 3 ;;
esac

venv=target/e2e-venv
results=$(mktemp)
builds=$(mktemp)
trap 'rm -f "$results" "$builds"' EXIT
passed=0
failed=0

# Adds one failure that is no test's own: a build, a tool, a harness that did not come to its end.
broken() {
  echo "FAILED: $1" >&2
  failed=$((failed + 1))
}

missing() {
  if [ -n "${CI:-}" ]; then
    broken "$1"
  else
    printf '\n*** SKIPPED: %s ***\n\n' "$1" >&2
  fi
}

rust_tests() {
  cargo test --locked --no-fail-fast 2>&1 | tee "$results"
  local status=${PIPESTATUS[0]} p f
  read -r p f < <(awk '/^test result:/ { for (i = 1; i < NF; i++) { if ($(i + 1) ~ /^passed/) p += $i; if ($(i + 1) ~ /^failed/) f += $i } } END { print p + 0, f + 0 }' "$results")
  passed=$((passed + p))
  failed=$((failed + f))
  if [ "$status" -ne 0 ] && [ "$f" -eq 0 ]; then
    broken "cargo test ended with $status and no failed test (does it compile?)"
  fi
}

install_tools() {
  local packages=()
  command -v prometheus >/dev/null && command -v promtool >/dev/null || packages+=(prometheus)
  python3 -c 'import venv, ensurepip' 2>/dev/null || packages+=(python3 python3-venv)
  # What the clients of tests/clients are built and run with.
  command -v go >/dev/null || packages+=(golang-go)
  command -v npm >/dev/null || packages+=(nodejs npm)
  command -v mvn >/dev/null && command -v javac >/dev/null || packages+=(default-jdk-headless maven)
  command -v chromium-headless-shell >/dev/null || packages+=(chromium-headless-shell)
  if [ "${#packages[@]}" -gt 0 ] && [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
    echo "installing ${packages[*]}"
    # A machine that tests needs the programs, not their services.
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
  fi
  command -v prometheus >/dev/null || missing "prometheus is not installed: the real scrape and promtool's checks"
}

python_environment() {
  if [ -x "$venv/bin/python" ] && cmp -s tests/e2e/requirements.txt "$venv/requirements.txt"; then
    return 0
  fi
  rm -rf "$venv"
  python3 -m venv "$venv" \
    && "$venv/bin/pip" install -q --disable-pip-version-check -r tests/e2e/requirements.txt \
    && cp tests/e2e/requirements.txt "$venv/requirements.txt"
}

# Runs the tests of a harness and counts what its last line says: `NAME result: N passed; M failed`.
harness() {
  local name=$1 p f
  shift
  "$@" 2>&1 | tee "$results"
  read -r p f < <(sed -n "s/^$name result: \([0-9]*\) passed; \([0-9]*\) failed.*/\1 \2/p" "$results" | tail -1)
  if [ -z "${p:-}" ]; then
    broken "$name: the tests did not come to their end"
    return
  fi
  passed=$((passed + p))
  failed=$((failed + f))
}

python_tests() {
  if ! cargo build --locked --release; then
    broken "the release build"
  elif ! python_environment; then
    missing "the Python SDK could not be installed: all end-to-end tests"
  else
    harness python "$venv/bin/python" tests/e2e/run.py
  fi
}

# Real clients of other languages. CI asks that the table they fill is the one that is committed.
client_tests() {
  local check=()
  wait "$client_builds" || true
  cat "$builds"
  [ -z "${CI:-}" ] || check=(--check)
  harness clients python3 tests/clients/run.py "${check[@]}"
}

# First, so that the Rust tests that want promtool find it.
if [ "$fast" = no ]; then
  install_tools
  # The clients are built beside cargo's own work; a failure shows when they are to run.
  nice python3 tests/clients/run.py --build >"$builds" 2>&1 &
  client_builds=$!
fi
rust_tests
if [ "$fast" = no ]; then
  python_tests
  client_tests
  # The files of docs/recipes.md with a real Collector.
  harness recipes python3 tests/clients/recipes.py
  # The memory limiter under several times the load that leaves, with real clients.
  harness pressure python3 tests/clients/pressure.py
  # What is acknowledged arrives, whatever happens: real files, a real Collector, a real small disk. After the
  # clients, for it measures what arrives under a steady load.
  harness forwarding python3 tests/forwarding/run.py
fi

echo
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
