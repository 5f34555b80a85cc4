#!/usr/bin/env bash
# What `make demo` runs: fetch the starter's language model, index the demo collection, search it with words, a picture
# and a sound, and measure Recall@k. TRIMODAL is the program, DEMO the folder for the collection.
set -euo pipefail
trimodal=${TRIMODAL:-trimodal}
demo=${DEMO:-.demo}
here=$(cd "$(dirname "$0")" && pwd)
data=${here#"$PWD"/}

say() { printf '\n\033[1m$ trimodal %s\033[0m\n' "$*"; }
run() { say "$@"; "$trimodal" "$@"; }

run models pull starter
run index "$data/manifest.jsonl" --collection "$demo"
@QUERIES@
run bench "$data/manifest.jsonl"
printf '\nThe collection is in %s. Try: %s search "a yellow bird" --collection %s\n' "$demo" "$trimodal" "$demo"
