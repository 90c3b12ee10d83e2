//! x
use super::{Fail, out::Output};
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub output: Output,
}
pub fn run(_: Args) -> Result<u8, Fail> {
    Err(Fail::new("later"))
}
