# Delegation: real agents registered without a login, the conformance suite's scenarios of tasks through the layer,
# and real clients that run plans which take longer than they wait.

# The versions of the agents. Each has some hundred megabytes, so only this stage installs them.
agent_packages=(@openai/codex@0.153.4 @anthropic-ai/claude-code@2.1.332)

# The scenarios of tasks, and how many checks of each pass against plain rmcp.
task_scenarios=(
  tasks-lifecycle tasks-capability-negotiation tasks-wire-fields tasks-request-state-removal
  tasks-mrtr-input tasks-request-headers tasks-dispatch-and-envelope tasks-status-notifications
  tasks-required-task-error tasks-mrtr-composition
)

serve_delegate() {
  start "$1.log" "$target/conformance_server" --delegate
}

delegate() {
  local total=$work/delegate.out
  cargo build --quiet --manifest-path "$root/Cargo.toml" -p rmcp-layers-interop --bins
  : >"$total"
  rm -rf "$work/delegate"
  mkdir -p "$work/delegate"
  registered_agents "$total"
  tasks_through_the_layer "$total"
  long_plans "$total"
  tally "$total"
}

# Registers each agent with its mapping, and with one that does not fit its tool: registered_agents TOTAL
registered_agents() {
  local agents=$work/agents codex claude wanted
  wanted=$(printf '%s\n' "${agent_packages[@]}")
  if [[ $(cat "$agents/installed" 2>/dev/null) != "$wanted" ]]; then
    mkdir -p "$agents"
    echo '{ "private": true }' >"$agents/package.json"
    timeout 10m npm install --prefix "$agents" --no-audit --no-fund --loglevel=error \
      "${agent_packages[@]}"
    echo "$wanted" >"$agents/installed"
  fi
  codex=$agents/node_modules/.bin/codex
  claude=$(echo "$agents"/node_modules/@anthropic-ai/claude-code-linux-*/claude)
  registers "$1" codex registered "$codex" mcp-server
  registers "$1" codex-misfit 'is not one of' "$codex" mcp-server
  registers "$1" execute-task 'has no tool `execute_task`' "$codex" mcp-server
  registers "$1" claude-code registered "$claude" mcp serve
  registers "$1" claude-code-misfit "'task' was unexpected" "$claude" mcp serve
}

# registers TOTAL MAPPING SAYS COMMAND...: in a home of its own, without a login.
registers() {
  local total=$1 mapping=$2 says=$3 home=$work/delegate/home said
  shift 3
  mkdir -p "$home"
  said=$(HOME=$home CODEX_HOME=$home timeout 60 "$target/delegate_server" register "$mapping" "$@" \
    2>>"$work/delegate/agents.log") || true
  if [[ $said == *"$says"* ]]; then
    echo "ok register $mapping"
  else
    echo "FAIL register $mapping: it says $(tr '\n' ' ' <<<"$said")"
  fi | tee -a "$total"
}

# Plays the scenarios of tasks against the fixtures, bare and under the layer: tasks_through_the_layer TOTAL
tasks_through_the_layer() {
  local results=$work/delegate/results columns=(bare delegate) runs
  mkdir -p "$results"
  runs=$(printf -- '--scenario %s;' "${task_scenarios[@]}")
  play_row "tasks | 44 | 0.2 | ${runs%;}"
  if python3 "$here/compare.py" "$results" "${columns[@]}" | tee "$work/delegate/tasks"; then
    echo "ok the scenarios of tasks"
  else
    echo "FAIL the scenarios of tasks: see $work/delegate/tasks"
  fi | tee -a "$1"
}

# Plans that take longer than a client's timeout, over HTTP and stdio: long_plans TOTAL
long_plans() {
  local server=$target/delegate_server python=$work/venv/bin/python
  # The TypeScript SDK is looked for from where the script is, and it is installed below $work.
  cp "$here/checks.mjs" "$here/delegate.mjs" "$work/"
  start "$work/delegate/server.log" "$server"
  "$python" "$here/delegate/clients.py" http "$url" | tee -a "$1" || ended_badly "$1"
  node "$work/delegate.mjs" http "$url" | tee -a "$1" || ended_badly "$1"
  stop_started
  "$python" "$here/delegate/clients.py" stdio "$server" 2>>"$work/delegate/server.log" |
    tee -a "$1" || ended_badly "$1"
  node "$work/delegate.mjs" stdio "$server" | tee -a "$1" || ended_badly "$1"
}
