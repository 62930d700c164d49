#!/usr/bin/env bash
# The README's first command: the mission, step by step.
# timeout: 180
source "$(dirname "$0")/../lib/e2e.sh"

need_root
lab demo
