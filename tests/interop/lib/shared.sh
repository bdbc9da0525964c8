# Two gateways that share answers through one real Redis, which is killed and started again.

shared() {
  local total=$work/shared.out
  command -v redis-server >/dev/null || from_apt redis-server
  build_gateway
  rm -rf "$work/shared"
  mkdir -p "$work/shared"
  "$work/venv/bin/python" "$here/shared.py" "$gateway" "$work/shared" "$work/venv/bin/mcp-server-time" |
    tee "$total" || true
  tally "$total"
}
