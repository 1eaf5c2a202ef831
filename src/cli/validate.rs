//! `rollguard validate`: is this file a configuration, and if not, where and why.

use std::process::ExitCode;

use super::args::ValidateArgs;
use super::{FAILED, output};
use crate::config::{self, Files};

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
            ExitCode::SUCCESS
        }
        Err(error) => {
            output::error(&format!("{} cannot be used\n{}", file.display(), output::chain(&error)));
            ExitCode::from(FAILED)
        }
    }
}
