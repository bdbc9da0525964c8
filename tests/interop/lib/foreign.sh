# Other people's servers behind the gateway, and other people's clients in front of it.

build_gateway() {
  cargo build --quiet --manifest-path "$root/Cargo.toml" --example gateway
}

# NAME | COMMAND | ARGUMENTS: real servers, as the gateway starts them. server_list [NOTES] notes there
# what the gateway sends to the first: that a call was cancelled shows nowhere else.
server_list() {
  local node_bin modules=$work/node_modules/@modelcontextprotocol everything
  node_bin=$(command -v node)
  mkdir -p "$work/files"
  everything="$modules/server-everything/dist/index.js stdio"
  case ${1:-} in
    '') echo "everything|$node_bin|$everything" ;;
    *) echo "everything|bash|$here/lib/noted.sh $1 $node_bin $everything" ;;
  esac
  echo "filesystem|$node_bin|$modules/server-filesystem/dist/index.js $work/files"
  echo "memory|$node_bin|$modules/server-memory/dist/index.js"
  echo "time|$work/venv/bin/mcp-server-time|--local-timezone UTC"
}

# A server's section of a gateway.toml: server_toml NAME COMMAND ARGUMENTS
server_toml() {
  printf '[servers.%s]\ncommand = "%s"\n' "$1" "$2"
  # shellcheck disable=SC2086 # the arguments, one by one
  printf 'args = [%s]\n' "$(printf '"%s", ' $3)"
  printf 'env = { MEMORY_FILE_PATH = "%s" }\n' "$work/memory.json"
}

servers() {
  local name command arguments toml total=$work/servers.out
  build_gateway
  : >"$total"
  while IFS='|' read -r name command arguments; do
    toml=$work/$name.toml
    rm -rf "$work/files" "$work/memory.json" "$work/everything.sent"
    mkdir -p "$work/files"
    server_toml "$name" "$command" "$arguments" >"$toml"
    start "$work/$name.log" "$gateway" --config "$toml" --listen 127.0.0.1:0
    "$work/venv/bin/python" "$here/servers.py" "$name" "$url" "$work/files" | tee -a "$total" || ended_badly "$total"
    stop_started
  done < <(server_list "$work/everything.sent"; calc_server)
  roots "$total"
  restarted "$total"
  tally "$total"
}

# A server whose answers can hold half of an emoji, as JavaScript's strings can.
calc_server() {
  echo "calc|$(command -v node)|$work/node_modules/@coo-quack/calc-mcp/dist/index.js"
}

# The filesystem server without arguments, by itself and beside another: roots TOTAL
roots() {
  local python=$work/venv/bin/python name command arguments
  rm -rf "$work/roots"
  mkdir -p "$work/roots"
  server_list | while IFS='|' read -r name command arguments; do
    case $name in
      filesystem) server_toml "$name" "$command" "${arguments% *}" | tee "$work/roots/alone.toml" ;;
      time) server_toml "$name" "$command" "$arguments" ;;
    esac
  done >"$work/roots/beside.toml"
  for name in alone beside; do
    start "$work/roots/$name.log" "$gateway" --config "$work/roots/$name.toml" --listen 127.0.0.1:0
    "$python" "$here/roots.py" "$name" http "$work/roots" "$url" | tee -a "$1" || ended_badly "$1"
    stop_started
    "$python" "$here/roots.py" "$name" stdio "$work/roots" "$gateway" "$work/roots/$name.toml" \
      2>>"$work/roots/$name.log" | tee -a "$1" || ended_badly "$1"
  done
}

# The everything server over HTTP, restarted while clients have sessions: restarted TOTAL
restarted() {
  local python=$work/venv/bin/python mode port everything
  everything=$work/node_modules/@modelcontextprotocol/server-everything/dist/index.js
  port=$("$python" -c 'import socket
with socket.create_server(("127.0.0.1", 0)) as listener:
  print(listener.getsockname()[1])')
  printf '[servers.everything]\nurl = "http://127.0.0.1:%s/mcp"\n' "$port" >"$work/restart.toml"
  for mode in legacy 2026-07-28; do
    start "$work/restart.log" "$gateway" --config "$work/restart.toml" --listen 127.0.0.1:0
    "$python" "$here/restart.py" "$mode" "$url" "$port" \
      "$(command -v node)" "$everything" streamableHttp | tee -a "$1" || ended_badly "$1"
    stop_started
  done
}

clients() {
  local total=$work/clients.out python=$work/venv/bin/python
  build_gateway
  : >"$total"
  start "$work/clients.log" "$gateway" --listen 127.0.0.1:0
  # The TypeScript SDK is looked for from where the script is, and it is installed below $work.
  cp "$here/checks.mjs" "$here/clients.mjs" "$work/"
  "$python" "$here/clients.py" http "$url" | tee -a "$total" || ended_badly "$total"
  "$python" "$here/clients.py" stdio "$gateway" | tee -a "$total" || ended_badly "$total"
  node "$work/clients.mjs" http "$url" | tee -a "$total" || ended_badly "$total"
  node "$work/clients.mjs" stdio "$gateway" | tee -a "$total" || ended_badly "$total"
  stop_started
  tally "$total"
}

# A driver that ended with an error, and not because of a failed check, is a failure itself. ended_badly TOTAL
ended_badly() {
  grep -q '^FAIL ' "$1" || echo "FAIL driver it ended with an error" | tee -a "$1"
}

# Closes a stage whose scripts print `ok NAME` and `FAIL NAME WHY`.
tally() {
  local passed failed
  passed=$(grep -c '^ok ' "$1" || true)
  failed=$(grep -c '^FAIL ' "$1" || true)
  echo "$passed passed, $failed failed"
  ((passed > 0 && failed == 0))
}
