# Other people's servers behind the gateway, and other people's clients in front of it.

build_gateway() {
  cargo build --quiet --manifest-path "$root/Cargo.toml" --example gateway
}

# NAME | COMMAND | ARGUMENTS: real servers, as the gateway starts them.
server_list() {
  local node_bin modules=$work/node_modules/@modelcontextprotocol
  node_bin=$(command -v node)
  mkdir -p "$work/files"
  # What the gateway sends to this one is noted: that a call was cancelled shows nowhere else.
  echo "everything|bash|$here/lib/noted.sh $work/everything.sent $node_bin $modules/server-everything/dist/index.js stdio"
  echo "filesystem|$node_bin|$modules/server-filesystem/dist/index.js $work/files"
  echo "memory|$node_bin|$modules/server-memory/dist/index.js"
  echo "time|$work/venv/bin/mcp-server-time|--local-timezone UTC"
}

servers() {
  local name command arguments toml total=$work/servers.out
  build_gateway
  : >"$total"
  while IFS='|' read -r name command arguments; do
    toml=$work/$name.toml
    rm -rf "$work/files" "$work/memory.json" "$work/everything.sent"
    mkdir -p "$work/files"
    {
      printf '[servers.%s]\ncommand = "%s"\n' "$name" "$command"
      # shellcheck disable=SC2086 # the arguments, one by one
      printf 'args = [%s]\n' "$(printf '"%s", ' $arguments)"
      printf 'env = { MEMORY_FILE_PATH = "%s" }\n' "$work/memory.json"
    } >"$toml"
    start "$work/$name.log" "$gateway" --config "$toml" --listen 127.0.0.1:0
    "$work/venv/bin/python" "$here/servers.py" "$name" "$url" "$work/files" | tee -a "$total" || true
    stop_started
  done < <(server_list)
  tally "$total"
}

clients() {
  local total=$work/clients.out python=$work/venv/bin/python
  build_gateway
  : >"$total"
  start "$work/clients.log" "$gateway" --listen 127.0.0.1:0
  # The TypeScript SDK is looked for from where the script is, and it is installed below $work.
  cp "$here/clients.mjs" "$work/clients.mjs"
  "$python" "$here/clients.py" http "$url" | tee -a "$total" || true
  "$python" "$here/clients.py" stdio "$gateway" | tee -a "$total" || true
  node "$work/clients.mjs" http "$url" | tee -a "$total" || true
  node "$work/clients.mjs" stdio "$gateway" | tee -a "$total" || true
  stop_started
  tally "$total"
}

# Closes a stage whose scripts print `ok NAME` and `FAIL NAME WHY`.
tally() {
  local passed failed
  passed=$(grep -c '^ok ' "$1" || true)
  failed=$(grep -c '^FAIL ' "$1" || true)
  echo "$passed passed, $failed failed"
  ((passed > 0 && failed == 0))
}
