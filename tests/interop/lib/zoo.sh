# Real servers of many kinds, each with and without the gateway in front of it, compared.

# Installed below $work/zoo, beside those that other stages use too. Their install scripts do not
# run: none is needed.
zoo_npm=(
  @modelcontextprotocol/server-sequential-thinking@2026.8.31
  @allpepper/memory-bank-mcp@0.2.2
  @itseasy21/mcp-knowledge-graph@1.0.7
  mcp-git@0.0.4
  mcp-sequentialthinking-tools@0.0.3
  mcp-server-commands@0.5.0
  mcp-server-filesystem@0.6.2
)
# Servers of the SDK's second and of its first major version, and one without an SDK, whose modules
# clash with the SDK's.
zoo_pip_2=(
  mcp==2.3.0
  fastmcp==4.2.3
  fastmcp-sample-server==0.4.1
  mcp-server-git==2026.10.19
  mcp-server-fetch==2026.10.24
)
zoo_pip_1=(
  mcp==1.30.0
  mcp-server-sqlite==2025.4.25
  color-mcp-server==0.1.0
  date-calculator-ai-mcp==1.0.11
)
zoo_pip_alone=crosstalk-mcp-server==1.1.10

zoo() {
  local total=$work/zoo.out failed=0
  install_zoo
  build_gateway
  timeout --kill-after=10s 10m \
    "$work/venv/bin/python" "$here/zoo/main.py" "$gateway" "$work" "$(command -v node)" |
    tee "$total" || failed=1
  # A run that was cut short has lines for some servers only.
  tally "$total" && ((failed == 0))
}

install_zoo() {
  local wanted
  wanted=$(printf '%s\n' "${zoo_npm[@]}" "${zoo_pip_2[@]}" "${zoo_pip_1[@]}" "$zoo_pip_alone")
  [[ $(cat "$work/zoo.installed" 2>/dev/null) != "$wanted" ]] || return 0
  command -v git >/dev/null || from_apt git
  mkdir -p "$work/zoo"
  echo '{ "private": true }' >"$work/zoo/package.json"
  timeout 5m npm install --prefix "$work/zoo" --ignore-scripts --no-audit --no-fund \
    --loglevel=error "${zoo_npm[@]}"
  install_venv "$work/venv2" "${zoo_pip_2[@]}"
  install_venv "$work/venv1" "${zoo_pip_1[@]}"
  rm -rf "$work/zoo/crosstalk"
  timeout 5m "$work/venv1/bin/pip" install --quiet --disable-pip-version-check --no-deps \
    --target "$work/zoo/crosstalk" "$zoo_pip_alone"
  echo "$wanted" >"$work/zoo.installed"
}

# install_venv AT PACKAGE...
install_venv() {
  local at=$1
  shift
  python3 -m venv "$at"
  timeout 5m "$at/bin/pip" install --quiet --disable-pip-version-check "$@"
}
