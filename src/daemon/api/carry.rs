//! Carries the bytes between a command in an instance and who asked for it.
//!
//! Three may keep the others waiting, and none may do so for ever: a command that does not read, a caller that does not read, and
//! processes that the command left behind, who hold its streams.

use std::os::fd::OwnedFd;
use std::time::Duration;

use nix::pty::{Winsize, openpty};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::exec::Frame;
use crate::host::Status;

/// How long after a command's end its streams are waited at: those it left behind may hold them for ever.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// What is read of a stream after the command's end, for those left behind may write for ever: as much as a pipe can hold, so that
/// all the command wrote is in it.
const LAST_BYTES: usize = 1 << 20;
/// How long a caller may take nothing at all once the command has ended. A pager waits for its reader, and its reader may be at lunch.
pub(super) const PATIENCE: Duration = Duration::from_secs(3600);
/// How often it is asked whether the caller is there while the command takes no input: what the caller sent stands before the end
/// of its connection, so that only writing tells.
const ASK: Duration = Duration::from_secs(1);

/// The command's streams as we hold them.
pub(super) enum Ours {
    Pipes { input: pipe::Sender, output: pipe::Receiver, error: pipe::Receiver },
    Terminal(tokio::fs::File, OwnedFd),
}

/// A command's streams: our ends, and its.
pub(super) fn streams(terminal: Option<(u16, u16)>) -> std::io::Result<(Ours, [OwnedFd; 3])> {
    let Some((columns, rows)) = terminal else {
        // A program that the daemon executes meanwhile would hold them open.
        let pipe = || nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC);
        let (theirs_in, input) = pipe()?;
        let (output, theirs_out) = pipe()?;
        let (error, theirs_err) = pipe()?;
        let ours = Ours::Pipes {
            input: pipe::Sender::from_owned_fd(input)?,
            output: pipe::Receiver::from_owned_fd(output)?,
            error: pipe::Receiver::from_owned_fd(error)?,
        };
        return Ok((ours, [theirs_in, theirs_out, theirs_err]));
    };
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    let pty = openpty(&size, None)?;
    for end in [&pty.master, &pty.slave] {
        nix::fcntl::fcntl(end, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC))?;
    }
    let (out, err) = (pty.slave.try_clone()?, pty.slave.try_clone()?);
    let control = pty.master.try_clone()?;
    let master = tokio::fs::File::from_std(std::fs::File::from(pty.master));
    Ok((Ours::Terminal(master, control), [pty.slave, out, err]))
}

/// Carries bytes until the command has ended and the caller has all it wrote and how it ended, or the caller is gone: it left, or
/// took nothing for `patience` after the end.
pub(super) async fn carry(
    connection: impl AsyncRead + AsyncWrite,
    ours: Ours,
    ended: impl Future<Output = Status>,
    patience: Duration,
) {
    let (from_caller, to_caller) = tokio::io::split(connection);
    let (frames, outgoing) = mpsc::channel::<Frame>(64);
    let (typed, to_type) = mpsc::channel(4);
    // Whoever waits for it learns that the command has ended.
    let (running, over) = watch::channel(());
    let mut pumps = JoinSet::new();
    let input: Box<dyn AsyncWrite + Send + Unpin>;
    let mut control = None;
    match ours {
        Ours::Pipes { input: pipe, output, error } => {
            input = Box::new(pipe);
            pumps.spawn(pump(output, frames.clone(), Frame::Output, over.clone()));
            pumps.spawn(pump(error, frames.clone(), Frame::Error, over.clone()));
        }
        Ours::Terminal(master, fd) => {
            let reader = master.try_clone().await;
            input = Box::new(master);
            control = Some(fd);
            if let Ok(reader) = reader {
                pumps.spawn(pump(reader, frames.clone(), Frame::Output, over.clone()));
            }
        }
    }
    let mut telling = std::pin::pin!(tell(to_caller, outgoing, over, patience));
    let status = tokio::select! {
        status = ended => status,
        // Nobody is there to be told.
        () = hear(from_caller, typed, frames.clone(), control) => return,
        () = feed(input, to_type) => return,
        () = &mut telling => return,
    };
    drop(running);
    let last = async move {
        while pumps.join_next().await.is_some() {}
        let _ = frames.send(Frame::End(status)).await;
    };
    tokio::join!(last, telling);
}

/// Takes what the caller sends, until the caller is gone.
async fn hear(
    mut from_caller: impl AsyncRead + Unpin,
    typed: mpsc::Sender<Vec<u8>>,
    frames: mpsc::Sender<Frame>,
    control: Option<OwnedFd>,
) {
    while let Some(frame) = Frame::read(&mut from_caller).await {
        match frame {
            Frame::Input(data) => {
                let mut place = std::pin::pin!(typed.reserve());
                let place = loop {
                    tokio::select! {
                        place = &mut place => break place,
                        // A full channel is being told to the caller anyway.
                        () = sleep(ASK) => drop(frames.try_send(Frame::Output(Vec::new()))),
                    }
                };
                match place {
                    Ok(place) => place.send(data),
                    Err(_) => return,
                }
            }
            Frame::Size(columns, rows) => resize(control.as_ref(), columns, rows),
            _ => {}
        }
    }
}

/// Gives the command its input. An empty piece is its end.
async fn feed(mut input: Box<dyn AsyncWrite + Send + Unpin>, mut typed: mpsc::Receiver<Vec<u8>>) {
    while let Some(data) = typed.recv().await {
        if data.is_empty() || input.write_all(&data).await.is_err() {
            // What is sent to a command that reads no more is taken and lost.
            input = Box::new(tokio::io::sink());
        }
    }
}

