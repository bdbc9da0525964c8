# What a store promises, two gateways that share answers and budgets, and orchestrators that take over each other's
# plans, with one real Redis, which is killed and started again.

shared() {
  local total=$work/shared.out
  command -v redis-server >/dev/null || from_apt redis-server
  build_gateway
  cargo build --quiet --manifest-path "$root/Cargo.toml" -p rmcp-layers-interop --bin store_suite \
    --bin delegate_processes
  rm -rf "$work/shared"
  mkdir -p "$work/shared"
  "$work/venv/bin/python" "$here/shared.py" "$gateway" "$work/shared" "$work/venv/bin/mcp-server-time" \
    "$target/store_suite" "$target/delegate_processes" |
    tee "$total" || ended_badly "$total"
  tally "$total"
}
