# Four real servers, and the gateway's own registered tool, behind one gateway; and what becomes of their
# calls when one of them is killed.

multi() {
  local total=$work/multi.out python=$work/venv/bin/python mode
  build_gateway
  : >"$total"
  # The TypeScript SDK is looked for from where the script is, and it is installed below $work.
  cp "$here/checks.mjs" "$here/multi.mjs" "$work/"
  # Each has a gateway, and so servers, of its own: which process is killed is then never a question.
  for mode in legacy 2026-07-28; do
    multi_http "$python" "$here/multi.py" http "$mode"
    multi_stdio "$python" "$here/multi.py" stdio "$mode"
  done
  multi_http node "$work/multi.mjs" http
  multi_stdio node "$work/multi.mjs" stdio
  apps "$total"
  tally "$total"
}

multi_http() {
  multi_config
  start "$work/multi.log" "$gateway" --config "$work/multi.toml" --listen 127.0.0.1:0
  "$@" "$work/files" "$url" "${started[-1]}" 2>>"$work/multi.log" | tee -a "$total" || ended_badly "$total"
  stop_started
}

multi_stdio() {
  multi_config
  "$@" "$work/files" "$gateway" "$work/multi.toml" 2>>"$work/multi.log" | tee -a "$total" || ended_badly "$total"
}

# One gateway.toml with all of them, and nothing left of what they kept.
multi_config() {
  local name command arguments
  rm -rf "$work/files" "$work/memory.json"
  server_list | while IFS='|' read -r name command arguments; do
    server_toml "$name" "$command" "$arguments"
  done >"$work/multi.toml"
}

# An MCP App's server beside another: apps TOTAL
apps() {
  local python=$work/venv/bin/python mode map
  map=$work/node_modules/@modelcontextprotocol/server-map/dist/index.js
  {
    server_toml map "$(command -v node)" "$map --stdio"
    server_toml time "$work/venv/bin/mcp-server-time" "--local-timezone UTC"
  } >"$work/apps.toml"
  for mode in legacy 2026-07-28; do
    start "$work/apps.log" "$gateway" --config "$work/apps.toml" --listen 127.0.0.1:0
    "$python" "$here/apps.py" http "$mode" "$url" | tee -a "$1" || ended_badly "$1"
    stop_started
    "$python" "$here/apps.py" stdio "$mode" "$gateway" "$work/apps.toml" \
      2>>"$work/apps.log" | tee -a "$1" || ended_badly "$1"
  done
}
