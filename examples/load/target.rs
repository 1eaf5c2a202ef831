//! A server under load: its process, what it acknowledged, and the CPU time that it took.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use bytes::Bytes;
use http::uri::PathAndQuery;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::client::Grpc;
use tonic::codec::CompressionEncoding;
use tonic::transport::{Channel, Endpoint};

use super::traffic::{INSTANCES, Kind, Sender};
use super::wire::Sending;

/// How a load is sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// Connections, each with one request at a time.
    pub(crate) connections: u64,
    /// Over all connections; without it each sends its next request as soon as the last one is answered.
    pub(crate) requests_per_second: Option<u64>,
    /// Whether requests are compressed.
    pub(crate) is_gzip: bool,
    /// Whose requests they are; at least one for each connection.
    pub(crate) instances: u64,
}

impl Pace {
    /// As fast as the answers come, over four connections.
    pub(crate) const FULL: Self =
        Self { connections: 4, requests_per_second: None, is_gzip: false, instances: INSTANCES };
}

/// Clock ticks of `/proc/PID/stat` in a second; the same on every Linux that Rust runs on.
const TICKS: f64 = 100.0;

/// What one run came to.
#[derive(Debug, Default)]
pub(crate) struct Sent {
    /// Data points, records or spans that were acknowledged.
    pub(crate) items: u64,
    /// Requests that were not.
    pub(crate) refused: u64,
    /// How long it took.
    pub(crate) seconds: f64,
    /// CPU time of the server.
    pub(crate) cpu_seconds: f64,
    /// Its resident set at the end.
    pub(crate) resident_mib: f64,
    /// 99th percentile of the time to an answer, in milliseconds.
    pub(crate) p99_ms: f64,
}

impl Sent {
    /// What is compared.
    pub(crate) fn cpu_seconds_per_million(&self) -> f64 {
        self.cpu_seconds / self.items as f64 * 1e6
    }
}

/// A server in a process of its own, ended with this value.
pub(crate) struct Target {
    name: &'static str,
    process: Child,
    address: String,
    /// Where the program shows its own metrics.
    metrics: Option<u16>,
    /// Configuration and database, removed at the end.
    folder: Option<PathBuf>,
}

impl Target {
    /// The program, with its defaults on free ports.
    pub(crate) async fn rollguard(binary: &Path) -> anyhow::Result<Self> {
        Self::configured(binary, None, "", |_| String::new()).await
    }

