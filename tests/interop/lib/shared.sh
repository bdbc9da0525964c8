# What a store promises, and two gateways that share answers and budgets, with one real Redis, which is killed and
# started again.

shared() {
  local total=$work/shared.out
  command -v redis-server >/dev/null || from_apt redis-server
  build_gateway
  cargo build --quiet --manifest-path "$root/Cargo.toml" -p rmcp-layers-interop --bin store_suite
  rm -rf "$work/shared"
  mkdir -p "$work/shared"
  "$work/venv/bin/python" "$here/shared.py" "$gateway" "$work/shared" "$work/venv/bin/mcp-server-time" \
    "$target/store_suite" |
    tee "$total" || true
  tally "$total"
}
