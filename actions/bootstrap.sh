#!/bin/bash -p
# Finds a Python that is new enough and hands over to bootstrap.py. Called by each action with its name.
# The search goes by fixed folders, never by the PATH that an earlier step may have changed.
set -euo pipefail
unset BASH_ENV ENV LD_AUDIT LD_LIBRARY_PATH LD_PRELOAD
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)

shopt -s nullglob
candidates=(/usr/local/bin/python3.{14,13,12,11} /usr/bin/python3.{14,13,12,11} /usr/local/bin/python3 /usr/bin/python3
  /opt/homebrew/bin/python3 "${RUNNER_TOOL_CACHE:-/opt/hostedtoolcache}"/Python/3.1[1-9].*/*/bin/python3)
for python in "${candidates[@]}"; do
  if [ -x "$python" ] && "$python" -I -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    exec "$python" -I "$here/bootstrap.py" "$@"
  fi
done

echo "::error title=fac-backup::This runner has no Python 3.11 or newer in /usr/bin, /usr/local/bin or its tool cache. Nothing was changed. Use a newer image (ubuntu-24.04 has one), or run actions/setup-python before this step." >&2
echo "exit-code=1" >> "${GITHUB_OUTPUT:-/dev/null}"
exit 1
