"""Builds the clients into target/clients, each when its sources have changed since the last time.

Each build is a function; it raises `Missing` where its tool is not installed. What a tool downloads stays in that
tool's own cache."""

import hashlib
import json
import os
import re
import shutil
import subprocess

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
TARGET = os.path.join(ROOT, "target", "clients")


class Missing(Exception):
    """A tool is not installed."""


def binary(name):
    return os.path.join(TARGET, "bin", name)


def tool(name):
    """The path of a program, or of one of several that do the same."""
    for one in name.split("|"):
        if path := shutil.which(one):
            return path
    raise Missing(f"{name} is not installed")


def fingerprint(folder):
    """Of all sources in a folder of this one."""
    digest = hashlib.sha256()
    for path, folders, files in os.walk(os.path.join(HERE, folder)):
        folders[:] = sorted(f for f in folders if f not in ("node_modules", "target", "__pycache__"))
        for name in sorted(files):
            with open(os.path.join(path, name), "rb") as f:
                digest.update(f"{os.path.join(path, name)} ".encode() + hashlib.sha256(f.read()).digest())
    return digest.hexdigest()


def once(folder, product, make):
    """Runs `make` unless `product` was made of these very sources."""
    mark, now = os.path.join(TARGET, folder + ".made"), fingerprint(folder)
    if os.path.exists(product) and os.path.exists(mark):
        with open(mark) as f:
            if f.read() == now:
                return
    print(f"building {folder}", flush=True)
    os.makedirs(os.path.join(TARGET, "bin"), exist_ok=True)
    make()
    with open(mark, "w") as f:
        f.write(now)


def run(command, folder, **environment):
    done = subprocess.run(command, cwd=os.path.join(HERE, folder), env={**os.environ, **environment},
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} in {folder} ended with {done.returncode}:\n{done.stdout[-4000:]}")


def go():
    """The client and the service that use the Go SDK, and telemetrygen, from one go.mod."""
    generator = "github.com/open-telemetry/opentelemetry-collector-contrib/cmd/telemetrygen"
    build = [tool("go"), "build", "-trimpath", "-ldflags", "-s -w", "-o"]

    def make():
        run([*build, binary("go-client"), "./client"], "go")
        run([*build, binary("shop"), "./shop"], "go")
        run([*build, binary("telemetrygen"), generator], "go")

    once("go", binary("telemetrygen"), make)


def collector():
    flags = f"-s -w -X main.version={module('collector', 'go.opentelemetry.io/collector/otelcol')[1:]}"
    command = [tool("go"), "build", "-trimpath", "-ldflags", flags, "-o", binary("collector"), "."]
    once("collector", binary("collector"), lambda: run(command, "collector"))


def python():
    """A virtual environment; the harness itself runs in it as well."""
    wanted = os.path.join(HERE, "python", "requirements.txt")

    def make():
        run([tool("python3"), "-m", "venv", "--clear", os.path.join(TARGET, "venv")], ".")
        run([venv("pip"), "install", "-q", "--disable-pip-version-check", "-r", wanted], ".")

    once("python", venv("python"), make)


def venv(program):
    return os.path.join(TARGET, "venv", "bin", program)


def js():
    """The packages of Node and of the page, and the page's bundle."""
    folder = os.path.join(TARGET, "js")

    def make():
        shutil.copytree(os.path.join(HERE, "js"), folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("node_modules"))
        run([tool("npm"), "ci", "--no-audit", "--no-fund"], folder)
        bundle = ["--bundle", "--format=iife", "--log-level=warning", "--outfile=page.js"]
        run([os.path.join(folder, "node_modules", ".bin", "esbuild"), "page.mjs", *bundle], folder)

    once("js", os.path.join(folder, "page.js"), make)


def browser():
    tool("chromium-headless-shell|chromium|chromium-browser|google-chrome")
    js()


def java():
    plugin = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies"
    libraries, classes = os.path.join(TARGET, "java", "lib"), os.path.join(TARGET, "java", "classes")

    def make():
        run([tool("mvn"), "-q", "-B", plugin, f"-DoutputDirectory={libraries}"], "java")
        source = os.path.join("src", "main", "java", "Client.java")
        run([tool("javac"), "--release", "17", "-cp", os.path.join(libraries, "*"), "-d", classes, source], "java")

    once("java", os.path.join(classes, "Client.class"), make)


def java_path():
    return os.pathsep.join([os.path.join(TARGET, "java", "classes"), os.path.join(TARGET, "java", "lib", "*")])


def rust():
    def make():
        run([tool("cargo"), "build", "--locked"], "rust", CARGO_TARGET_DIR=os.path.join(TARGET, "rust"))
        os.replace(os.path.join(TARGET, "rust", "debug", "rust-client"), binary("rust-client"))

    once("rust", binary("rust-client"), make)


def module(folder, name):
    """The version of a Go module, as its go.mod says."""
    return written(os.path.join(folder, "go.mod"), rf"^\s*(?:require )?{re.escape(name)} (v\S+)")


def crate(name):
    return written(os.path.join("rust", "Cargo.lock"), rf'name = "{name}"\nversion = "([^"]+)"')


def pinned(name):
    return written(os.path.join("python", "requirements.txt"), rf"^{name}==(\S+)")


def java_version():
    return written(os.path.join("java", "pom.xml"), r"<opentelemetry.version>([^<]+)")


def packages(folder):
    with open(os.path.join(HERE, folder, "package.json")) as f:
        return json.load(f)["dependencies"]


def written(path, pattern):
    with open(os.path.join(HERE, path)) as f:
        found = re.search(pattern, f.read(), re.MULTILINE)
    if not found:
        raise KeyError(f"{pattern} in {path}")
    return found.group(1)
