# A gateway that is told to stop while calls are in flight, over HTTP and over stdio, and what becomes of the
# processes it started.

shutdown() {
  local total=$work/shutdown.out everything=$work/node_modules/@modelcontextprotocol/server-everything
  build_gateway
  "$work/venv/bin/python" "$here/shutdown.py" "$gateway" "$work" "$(command -v node)" \
    "$everything/dist/index.js" | tee "$total" || ended_badly "$total"
  python3 "$here/ending.py" "$gateway" "$work" | tee -a "$total" || ended_badly "$total"
  tally "$total"
}
