//! `rollguard deploy`: a pipeline's view of a running Rollguard. `wait` turns a verdict into an exit code.

mod report;
mod time;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Map, Value};

use super::client::{self, Client, ClientError};
use super::{ERROR, FAILED, output};
use crate::model::UnixNanos;
use crate::pipeline::clock::{Clock, SystemClock};
use crate::pipeline::human;

const DEFAULT_WAIT: Duration = Duration::from_secs(40 * 60);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_secs(1);
/// Inconclusive, or not decided in time.
const UNDECIDED: u8 = 2;

/// Flags of `deploy`.
#[derive(Debug, Clone, Args)]
pub struct DeployArgs {
    /// Where rollguard is
    #[arg(long, global = true, default_value = "http://127.0.0.1:9464")]
    pub url: String,
    /// File with the bearer token of rollguard's `api.token_file`
    #[arg(long, global = true, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// `wait`: give up after this long (default 40m); otherwise the limit of one request (default 15s)
    #[arg(long, global = true, value_parser = human::parse, value_name = "DURATION")]
    pub timeout: Option<Duration>,
    /// Print JSON
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do.
    #[command(subcommand)]
    pub action: Action,
}

/// What `deploy` can do.
#[derive(Debug, Clone, Subcommand)]
pub enum Action {
    /// Announce a deployment, before or after its first traffic
    Start(StartArgs),
    /// Show one deployment, or the latest ones
    Status(Target),
    /// Wait for the verdict: exit 0 pass, 1 fail, 2 inconclusive or timeout, 3 usage or connection
    Wait(Target),
    /// End a deployment
    Cancel {
        /// Id of the deployment
        id: String,
    },
}

/// Flags of `deploy start`.
#[derive(Debug, Clone, Args)]
pub struct StartArgs {
    /// Service, as `name` or `namespace/name`
    #[arg(long)]
    pub service: String,
    /// Version to judge
    #[arg(long, required_unless_present = "time")]
    pub version: Option<String>,
    /// Time of a change without a new version: the service after it is compared with what it showed before. `now`,
    /// from now (`+10m`, `-30s`), or RFC 3339; at most 60 s back and 24 h ahead
    #[arg(long, conflicts_with = "version", value_parser = time::parse, allow_hyphen_values = true)]
    pub time: Option<time::Time>,
    /// With `--time`: only requests with this value are compared: an `operation`, or a dimension of the service's
    /// policy such as `cloud.region=eu-1`. Repeat it for several, which hold together
    #[arg(long, requires = "time", value_parser = scope, value_name = "ATTRIBUTE=VALUE")]
    pub scope: Vec<(String, String)>,
    /// Version to compare with; by default the one with most traffic
    #[arg(long, conflicts_with = "time")]
    pub baseline: Option<String>,
    /// Environment; needed when the service has several
    #[arg(long)]
    pub environment: Option<String>,
    /// Link to the change or the pipeline run
    #[arg(long, value_name = "URL")]
    pub change_url: Option<String>,
    /// Commit of the new version
    #[arg(long)]
    pub commit: Option<String>,
    /// Kind of release, such as canary or migration: `policies` may have a `match.release` for it
    #[arg(long, value_name = "KIND")]
    pub release: Option<String>,
    /// Share of both versions' requests that is meant to go to the new one, such as `10%` or `0.1`, for a policy with an
    /// SLI of kind `traffic_share`. Start it again with another one at each step of a rollout
    #[arg(long, conflicts_with = "time", value_parser = share)]
    pub share: Option<f64>,
}

/// Which deployment.
#[derive(Debug, Clone, Args)]
pub struct Target {
    /// Id of the deployment
    #[arg(conflicts_with_all = ["service", "version", "environment"])]
    pub id: Option<String>,
    /// Service, as `name` or `namespace/name`
    #[arg(long)]
    pub service: Option<String>,
    /// Version that is judged
    #[arg(long)]
    pub version: Option<String>,
    /// Environment
    #[arg(long)]
    pub environment: Option<String>,
}

impl Target {
    fn query(&self) -> Vec<(&'static str, &str)> {
        let all =
            [("service", &self.service), ("version", &self.version), ("environment", &self.environment)];
        all.into_iter().filter_map(|(name, value)| value.as_deref().map(|v| (name, v))).collect()
    }
}

/// Carries the command out.
pub(super) fn run(args: &DeployArgs) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(act(args)),
        Err(error) => {
            output::error(&format!("start the runtime: {error}"));
            return ExitCode::from(ERROR);
        }
    };
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            output::error(&output::chain(&error));
            ExitCode::from(ERROR)
        }
    }
}

async fn act(args: &DeployArgs) -> Result<u8, ClientError> {
    let limit = match args.action {
        Action::Wait(_) => REQUEST_TIMEOUT,
        _ => args.timeout.unwrap_or(REQUEST_TIMEOUT),
    };
    let client = Client::new(&args.url, args.token_file.as_deref(), limit)?;
    match &args.action {
        Action::Start(start) => {
            let deployment =
                client.post("/api/v1/deployments", Some(body(start, SystemClock.now())?)).await?;
            show(args, &deployment);
        }
        Action::Status(target) => match &target.id {
            Some(id) => show(args, &client.get(&path(id), &[]).await?),
            None => show_list(args, &client.get("/api/v1/deployments", &target.query()).await?),
        },
        Action::Wait(target) => {
            return wait(args, &client, target, args.timeout.unwrap_or(DEFAULT_WAIT)).await;
        }
        Action::Cancel { id } => {
            let deployment = client.post(&format!("{}/cancel", path(id)), None).await?;
            show(args, &deployment);
        }
    }
    Ok(0)
}

