# The gateway's metrics, traces and status page, and progress to clients that lose it right before a result.

metrics() {
  local total=$work/metrics.out
  command -v chromium >/dev/null || from_apt chromium
  build_gateway
  rm -rf "$work/metrics"
  mkdir -p "$work/metrics"
  "$work/venv/bin/python" "$here/metrics/main.py" "$gateway" "$work/metrics" "$(command -v chromium)" |
    tee "$total" || ended_badly "$total"
  printf '[progress]\n[servers.demo]\ncommand = "%s"\nargs = ["--stdio"]\n' "$gateway" >"$work/metrics/stdio.toml"
  # Packages are found from the script's own folder up.
  mkdir -p "$work/metrics/scripts"
  cp "$here/metrics/progress.mjs" "$work/metrics/scripts"
  cp "$here/checks.mjs" "$work/metrics"
  node "$work/metrics/scripts/progress.mjs" "$gateway" "$work/metrics/stdio.toml" |
    tee -a "$total" || ended_badly "$total"
  tally "$total"
}