/// Gives the caller what comes for it, until there is no more or the caller is gone.
async fn tell(
    mut to_caller: impl AsyncWrite + Unpin,
    mut outgoing: mpsc::Receiver<Frame>,
    mut over: watch::Receiver<()>,
    patience: Duration,
) {
    while let Some(frame) = outgoing.recv().await {
        let bytes = frame.encode();
        let too_long = async {
            let _ = over.changed().await;
            sleep(patience).await;
        };
        tokio::select! {
            told = to_caller.write_all(&bytes) => if told.is_err() { return },
            () = too_long => return,
        }
    }
    let _ = to_caller.shutdown().await;
}

/// Takes what comes from a stream, until it ends or the command has ended and what it wrote is out. A slow caller's time is not
/// the stream's: only the reading is bounded.
async fn pump(
    mut from: impl AsyncRead + Unpin,
    to: mpsc::Sender<Frame>,
    kind: fn(Vec<u8>) -> Frame,
    mut over: watch::Receiver<()>,
) {
    let mut buffer = vec![0; 16 * 1024];
    let (mut time, mut bytes) = (LAST_WORDS, LAST_BYTES);
    let mut running = true;
    while bytes > 0 {
        // The other end of a terminal closing is an error on Linux, an end elsewhere.
        let read = if running {
            tokio::select! {
                read = from.read(&mut buffer) => read,
                _ = over.changed() => {
                    running = false;
                    continue;
                }
            }
        } else {
            let asked = Instant::now();
            let Ok(read) = timeout(time, from.read(&mut buffer)).await else { return };
            time = time.saturating_sub(asked.elapsed());
            bytes = bytes.saturating_sub(*read.as_ref().unwrap_or(&0));
            read
        };
        let Ok(count @ 1..) = read else { return };
        if to.send(kind(buffer[..count].to_vec())).await.is_err() {
            return;
        }
    }
}

#[allow(unsafe_code)]
fn resize(terminal: Option<&OwnedFd>, columns: u16, rows: u16) {
    use std::os::fd::AsRawFd;
    let Some(terminal) = terminal else { return };
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCSWINSZ reads a winsize from the pointer, which lives for the call. A failure leaves the old size.
    unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use tokio::net::UnixStream;
    use tokio::sync::oneshot;

    use super::*;

    const SOON: Duration = Duration::from_secs(20);

    /// A command of this test's: the caller's end, the command's three streams, and what says that it ended.
    fn command(
        patience: Duration,
    ) -> (UnixStream, [OwnedFd; 3], oneshot::Sender<Status>, tokio::task::JoinHandle<()>) {
        let (caller, ours) = UnixStream::pair().unwrap();
        let (streams, theirs) = streams(None).unwrap();
        let (end, ended) = oneshot::channel();
        let ended = async { ended.await.unwrap_or(Status::Unknown) };
        (caller, theirs, end, tokio::spawn(carry(ours, streams, ended, patience)))
    }

    #[tokio::test]
    async fn a_slow_caller_gets_all_the_command_wrote_and_how_it_ended() {
        let (mut caller, [_, out, err], end, carried) = command(SOON);
        nix::fcntl::fcntl(&out, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK)).unwrap();
        let (tell, written) = oneshot::channel();
        let writer = std::thread::spawn(move || {
            // As much as fits on the way to a caller that takes nothing.
            let (mut out, mut all, mut full) = (std::fs::File::from(out), 0, 0);
            while full < 30 {
                match out.write(&[b'x'; 4096]) {
                    Ok(count) => (all, full) = (all + count, 0),
                    Err(_) => full += 1,
                }
                if full > 0 {
                    std::thread::sleep(Duration::from_millis(10));
                }
            }
            drop(out);
            end.send(Status::Exited(7)).unwrap();
            tell.send(all).unwrap();
            // One that the command left behind goes on writing: it is not waited for.
            let mut left = std::fs::File::from(err);
            while left.write_all(b"left behind").is_ok() {}
        });
        let all = timeout(SOON, written).await.expect("the command waits for its caller").unwrap();
        sleep(LAST_WORDS * 2).await;
        let (mut taken, mut ended) = (0, None);
        while let Some(frame) = timeout(SOON, Frame::read(&mut caller)).await.expect("it goes on for ever") {
            match frame {
                Frame::Output(data) => taken += data.len(),
                Frame::End(status) => ended = Some(status),
                _ => {}
            }
        }
        assert_eq!((taken, ended), (all, Some(Status::Exited(7))));
        timeout(SOON, carried).await.expect("it goes on for ever").unwrap();
        writer.join().unwrap();
    }

    #[tokio::test]
    async fn a_caller_that_takes_nothing_of_an_ended_command_is_given_up() {
        let (_caller, [_, out, _], end, carried) = command(Duration::from_millis(100));
        let writer = std::thread::spawn(move || std::fs::File::from(out).write_all(&vec![b'x'; 1 << 20]));
        end.send(Status::Exited(0)).unwrap();
        timeout(SOON, carried).await.expect("it waits for ever").unwrap();
        drop(writer.join().unwrap());
    }

    #[tokio::test]
    async fn a_caller_that_leaves_is_noticed_while_the_command_takes_no_input() {
        let (mut caller, _theirs, _end, carried) = command(SOON);
        let piece = Frame::Input(vec![b'x'; 16 * 1024]).encode();
        // As much as fits: in the pipe, on the way to it, and in the connection.
        while timeout(Duration::from_millis(300), caller.write_all(&piece)).await.is_ok() {}
        drop(caller);
        timeout(SOON, carried).await.expect("it is not noticed").unwrap();
    }
}
