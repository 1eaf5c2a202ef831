//! `rollguard demo`: the gateway, a small shop that sends it real OTLP, and a deployer that acts on its
//! webhook, all in one process and on loopback, so that a newcomer sees a bad version caught and rolled back
//! within a minute.
//!
//! `stage.rs` what happens and how it must end | `shop.rs`, `spans.rs` the traffic | `hook.rs` the deployer |
//! `scratch.rs` the folder and the policy | `picture.rs`, `screen.rs` what is seen. Everything goes through
//! the doors that a real service would use: OTLP/gRPC in, the deployment by `POST /api/v1/deployments`, the
//! signed webhook out. Only the picture is read from the published board directly.

mod hook;
mod picture;
mod scratch;
mod screen;
mod shop;
mod spans;
mod stage;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::gateway::{Gateway, StartError};
use crate::model::{NANOS_PER_SECOND, UnixNanos};
use crate::pipeline::Board;
use crate::pipeline::clock::{Clock, SystemClock};
use crate::remedy::SecretError;
use crate::telemetry;
use hook::Hook;
use picture::{Addresses, Meter, Picture};
use scratch::Scratch;
use screen::Screen;
use shop::{SERVICE, Shop, VERSIONS};
use spans::{ENVIRONMENT, Exporter};
use stage::{Director, Order, Script};

pub use stage::Scenario;

/// How often there is something new to show; the gateway judges once a second.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How long the gateway may take to answer.
const API_TIMEOUT: Duration = Duration::from_secs(10);

/// Why the demo could not be played.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The runtime, its signals, the scratch folder or the webhook's receiver.
    #[error("set up the demo")]
    Setup(#[from] io::Error),
    /// The secret just made.
    #[error("make a webhook secret")]
    Secret(#[from] SecretError),
    /// A part of the gateway.
    #[error("start the gateway")]
    Start(#[from] StartError),
    /// The shop's client.
    #[error("connect the shop to the gateway")]
    Shop(#[from] tonic::transport::Error),
    /// The client for the API.
    #[error("set up the client for the API")]
    Tls(#[from] rustls::Error),
    /// The deployment could not be started.
    #[error("start the deployment through the API")]
    Api(#[from] reqwest::Error),
    /// Somebody pressed Ctrl-C.
    #[error("interrupted")]
    Interrupted,
}

/// Plays a scenario and shows it; says whether it ended as it should.
///
/// # Errors
/// When a part could not be started, or somebody ended it early.
pub fn demo(scenario: Scenario) -> Result<bool, DemoError> {
    // Logs would disturb the picture; whoever asks for them gets them.
    if std::env::var_os("RUST_LOG").is_some_and(|value| !value.is_empty()) {
        let _ = telemetry::init_log();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(play(Script::of(scenario), Arc::new(SystemClock)))
}

async fn play(script: Script, clock: Arc<dyn Clock>) -> Result<bool, DemoError> {
    let terminate = signal(SignalKind::terminate())?;
    let scratch = Scratch::new()?;
    let (secret_file, secret) = scratch.secret()?;
    let hook = Hook::listen(secret?, Arc::clone(&clock)).await?;
    let config = scratch::config(scratch.database(), hook.url(), &secret_file);
    let gateway = Gateway::start(config, Arc::clone(&clock)).await?;
    let played = perform(script, &gateway, hook, clock, terminate).await;
    gateway.stop().await;
    played
}

/// The play itself, with the gateway running.
async fn perform(
    script: Script,
    gateway: &Gateway,
    hook: Hook,
    clock: Arc<dyn Clock>,
    terminate: Signal,
) -> Result<bool, DemoError> {
    let grpc = gateway.grpc_address().to_string();
    let addresses = Addresses { api: format!("http://{}", gateway.api_address()), grpc };
    let exporter = Exporter::new(format!("http://{}", addresses.grpc))?;
    let shop = Shop::open(&exporter, Director::opening(), &clock);
    let mut play = Play {
        opened: clock.now(),
        clock,
        board: gateway.board(),
        director: Director::new(script),
        meter: Meter::default(),
        screen: Screen::new(),
        addresses,
        shop,
        hook,
    };
    let ended = play.until_the_end(terminate).await;
    if ended.is_ok() {
        play.close();
    }
    play.shop.close().await;
    play.hook.stop().await;
    ended.map(|()| play.director.ending.is_some_and(|ending| ending.as_expected))
}

struct Play {
    clock: Arc<dyn Clock>,
    opened: UnixNanos,
    board: Arc<ArcSwap<Board>>,
    director: Director,
    meter: Meter,
    screen: Screen,
    addresses: Addresses,
    shop: Shop,
    hook: Hook,
}

impl Play {
    async fn until_the_end(&mut self, mut terminate: Signal) -> Result<(), DemoError> {
        let mut timer = tokio::time::interval(LOOK_EVERY);
        timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => return Err(DemoError::Interrupted),
                _ = terminate.recv() => return Err(DemoError::Interrupted),
                _ = timer.tick() => {}
            }
            self.look().await?;
            if self.director.ending.is_some() {
                return Ok(());
            }
        }
    }

    /// One look at the board, and what follows from it.
    async fn look(&mut self) -> Result<(), DemoError> {
        let at_s = self.at_s();
        let board = self.board.load_full();
        self.meter.see(&board);
        let deployment = board.deployments.iter().find(|d| d.candidate == VERSIONS[1]).cloned();
        if let Some(deployment) = deployment.as_deref() {
            self.director.tell_history(at_s, deployment);
            // The webhook may be faster than the board; the story has its order all the same.
            while deployment.is_final()
                && let Ok(message) = self.hook.messages.try_recv()
            {
                self.director.webhook(at_s, &message);
            }
        }
        for order in self.director.step(at_s, deployment.as_deref()) {
            match order {
                Order::Announce => announce(&self.addresses.api).await?,
                Order::Traffic(load) => self.shop.change(load),
            }
        }
        self.screen.show(&Picture {
            at_s,
            director: &self.director,
            addresses: &self.addresses,
            board: &board,
            meter: &self.meter,
            deployment: deployment.as_deref(),
        });
        Ok(())
    }

    fn close(&mut self) {
        let board = self.board.load_full();
        let deployment = board.deployments.iter().find(|d| d.candidate == VERSIONS[1]).cloned();
        let picture = Picture {
            at_s: self.at_s(),
            director: &self.director,
            addresses: &self.addresses,
            board: &board,
            meter: &self.meter,
            deployment: deployment.as_deref(),
        };
        self.screen.close(&picture, self.shop.sent());
    }

    /// Seconds since the shop opened.
    fn at_s(&self) -> f64 {
        self.clock.now().since(self.opened) as f64 / NANOS_PER_SECOND as f64
    }
}

/// Starts the deployment as a pipeline would.
async fn announce(api: &str) -> Result<(), DemoError> {
    // Plain HTTP to ourselves: neither a proxy nor the system's certificates are needed, and there may be none.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let client =
        reqwest::Client::builder().no_proxy().tls_backend_preconfigured(tls).timeout(API_TIMEOUT).build()?;
    let [baseline, version] = VERSIONS;
    let body = serde_json::json!({
        "service": SERVICE,
        "environment": ENVIRONMENT,
        "version": version,
        "baseline": baseline,
        "url": "https://ci.example.com/checkout/runs/42",
        "commit": "4f2a9c1",
    });
    let request = client.post(format!("{api}/api/v1/deployments")).header("content-type", "application/json");
    request.body(body.to_string()).send().await?.error_for_status()?;
    Ok(())
}