fn path(id: &str) -> String {
    format!("/api/v1/deployments/{}", client::encode(id))
}

/// Attribute and value; the value may have `=` in it.
fn scope(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((attribute, value)) if !attribute.is_empty() && !value.is_empty() => {
            Ok((attribute.to_owned(), value.to_owned()))
        }
        _ => Err("write ATTRIBUTE=VALUE, such as cloud.region=eu-1 or \"operation=GET /pay\"".into()),
    }
}

/// `10%`, `10 %` or `0.1`.
fn share(text: &str) -> Result<f64, String> {
    let (number, unit) = text.strip_suffix('%').map_or((text, 1.0), |number| (number.trim_end(), 100.0));
    let share = number.parse::<f64>().ok().map(|number| number / unit);
    share
        .filter(|share| *share > 0.0 && *share <= 1.0)
        .ok_or_else(|| "write a part of all requests, such as 10% or 0.1, at most 100%".into())
}

/// Values by attribute.
fn scopes(pairs: &[(String, String)]) -> Result<Option<Value>, ClientError> {
    let mut values = Map::new();
    for (attribute, value) in pairs {
        if values.insert(attribute.clone(), value.as_str().into()).is_some() {
            let text = format!("--scope names {attribute} twice; start a deployment for each value");
            return Err(ClientError::Usage(text));
        }
    }
    Ok((!values.is_empty()).then_some(Value::Object(values)))
}

fn body(start: &StartArgs, now: UnixNanos) -> Result<Value, ClientError> {
    let time = start.time.map(|time| time.rfc3339(now));
    let fields = [
        ("service", Some(&start.service)),
        ("version", start.version.as_ref()),
        ("time", time.as_ref()),
        ("baseline", start.baseline.as_ref()),
        ("environment", start.environment.as_ref()),
        ("url", start.change_url.as_ref()),
        ("commit", start.commit.as_ref()),
        ("release", start.release.as_ref()),
    ];
    let set = fields.into_iter().filter_map(|(k, v)| v.map(|v| (k.to_owned(), Value::from(v.as_str()))));
    let scope = scopes(&start.scope)?.map(|scope| ("scope".to_owned(), scope));
    let share = start.share.map(|share| ("share".to_owned(), Value::from(share)));
    Ok(Value::Object(set.chain(scope).chain(share).collect::<Map<_, _>>()))
}

fn show(args: &DeployArgs, deployment: &Value) {
    if args.json {
        output::line(&format!("{deployment:#}"));
    } else {
        output::text(&report::one(deployment));
    }
}

fn show_list(args: &DeployArgs, list: &Value) {
    if args.json {
        output::line(&format!("{list:#}"));
    } else {
        output::text(&report::list(list));
    }
}

/// Polls until the verdict is final. A deployment that is named by service and version may begin later; a
/// connection that was there once may be lost for a while (a restart), within the same time limit.
async fn wait(
    args: &DeployArgs,
    client: &Client,
    target: &Target,
    limit: Duration,
) -> Result<u8, ClientError> {
    if target.id.is_none() && (target.service.is_none() || target.version.is_none()) {
        return Err(ClientError::Usage(
            "wait needs the id of a deployment, or --service and --version".into(),
        ));
    }
    let mut progress = Progress { args, client, target, seen: None, connected: false };
    match tokio::time::timeout(limit, progress.until_final()).await {
        Ok(outcome) => {
            let deployment = outcome?;
            show(args, &deployment);
            Ok(code(&deployment))
        }
        Err(_) if !progress.connected => {
            Err(ClientError::Usage(format!("no answer from {} in time", args.url)))
        }
        Err(_) => {
            let waited = humantime::format_duration(limit);
            match &progress.seen {
                Some(deployment) => {
                    show(args, deployment);
                    output::error(&format!("no verdict within {waited}"));
                }
                None => output::error(&format!("no such deployment began within {waited}")),
            }
            Ok(UNDECIDED)
        }
    }
}

struct Progress<'a> {
    args: &'a DeployArgs,
    client: &'a Client,
    target: &'a Target,
    /// As of the last answer.
    seen: Option<Value>,
    connected: bool,
}

impl Progress<'_> {
    async fn until_final(&mut self) -> Result<Value, ClientError> {
        loop {
            match self.look().await {
                Ok(Some(deployment)) => {
                    self.connected = true;
                    if deployment["final"] == Value::Bool(true) {
                        return Ok(deployment);
                    }
                    self.report(&deployment);
                    self.seen = Some(deployment);
                }
                Ok(None) => self.connected = true,
                Err(error) if self.connected && error.is_passing() => {}
                Err(error) => return Err(error),
            }
            tokio::time::sleep(POLL).await;
        }
    }

    async fn look(&self) -> Result<Option<Value>, ClientError> {
        if let Some(id) = &self.target.id {
            return self.client.get(&path(id), &[]).await.map(Some);
        }
        let mut query = self.target.query();
        query.push(("limit", "1"));
        let list = self.client.get("/api/v1/deployments", &query).await?;
        match list["deployments"][0]["id"].as_str() {
            Some(id) => self.client.get(&path(id), &[]).await.map(Some),
            None => Ok(None),
        }
    }

    /// Tells people that something moved; programs wait for the one document.
    fn report(&self, deployment: &Value) {
        let phase = |d: &Value| d["phase"].clone();
        if !self.args.json && self.seen.as_ref().map(phase) != Some(phase(deployment)) {
            output::line(&report::headline(deployment));
        }
    }
}

fn code(deployment: &Value) -> u8 {
    match deployment["verdict"].as_str() {
        Some("pass") => 0,
        Some("fail") => FAILED,
        _ => UNDECIDED,
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
