#!/bin/sh
# Builds tests/pf.rs for FreeBSD and runs it in a throw-away guest (/work/shared/freebsd-vm, or RUN_IN_FREEBSD).
#
# On a FreeBSD machine itself none of this is needed: kldload -n pf if_bridge if_epair; CI=true cargo test --test pf -- --test-threads=1
#
# CARGO_FREEBSD is a cargo that links for x86_64-unknown-freebsd. Everything else is found from the place of this file.
set -eu
here=$(cd "$(dirname "$0")/../.." && pwd)
cargo=${CARGO_FREEBSD:-$HOME/.cache/freebsd-rust/cargo-freebsd}
run=${RUN_IN_FREEBSD:-/work/shared/freebsd-vm/run-in-freebsd}
job=$(mktemp -d)
trap 'rm -rf "$job" "$job.out"' EXIT
cd "$here"
"$cargo" test --no-run --test pf --message-format=json-render-diagnostics > "$job/built"
program=$(sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' "$job/built" | tail -1)
cp "$program" "$job/pf"
rm "$job/built"
cat > "$job/run.sh" <<'JOB'
kldload -n pf if_bridge if_epair
export CI=true
exec ./pf --test-threads=1
JOB
"$run" "$job" "${1:-600}"
