//! `rollguard explain`: what decided about a deployment, the sum, what would have turned it, and what could not have been
//! seen, asked of a running Rollguard.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::client::{self, Client, ClientError};
use super::{ERROR, output};

const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

/// Flags of `explain`.
#[derive(Debug, Clone, Args)]
pub struct ExplainArgs {
    /// Id of the deployment; the newest one of --service without it
    #[arg(required_unless_present = "service")]
    pub deployment: Option<String>,
    /// Service, as `name` or `namespace/name`
    #[arg(long, conflicts_with = "deployment")]
    pub service: Option<String>,
    /// Environment of the service
    #[arg(long, requires = "service")]
    pub environment: Option<String>,
    /// Form of the answer
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
    /// Where rollguard is
    #[arg(long, default_value = "http://127.0.0.1:9464")]
    pub url: String,
}

/// Form of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For a terminal or a mail
    Text,
    /// For a ticket or a chat
    Markdown,
    /// For programs
    Json,
}

/// Carries the command out.
pub(super) fn run(args: &ExplainArgs) -> ExitCode {
    match client::block_on(ask(args)) {
        Ok(text) => {
            output::text(&text);
            ExitCode::SUCCESS
        }
        Err(error) => {
            output::error(&output::chain(&error));
            ExitCode::from(ERROR)
        }
    }
}

async fn ask(args: &ExplainArgs) -> Result<String, ClientError> {
    let client = Client::new(&args.url, None, REQUEST_TIMEOUT)?;
    let id = match (&args.deployment, &args.service) {
        (Some(id), _) => id.clone(),
        (None, service) => newest(&client, service.as_deref().unwrap_or_default(), args).await?,
    };
    let path = format!("/api/v1/deployments/{}/explanation", client::encode(&id));
    match args.format {
        Format::Text => client.get_text(&path, &[("format", "text")]).await,
        Format::Markdown => client.get_text(&path, &[("format", "markdown")]).await,
        Format::Json => Ok(format!("{:#}\n", client.get(&path, &[]).await?)),
    }
}

async fn newest(client: &Client, service: &str, args: &ExplainArgs) -> Result<String, ClientError> {
    let mut query = vec![("service", service), ("limit", "1")];
    query.extend(args.environment.as_deref().map(|environment| ("environment", environment)));
    let list = client.get("/api/v1/deployments", &query).await?;
    let id = list["deployments"][0]["id"].as_str().map(str::to_owned);
    id.ok_or_else(|| ClientError::Usage(format!("no deployment of {service}; see `rollguard deploy status`")))
}
