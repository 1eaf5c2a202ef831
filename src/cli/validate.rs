//! `rollguard validate`: is this file a configuration, and if not, where and why.

use std::process::ExitCode;
use std::time::Duration;

use super::args::ValidateArgs;
use super::client::{self, Client};
use super::lint::lint;
use super::{ERROR, FAILED, output};
use crate::config::{self, Config, Files};

const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);
/// The file is sound, and something about the live series stands against it.
const AGAINST: u8 = 2;

pub(super) fn run(args: &ValidateArgs) -> ExitCode {
    let Some(file) = &args.file else {
        output::text(config::DEFAULT_FILE);
        return ExitCode::SUCCESS;
    };
    let files = if args.without_files { Files::Elsewhere } else { Files::Tried };
    match config::load(file, files) {
        Ok(config) => {
            config.receiver.notes().iter().for_each(|note| output::error(&format!("note: {note}")));
            output::line(&format!("{}: ok", file.display()));
            match &args.against {
                Some(url) => against(url, args.share, &config),
                None => ExitCode::SUCCESS,
            }
        }
        Err(error) => {
            output::error(&format!("{} cannot be used\n{}", file.display(), output::chain(&error)));
            ExitCode::from(FAILED)
        }
    }
}

/// Holds a sound file against what a running Rollguard sees.
fn against(url: &str, share: f64, config: &Config) -> ExitCode {
    let ask = async {
        let client = Client::new(url, None, REQUEST_TIMEOUT)?;
        Ok((client.get("/api/v1/services", &[]).await?, client.get("/api/v1/objectives", &[]).await?))
    };
    match client::block_on(ask) {
        Ok((services, objectives)) => {
            let found = lint(config, &services, &objectives, share);
            found.iter().for_each(|line| output::line(&format!("note: {line}")));
            ExitCode::from(if found.is_empty() { 0 } else { AGAINST })
        }
        Err(error) => {
            output::error(&output::chain(&error));
            ExitCode::from(ERROR)
        }
    }
}
