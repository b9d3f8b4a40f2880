#!/usr/bin/env bash
# Runs examples/medallion in a copy, twice, with one more file of orders in between.
set -euo pipefail
cd "$(dirname "$0")/.."

binary=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp -r examples/medallion "$work/medallion"
rm -rf "$work/medallion/.deltaworks"
cd "$work/medallion"

say() { printf '\n\033[1m$ %s\033[0m\n' "$*"; }

say "deltaworks run    # the first time: everything is new"
"$binary" run
cat > data/orders/2026-03.json <<'ORDERS'
{"order_id": 9001, "customer_id": 1, "total_amount": "19.90", "order_timestamp": "2026-03-01T08:00:00"}
{"order_id": 9002, "customer_id": 2, "total_amount": "-5.00", "order_timestamp": "2026-03-01T08:05:00"}
ORDERS
say "deltaworks run    # one file of two orders arrived since; one of them is wrong"
"$binary" run
