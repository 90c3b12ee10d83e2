//! `warren exec INSTANCE -- CMD`: a command in an instance, on this terminal.

use std::io::IsTerminal;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::client::segment;
use super::follow::interrupts;
use super::{Client, Context, Fail, terminal};
use crate::daemon::api::{ExecRequest, Frame};
use crate::host::Status;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// An instance: its name, its id, or its service if that has one instance
    #[arg(value_name = "INSTANCE")]
    name: String,
    /// Give the command pipes even if this is a terminal
    #[arg(short = 'T', long)]
    no_terminal: bool,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<String>,
}

/// A command's end as an exit status, as shells count.
#[must_use]
pub fn exit_code(status: Status) -> u8 {
    let code = match status {
        Status::Exited(code) => code,
        Status::Signaled(signal) => 128 + signal,
        Status::TimedOut | Status::Unknown => 255,
    };
    u8::try_from(code & 255).unwrap_or(255)
}

pub async fn run(context: &Context, args: Args) -> Result<u8, Fail> {
    let on_terminal = !args.no_terminal && std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let request = ExecRequest {
        command: args.command,
        terminal: on_terminal.then(terminal::size),
        term: std::env::var("TERM").ok(),
    };
    let path = format!("/v1/instances/{}/exec", segment(&args.name));
    let connection = context.client().upgrade(&path, &request).await?;
    // From here on every way out drops it.
    let raw = on_terminal.then(terminal::Raw::enter).transpose()?;
    let (mut from, mut to) = tokio::io::split(connection);
    let (frames, mut outgoing) = mpsc::channel::<Frame>(16);
    tokio::spawn(feed(frames.clone()));
    tokio::spawn(async move {
        while let Some(frame) = outgoing.recv().await {
            if to.write_all(&frame.encode()).await.is_err() {
                return;
            }
        }
    });
    let mut resized =
        signal(SignalKind::window_change()).map_err(|e| Fail::new(format!("watching the terminal: {e}")))?;
    let resizing = tokio::spawn(async move {
        while on_terminal && resized.recv().await.is_some() {
            let (columns, rows) = terminal::size();
            if frames.send(Frame::Size(columns, rows)).await.is_err() {
                return;
            }
        }
    });
    let mut interrupt = interrupts()?;
    let mut incoming = Box::pin(async {
        let (mut out, mut err) = (tokio::io::stdout(), tokio::io::stderr());
        while let Some(frame) = Frame::read(&mut from).await {
            let written = match frame {
                Frame::Output(data) => write(&mut out, &data).await,
                Frame::Error(data) => write(&mut err, &data).await,
                Frame::End(status) => return Some(status),
                Frame::Input(_) | Frame::Size(..) => Ok(()),
            };
            if written.is_err() {
                // Nobody reads: the command is to notice, which it does when the connection goes.
                return Some(Status::Signaled(13));
            }
        }
        None
    });
    let ended = tokio::select! {
        ended = &mut incoming => ended,
        // With pipes, Ctrl-C is for the command: the daemon kills it when the connection closes.
        () = interrupt.recv() => Some(Status::Signaled(2)),
    };
    drop(raw);
    resizing.abort();
    match ended {
        Some(status) => Ok(exit_code(status)),
        None => Err(Fail::of(1, "unreachable", "the connection to the command was lost")
            .hint("the instance or the daemon ended; `warren ps` tells")),
    }
}

async fn write(to: &mut (impl tokio::io::AsyncWrite + Unpin), data: &[u8]) -> std::io::Result<()> {
    to.write_all(data).await?;
    to.flush().await
}

/// Standard input, and its end.
async fn feed(frames: mpsc::Sender<Frame>) {
    let mut input = tokio::io::stdin();
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(count @ 1..) = input.read(&mut buffer).await {
        if frames.send(Frame::Input(buffer[..count].to_vec())).await.is_err() {
            return;
        }
    }
    let _ = frames.send(Frame::Input(Vec::new())).await;
}

/// Runs a command in an instance and gives what it printed: for the demo.
pub async fn capture(
    client: &Client,
    name: &str,
    command: &[&str],
) -> Result<(Status, String, String), Fail> {
    let request = ExecRequest {
        command: command.iter().map(|word| (*word).to_owned()).collect(),
        terminal: None,
        term: None,
    };
    let mut connection = client.upgrade(&format!("/v1/instances/{}/exec", segment(name)), &request).await?;
    // A command that has ended by now hears nothing more, but what it said is still to be read.
    let _ = connection.write_all(&Frame::Input(Vec::new()).encode()).await;
    let (mut out, mut err) = (Vec::new(), Vec::new());
    while let Some(frame) = Frame::read(&mut connection).await {
        match frame {
            Frame::Output(data) => out.extend(data),
            Frame::Error(data) => err.extend(data),
            Frame::End(status) => {
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                return Ok((status, text(&out), text(&err)));
            }
            Frame::Input(_) | Frame::Size(..) => {}
        }
    }
    Err(Fail::of(1, "unreachable", format!("the connection to `{}` in {name} was lost", command.join(" "))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_counted_as_shells_do() {
        assert_eq!(exit_code(Status::Exited(3)), 3);
        assert_eq!(exit_code(Status::Signaled(9)), 137);
        assert_eq!(exit_code(Status::Unknown), 255);
    }
}
