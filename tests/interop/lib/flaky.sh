# A server that is killed at random behind the gateway, under load.

# For how long, and with which seed: the run prints the one it took.
flaky_seconds=${FLAKY_SECONDS:-60}
flaky_seed=${FLAKY_SEED:-$RANDOM$RANDOM}

flaky() {
  local total=$work/flaky.out dir=$work/flaky
  mkdir -p "$work"
  build_gateway
  cargo build --quiet --manifest-path "$root/Cargo.toml" -p rmcp-layers-interop --bin flaky_server --bin flaky_driver
  rm -rf "$dir"
  mkdir -p "$dir"
  cat >"$dir/gateway.toml" <<TOML
[retry]
max_retries = 10
base_delay_ms = 100
max_delay_ms = 10000
budget_per_sec = 500

[servers.flaky]
command = "$target/flaky_server"
args = ["$dir"]
trust_annotations = true
reconnect_max_secs = 1
TOML
  echo "seed $flaky_seed, $flaky_seconds s"
  start "$work/flaky.log" "$gateway" --config "$dir/gateway.toml" --listen 127.0.0.1:0
  "$target/flaky_driver" "$url" "$dir" "$flaky_seconds" "$flaky_seed" | tee "$total" || ended_badly "$total"
  stop_started
  tally "$total"
}
