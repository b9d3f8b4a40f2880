#!/usr/bin/env bash
# Installs the wheel in `dist` in an environment of its own, and runs a pipeline in each language with it: as somebody would who has
# nothing of this repository.
set -euo pipefail

wheels=("$(realpath "${1:-dist}")"/deltaworks-*.whl)
home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
"${PYTHON:-python3.11}" -m venv "$home/venv"
"$home/venv/bin/pip" install --quiet --disable-pip-version-check "${wheels[-1]}"
cd "$home"

for language in sql python; do
    with_wheel() { env -i HOME="$home" PATH="$home/venv/bin:/usr/bin:/bin" deltaworks "$@"; }
    with_wheel init "shop_$language" --language "$language" >/dev/null
    with_wheel run "shop_$language"
    found=$(with_wheel sql "shop_$language" "SELECT * FROM gold_customers ORDER BY customer" --format csv)
    expected=$'customer,orders,spent,last_order\nAda,2,19.75,2026-01-06\nGrace,1,80.00,2026-01-05'
    if [ "$found" != "$expected" ]; then
        printf 'the wheel: a pipeline in %s gave\n%s\ninstead of\n%s\n' "$language" "$found" "$expected" >&2
        exit 1
    fi
done
echo "the wheel ${wheels[-1]##*/} runs"
