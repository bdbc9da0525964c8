# Results that a gateway with [budget] has cut, in front of clients that check them, and a large file of a real
# server that is read page by page.

budget() {
  local total=$work/budget.out python=$work/venv/bin/python misfit file=$work/budget/large.txt
  build_gateway
  : >"$total"
  rm -rf "$work/budget"
  mkdir -p "$work/budget"
  # The TypeScript SDK is looked for from where the script is, and it is installed below $work.
  cp "$here/checks.mjs" "$here/budget.mjs" "$work/"
  for misfit in tool_error drop_structured; do
    {
      server_toml results "$python" "$here/budget/results.py"
      printf '[budget]\ntotal_tokens = 10000000\nmax_fraction = 0.001\n'
      printf 'on_schema_misfit = "%s"\n' "$misfit"
    } >"$work/budget/$misfit.toml"
    start "$work/budget/$misfit.log" "$gateway" --config "$work/budget/$misfit.toml" \
      --listen 127.0.0.1:0
    "$python" "$here/budget/clients.py" "$url" "$misfit" | tee -a "$total" || ended_badly "$total"
    node "$work/budget.mjs" "$url" "$misfit" | tee -a "$total" || ended_badly "$total"
    stop_started
  done
  {
    server_toml files "$(command -v node)" \
      "$work/node_modules/@modelcontextprotocol/server-filesystem/dist/index.js $work/budget"
    printf '[budget]\ntotal_tokens = 128000\nmax_fraction = 0.3\npage_tokens = 4000\n'
  } >"$work/budget/files.toml"
  "$python" "$here/budget/files.py" "$gateway" "$work/budget/files.toml" "$file" \
    2>"$work/budget/files.log" | tee -a "$total" || ended_badly "$total"
  tally "$total"
}
