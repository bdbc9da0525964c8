# Processes started here, and how they end: each by its own id, when the shell that started it does.

started=()

fail() {
  echo "$*" >&2
  exit 1
}

# Starts a server that prints `listening on URL`, with its errors in a log: start LOG COMMAND...
# Leaves the URL in $url.
start() {
  local log=$1 fifo out line
  shift
  fifo=$(mktemp -u "$work/XXXXXX.out")
  mkfifo "$fifo"
  "$@" >"$fifo" 2>"$log" &
  started+=("$!")
  trap stop_started EXIT
  exec {out}<"$fifo"
  rm "$fifo"
  while read -r -t 60 -u "$out" line; do
    if [[ $line == *"listening on http"* ]]; then
      url=${line##*listening on }
      url=${url%% *}
      return
    fi
  done
  fail "$1 did not say where it listens: $(tail -n 5 "$log")"
}

stop_started() {
  local id
  for id in "${started[@]}"; do
    kill "$id" 2>/dev/null || true
  done
  for id in "${started[@]}"; do
    wait "$id" 2>/dev/null || true
  done
  started=()
}