    /// The program with its own metrics on a port, more under `receiver`, and more in its configuration, which may name
    /// the folder that is removed at the end.
    pub(crate) async fn configured(
        binary: &Path,
        metrics: Option<u16>,
        receiver: &str,
        more: impl FnOnce(&Path) -> String,
    ) -> anyhow::Result<Self> {
        let [grpc, http, api] = free_ports()?;
        let folder = std::env::temp_dir().join(format!("rollguard-load-{}-{grpc}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        let file = folder.join("config.yaml");
        let database = folder.join(format!("{grpc}.db"));
        let own = metrics.map_or("null".to_owned(), |port| format!("'127.0.0.1:{port}'"));
        let more = more(&folder);
        std::fs::write(
            &file,
            format!(
                "receiver:\n  grpc: {{endpoint: '127.0.0.1:{grpc}'}}\n  http: {{endpoint: '127.0.0.1:{http}'}}\n{receiver}\
                 api: {{endpoint: '127.0.0.1:{api}'}}\nstore: {{path: '{}'}}\ntelemetry: {{metrics: {own}}}\n{more}",
                database.display()
            ),
        )?;
        let mut command = Command::new(binary);
        command.arg("run").arg("--config").arg(&file).env("RUST_LOG", "error");
        let mut target = Self::start("rollguard", command, grpc, Some(folder)).await?;
        target.metrics = metrics;
        Ok(target)
    }

    /// This program again, as the sink.
    pub(crate) async fn sink(myself: &Path) -> anyhow::Result<Self> {
        Self::sink_on(myself, free_port()?).await
    }

    /// Another server: a command in which `{port}` stands for where it listens.
    pub(crate) async fn other(command: &str) -> anyhow::Result<Self> {
        let port = free_port()?;
        let command = command.replace("{port}", &port.to_string());
        let mut words = command.split_whitespace();
        let mut process = Command::new(words.next().context("no command")?);
        process.args(words);
        Self::start("other", process, port, None).await
    }

    /// [`Target::sink`] on this port.
    pub(crate) async fn sink_on(myself: &Path, port: u16) -> anyhow::Result<Self> {
        let mut command = Command::new(myself);
        command.arg("sink").arg(format!("127.0.0.1:{port}"));
        Self::start("decode-and-drop", command, port, None).await
    }

    /// This program again, as a backend that drops everything.
    pub(crate) async fn discard(myself: &Path, port: u16) -> anyhow::Result<Self> {
        let mut command = Command::new(myself);
        command.arg("discard").arg(format!("127.0.0.1:{port}"));
        Self::start("discard", command, port, None).await
    }

    /// This program again, as a backend that refuses everything for good.
    pub(crate) async fn refusing(myself: &Path, port: u16) -> anyhow::Result<Self> {
        let mut command = Command::new(myself);
        command.arg("discard").arg("--refuse").arg(format!("127.0.0.1:{port}"));
        Self::start("refuse", command, port, None).await
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    async fn start(
        name: &'static str,
        mut command: Command,
        port: u16,
        folder: Option<PathBuf>,
    ) -> anyhow::Result<Self> {
        let process = command.stdout(Stdio::null()).spawn().with_context(|| format!("start {name}"))?;
        let target = Self { name, process, address: format!("127.0.0.1:{port}"), metrics: None, folder };
        for _ in 0..200 {
            if tokio::net::TcpStream::connect(&target.address).await.is_ok() {
                return Ok(target);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        bail!("{name} does not listen on {}", target.address)
    }

    /// Its name.
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// Sends for so long, and measures.
    pub(crate) async fn load(&self, kind: Kind, time: Duration, pace: Pace) -> anyhow::Result<Sent> {
        let (cpu, begin) = (self.cpu_seconds()?, Instant::now());
        let mut sent = send_to(&self.address, kind, time, pace).await?;
        // What was acknowledged last is worked off within the second.
        tokio::time::sleep(Duration::from_secs(1)).await;
        sent.seconds = begin.elapsed().as_secs_f64();
        sent.cpu_seconds = self.cpu_seconds()? - cpu;
        sent.resident_mib = self.resident_mib()?;
        Ok(sent)
    }

    /// The sum of one of the program's own metrics over its labels.
    pub(crate) async fn own(&self, name: &str) -> anyhow::Result<f64> {
        let port = self.metrics.context("its metrics have no port")?;
        let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await?;
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await?;
        let mut page = String::new();
        stream.read_to_string(&mut page).await?;
        let of_name = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
        let value = |line: &str| line.rsplit(' ').next().unwrap_or_default().parse::<f64>();
        Ok(page.lines().filter(of_name).map(value).sum::<Result<f64, _>>()?)
    }

    /// User and system time so far.
    fn cpu_seconds(&self) -> anyhow::Result<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.id()))?;
        // The name of the program stands in brackets and may hold spaces; fields 14 and 15 are the times.
        let rest = stat.rsplit_once(") ").context("an unknown form of stat")?.1;
        let ticks = rest.split(' ').skip(11).take(2).map(str::parse::<f64>);
        Ok(ticks.sum::<Result<f64, _>>()? / TICKS)
    }

    pub(crate) fn resident_mib(&self) -> anyhow::Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
        Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to end.
        let _ = self.process.kill();
        let _ = self.process.wait();
        if let Some(folder) = &self.folder {
            let _ = std::fs::remove_dir_all(folder);
        }
    }
}

/// Sends to an address for so long.
pub(crate) async fn send_to(address: &str, kind: Kind, time: Duration, pace: Pace) -> anyhow::Result<Sent> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?;
    let (all, instances) = (pace.connections, pace.instances.max(pace.connections));
    let senders: Vec<Sender> = (0..all).map(|number| Sender::new(kind, number, all, instances)).collect();
    let until = Instant::now() + time;
    let mut tasks = Vec::new();
    for sender in senders {
        tasks.push(tokio::spawn(send(endpoint.connect().await?, sender, until, pace)));
    }
    let mut took = Vec::new();
    let mut sent = Sent::default();
    for task in tasks {
        let (items, refused, times) = task.await??;
        took.extend(times);
        sent.items += items;
        sent.refused += refused;
    }
    took.sort_by(f64::total_cmp);
    sent.p99_ms = took.get(took.len() * 99 / 100).copied().unwrap_or(f64::NAN);
    Ok(sent)
}

/// One connection: a request, its answer, the next at once or when it is due.
async fn send(
    channel: Channel,
    mut sender: Sender,
    until: Instant,
    pace: Pace,
) -> anyhow::Result<(u64, u64, Vec<f64>)> {
    let mut due = pace.requests_per_second.map(|requests| {
        let mut due = tokio::time::interval(Duration::from_secs(pace.connections).div_f64(requests as f64));
        due.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        due
    });
    let mut client = Grpc::new(channel).max_encoding_message_size(64 << 20);
    if pace.is_gzip {
        client = client.send_compressed(CompressionEncoding::Gzip);
    }
    let path = PathAndQuery::from_static(sender.path());
    let (mut items, mut refused, mut took) = (0, 0, Vec::new());
    while Instant::now() < until {
        if let Some(due) = &mut due {
            due.tick().await;
        }
        client.ready().await?;
        let (message, n) = sender.next();
        let message = tonic::Request::new(Bytes::from(message));
        let asked = Instant::now();
        match client.unary(message, path.clone(), Sending).await {
            Ok(_) => {
                items += n;
                took.push(asked.elapsed().as_secs_f64() * 1e3);
            }
            Err(_) => refused += 1,
        }
    }
    Ok((items, refused, took))
}

pub(crate) fn free_port() -> anyhow::Result<u16> {
    free_ports::<1>().map(|[port]| port)
}

/// No two of them the same: all are held until the last one is found.
fn free_ports<const N: usize>() -> anyhow::Result<[u16; N]> {
    let held: Vec<_> =
        (0..N).map(|_| std::net::TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>()?;
    let mut ports = [0; N];
    for (port, listener) in ports.iter_mut().zip(&held) {
        *port = listener.local_addr()?.port();
    }
    Ok(ports)
}
