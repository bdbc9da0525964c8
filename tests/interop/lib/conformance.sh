# The conformance suite against several ways of serving, and calling, the same things.

# A column is one way. `bare` is plain rmcp, which the others must equal.
columns=(${INTEROP_COLUMNS:-bare stack gateway-http gateway-stdio})

# LABEL | CHECKS | SUITE | RUNS: how many checks pass when all do, which of the two installed suites,
# and with what arguments, runs parted by `;`. The counts are of the pinned suites: a run that checks
# less than that has lost something.
server_rows=(
  "2025-03-26 | 3 | 0.2 | --suite all --spec-version 2025-03-26"
  "2025-06-18 | 56 | 0.2 | --suite all --spec-version 2025-06-18"
  "2025-11-25 | 83 | 0.2 | --suite all --spec-version 2025-11-25"
  "2026-07-28 | 153 | 0.2 | --suite all --spec-version 2026-07-28"
  "requirements 2025-11-25 | 83 | 0.2 | --requirements 2025-11-25"
  "requirements 2026-07-28 | 197 | 0.2 | --requirements 2026-07-28"
  "skills extension | 45 | 0.2 | --scenario sep-2640-skills-directory; --scenario sep-2640-skills-enumeration; --scenario sep-2640-skills-manifest"
  "2025-06-18, suite 0.1 | 26 | 0.1 | --suite all --spec-version 2025-06-18"
  "2025-11-25, suite 0.1 | 46 | 0.1 | --suite all --spec-version 2025-11-25"
)

# LABEL | CHECKS | SUITE | SCENARIOS, with the revision as the label's last word. Without `auth/*`:
# see src/client/scenarios.rs.
client_rows=(
  "client 2025-06-18 | 3 | 0.2 | initialize tools_call"
  "client 2025-11-25 | 20 | 0.2 | initialize tools_call elicitation-sep1034-client-defaults sse-retry json-schema-2020-12-preservation"
  "client 2026-07-28 | 64 | 0.2 | tools_call request-metadata sep-2322-client-request-state http-standard-headers http-custom-headers http-invalid-tool-headers json-schema-ref-no-deref json-schema-2020-12-preservation"
  "client skills 2026-07-28 | 4 | 0.2 | sep-2640-client-no-prefetch sep-2640-client-verify-digest sep-2640-client-verify-size sep-2640-client-verify-frontmatter"
)

# How each column is served, over HTTP.
serve_bare() {
  start "$1.log" "$target/conformance_server"
}

serve_stack() {
  start "$1.log" "$target/conformance_server" --layers
}

# The server behind the gateway is its own, so that columns can run side by side. Each of the suite's sessions has a
# connection of its own, as it has without the gateway: what the server says to no call in particular is for it.
serve_gateway-http() {
  start "$1.upstream.log" "$target/conformance_server"
  printf '[servers.bare]\nurl = "%s"\nper = "session"\n' "$url" >"$1.toml"
  start "$1.log" "$gateway" --config "$1.toml" --listen 127.0.0.1:0
}

serve_gateway-stdio() {
  printf '[servers.bare]\ncommand = "%s"\nargs = ["--stdio"]\nper = "session"\n' "$target/conformance_server" >"$1.toml"
  start "$1.log" "$gateway" --config "$1.toml" --listen 127.0.0.1:0
}

# The client under test in each column; a column without one has no client.
client_bare() { echo "$target/conformance_client"; }
client_stack() { echo "env CONFORMANCE_CLIENT=layers $target/conformance_client"; }

conformance() {
  local results=$work/results row
  cargo build --quiet --manifest-path "$root/Cargo.toml" -p rmcp-layers-interop --bins
  if [[ ${columns[*]} == *gateway* ]]; then
    build_gateway
  fi
  rm -rf "$results"
  mkdir -p "$results"
  for row in "${server_rows[@]}" "${client_rows[@]}"; do
    play_row "$row"
  done
  if ! compare >/dev/null; then
    play_faulty_again
  fi
  compare
}

compare() { python3 "$here/compare.py" "$work/results" "${columns[@]}"; }

# The suite gives a server a fixed time to send a notification, and on a busy machine even plain rmcp
# does not always keep it. So a row that is not as it should be is played once more, and then it counts.
play_faulty_again() {
  local row label
  mv "$results/rows" "$results/rows.all"
  for row in "${server_rows[@]}" "${client_rows[@]}"; do
    label=${row%% |*}
    grep -qxF "$label" "$results/faulty" || continue
    echo "again: $label"
    rm -rf "${results:?}/$label"
    play_row "$row"
  done
  mv "$results/rows.all" "$results/rows"
}

# Plays one row in all columns, side by side: the suite spends most of its time waiting. The servers are new,
# because the suite leaves some requests unanswered, which count as their caller's for a while.
play_row() {
  local label checks suite runs column at jobs=()
  IFS='|' read -r label checks suite runs < <(sed 's/ *| */|/g' <<<"$1")
  echo "$label|$checks" >>"$results/rows"
  for column in "${columns[@]}"; do
    [[ $label != client* ]] || declare -F "client_$column" >/dev/null || continue
    at=$results/$label/$column
    mkdir -p "$at"
    if [[ $label == client* ]]; then
      play_client "$at" "$suite" "${label##* }" "$("client_$column")" "$runs" &
    else
      "serve_$column" "$results/$column"
      play_server "$at" "$suite" "$url" "$runs" &
    fi
    jobs+=("$!")
  done
  # A bare `wait` would wait for the servers too.
  ((${#jobs[@]} == 0)) || wait "${jobs[@]}"
  stop_started
}

# A run that finds failures also exits with one: what counts is what it wrote.
play_server() {
  local at=$1 suite=$2 url=$3 runs run
  IFS=';' read -ra runs <<<"$4"
  for run in "${runs[@]}"; do
    # shellcheck disable=SC2086 # the arguments of one run
    suite "$suite" server --url "$url" $run -o "$at" >>"$at/log" 2>&1 || true
  done
}

play_client() {
  local at=$1 suite=$2 revision=$3 command=$4 scenario
  for scenario in $5; do
    # An extension's scenarios belong to no revision, and run only by force.
    suite "$suite" client --command "$command" --scenario "$scenario" \
      --spec-version "$revision" --force -o "$at" >>"$at/log" 2>&1 || true
  done
}

suite() {
  local version=$1
  shift
  case $version in
    0.1) node "$work/node_modules/conformance-0.1/dist/index.js" "$@" ;;
    0.2) node "$work/node_modules/$conformance/dist/index.js" "$@" ;;
  esac
}
