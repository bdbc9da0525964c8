# What the stages need, installed below $work, once.

install() {
  mkdir -p "$work"
  command -v npm >/dev/null || from_apt nodejs npm
  python3 -c 'import ensurepip, venv' 2>/dev/null || from_apt python3 python3-venv
  local wanted
  wanted=$(printf '%s\n' "${npm_packages[@]}")
  if [[ $(cat "$work/npm.installed" 2>/dev/null) != "$wanted" ]]; then
    echo '{ "private": true }' >"$work/package.json"
    # The node that runs npm may be older than the one the packages run on.
    timeout 10m \
      npm install --prefix "$work" --no-audit --no-fund --loglevel=error "${npm_packages[@]}"
    echo "$wanted" >"$work/npm.installed"
  fi
  wanted=$(printf '%s\n' "${pip_packages[@]}")
  if [[ $(cat "$work/pip.installed" 2>/dev/null) != "$wanted" ]]; then
    python3 -m venv "$work/venv"
    timeout 10m \
      "$work/venv/bin/pip" install --quiet --disable-pip-version-check "${pip_packages[@]}"
    echo "$wanted" >"$work/pip.installed"
  fi
  PATH=$(echo "$work"/node_modules/node-linux-*/bin):$PATH
}

from_apt() {
  [[ $(id -u) == 0 ]] || fail "please install: $*"
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -qq -y "$@" >/dev/null
}
