#!/bin/sh
# Asks FreeBSD's own jail(8) about random files and compares its answers with ours: tests/freebsd/jailconf.sh [CASES] [SEED]
# RUN is what runs DIR/run.sh on FreeBSD and brings /job/out back as DIR.out; KEEP a file for some of the answers.
set -eu
cases=${1:-2000} seed=${2:-1}
run=${RUN:-../shared/freebsd-vm/run-in-freebsd}
here=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/job" "$work/job/cases"
cat > "$work/job/run.sh" <<'RUN'
#!/bin/sh
mkdir -p /job/out
cd "$(dirname "$0")/cases"
separator=$(printf '\001')
for file in *.conf; do
    printf '\002%s\n' "$file"
    jail -f "$file" -e "$separator" 2>/tmp/errors
    printf '\003%d\n' $?
    cat /tmp/errors
done > /job/out/said 2>/dev/null
RUN
cd "$here"
test="cargo test --quiet --test jailconf_oracle -- --ignored --nocapture"
WARREN_ORACLE_WRITE=$work/job/cases WARREN_ORACLE_CASES=$cases WARREN_ORACLE_SEED=$seed $test
"$run" "$work/job" 1800
WARREN_ORACLE_READ=$work/job.out/said WARREN_ORACLE_FILES=$work/job/cases WARREN_ORACLE_KEEP=${KEEP:-/dev/null} $test
